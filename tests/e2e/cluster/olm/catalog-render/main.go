// Command catalog-render renders a semver template of a catalog as `opm alpha render-template` does, but
// with bundles that lie in directories: opm takes them from an image registry only.
//
//	catalog-render TEMPLATE IMAGE=DIR …
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/template"

	"github.com/operator-framework/operator-registry/alpha/action"
	"github.com/operator-framework/operator-registry/alpha/action/migrations"
	"github.com/operator-framework/operator-registry/alpha/declcfg"
	templates "github.com/operator-framework/operator-registry/alpha/template"
)

func main() {
	if err := render(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "catalog-render:", err)
		os.Exit(1)
	}
}

func render(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: catalog-render TEMPLATE IMAGE=DIR …")
	}
	dirs := map[string]string{}
	for _, arg := range args[1:] {
		image, dir, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not IMAGE=DIR", arg)
		}
		dirs[image] = dir
	}
	migrate, err := migrations.NewMigrations(migrations.AllMigrations)
	if err != nil {
		return err
	}
	bundle := func(ctx context.Context, image string) (*declcfg.DeclarativeConfig, error) {
		dir, ok := dirs[image]
		if !ok {
			return nil, fmt.Errorf("no directory is given for %s", image)
		}
		name, err := template.New("image").Parse(image)
		if err != nil {
			return nil, err
		}
		return action.Render{
			Refs:             []string{dir},
			AllowedRefMask:   action.RefBundleDir,
			ImageRefTemplate: name,
			Migrations:       migrate,
		}.Run(ctx)
	}
	file, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	made, reader, err := templates.NewRegistry().CreateTemplateBySchema(file, bundle)
	if err != nil {
		return err
	}
	catalog, err := made.Render(context.Background(), reader)
	if err != nil {
		return err
	}
	return declcfg.WriteYAML(*catalog, os.Stdout)
}
