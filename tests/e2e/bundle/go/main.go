// Checks what `cargo xtask gen` made with the code of those who will read it: OLM's validators and
// the API server's own checks of CustomResourceDefinitions and of objects. Errors and warnings both
// end it with 1.
//
//	bundle-check bundle DIR           all validators of a bundle that there are
//	bundle-check crds DIR             each *.yaml of DIR is a definition that an API server takes
//	bundle-check objects DIR CASES    each object of CASES is taken or refused as its case says
package main

import (
	"fmt"
	"os"

	"github.com/operator-framework/api/pkg/manifests"
	"github.com/operator-framework/api/pkg/validation"
	interfaces "github.com/operator-framework/api/pkg/validation/interfaces"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "bundle":
		return bundle(args[1])
	case len(args) == 2 && args[0] == "crds":
		_, err := definitions(args[1])
		return err
	case len(args) == 3 && args[0] == "objects":
		return objects(args[1], args[2])
	}
	return fmt.Errorf("usage: bundle-check bundle DIR | crds DIR | objects DIR CASES")
}

func bundle(dir string) error {
	read, err := manifests.GetBundleFromDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if read.CSV == nil || len(read.V1CRDs) == 0 {
		return fmt.Errorf("%s: no ClusterServiceVersion, or no CustomResourceDefinition", dir)
	}
	found := 0
	for name, validator := range map[string]interfaces.Validator{
		"default":         validation.DefaultBundleValidators,
		"capabilities":    validation.StandardCapabilitiesValidator,
		"categories":      validation.StandardCategoriesValidator,
		"community":       validation.CommunityOperatorValidator,
		"deprecated APIs": validation.AlphaDeprecatedAPIsValidator,
		"good practices":  validation.GoodPracticesValidator,
		"multiarch":       validation.MultipleArchitecturesValidator,
		"object":          validation.ObjectValidator,
		"operatorhub":     validation.OperatorHubV2Validator,
	} {
		given := []interface{}{read}
		if name == "object" {
			for _, object := range read.Objects {
				given = append(given, object)
			}
		}
		for _, result := range validator.Validate(given...) {
			for _, problem := range append(result.Errors, result.Warnings...) {
				fmt.Fprintf(os.Stderr, "%s: %s\n", name, problem.Error())
				found++
			}
		}
	}
	if found > 0 {
		return fmt.Errorf("%s: %d errors and warnings", dir, found)
	}
	fmt.Printf("%s: no error and no warning\n", dir)
	return nil
}
