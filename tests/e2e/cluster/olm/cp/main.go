// Command cp copies one file with its mode: what OLM asks of its image of utilities (`cp -Rv FROM TO`) when it
// unpacks a bundle. Options are accepted and make no difference.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	paths := os.Args[1:]
	for len(paths) > 0 && strings.HasPrefix(paths[0], "-") {
		paths = paths[1:]
	}
	if len(paths) != 2 {
		fmt.Fprintln(os.Stderr, "usage: cp FROM TO")
		os.Exit(2)
	}
	if err := cp(paths[0], paths[1]); err != nil {
		fmt.Fprintln(os.Stderr, "cp:", err)
		os.Exit(1)
	}
}

func cp(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}
