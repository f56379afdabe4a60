package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// definition is one kind, ready to check objects of it.
type definition struct {
	structural *structuralschema.Structural
	schema     schemavalidation.SchemaValidator
	rules      *cel.Validator
}

// definitions reads the definitions of a directory by kind, and checks them as an API server does
// when they are created: structure, defaults, and the cost of their rules.
func definitions(dir string) (map[string]definition, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("%s: no definition (%v)", dir, err)
	}
	found := map[string]definition{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var written apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &written); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		apiextensionsv1.SetObjectDefaults_CustomResourceDefinition(&written)
		var crd apiextensions.CustomResourceDefinition
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&written, &crd, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for i := range crd.Spec.Versions {
			// What the registry's strategy fills in before it validates.
			if crd.Spec.Versions[i].Storage {
				crd.Status.StoredVersions = []string{crd.Spec.Versions[i].Name}
			}
		}
		if errs := crdvalidation.ValidateCustomResourceDefinition(context.Background(), &crd); len(errs) > 0 {
			return nil, fmt.Errorf("%s: %w", path, errs.ToAggregate())
		}
		schema, err := apiextensions.GetSchemaForVersion(&crd, crd.Spec.Versions[0].Name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		structural, err := structuralschema.NewStructural(schema.OpenAPIV3Schema)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		validator, _, err := schemavalidation.NewSchemaValidator(schema.OpenAPIV3Schema)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		found[crd.Spec.Names.Kind] = definition{
			structural: structural,
			schema:     validator,
			rules:      cel.NewValidator(structural, true, celconfig.PerCallLimit),
		}
		fmt.Printf("%s: an API server takes it\n", path)
	}
	return found, nil
}

// check is what an API server does with a new object: prune, default, and validate.
func (d definition) check(object map[string]interface{}) field.ErrorList {
	pruning.Prune(object, d.structural, true)
	defaulting.PruneNonNullableNullsWithoutDefaults(object, d.structural)
	defaulting.Default(object, d.structural)
	errs := schemavalidation.ValidateCustomResource(nil, object, d.schema)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.structural, object)...)
	if len(errs) > 0 {
		return errs
	}
	errs, _ = d.rules.Validate(context.Background(), nil, d.structural, object, nil, celconfig.RuntimeCELCostBudget)
	return errs
}

// objects checks the cases of one file: `{name, object, refused}`, where `refused` is a part of the
// expected message and empty for what is taken.
func objects(dir, path string) error {
	known, err := definitions(dir)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var cases []struct {
		Name    string                 `json:"name"`
		Object  map[string]interface{} `json:"object"`
		Refused string                 `json:"refused"`
	}
	// Whole numbers become int64, as in an API server.
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := utiljson.Unmarshal(asJSON, &cases); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	wrong := 0
	for _, one := range cases {
		kind, _ := one.Object["kind"].(string)
		definition, ok := known[kind]
		if !ok {
			return fmt.Errorf("%s: %q: no definition of kind %q", path, one.Name, kind)
		}
		answer := ""
		if errs := definition.check(one.Object); len(errs) > 0 {
			answer = errs.ToAggregate().Error()
		}
		if (one.Refused == "") != (answer == "") || !strings.Contains(answer, one.Refused) {
			fmt.Fprintf(os.Stderr, "%s: %q: expected %q, found %q\n", path, one.Name, one.Refused, answer)
			wrong++
		}
	}
	if len(cases) == 0 || wrong > 0 {
		return fmt.Errorf("%s: %d of %d cases are not as written", path, wrong, len(cases))
	}
	fmt.Printf("%s: %d cases\n", path, len(cases))
	return nil
}
