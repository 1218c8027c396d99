// Command architecture draws docs/pictures/packages.svg: the packages of this
// repository, grouped by area (the folders that one import rule is about), and
// the imports between the areas. It reads them from "go list", so the picture
// shows the code as it is. The package's test holds the import rules themselves.
//
// Run it from the clone with "make architecture". With --check it only compares
// and exits with 1 if the picture is not up to date.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stderr)) }

func run(ctx context.Context, args []string, stderr io.Writer) int {
	f := flag.NewFlagSet("architecture", flag.ContinueOnError)
	f.SetOutput(stderr)
	check := f.Bool("check", false, "compare with the file instead of writing it")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if err := draw(ctx, *check); err != nil {
		fmt.Fprintln(stderr, "architecture:", err)
		return 1
	}
	return 0
}

func draw(ctx context.Context, check bool) error {
	root, pkgs, err := list(ctx)
	if err != nil {
		return err
	}
	picture := svg(layOut(areaGraph(pkgs)))
	path := filepath.Join(root, "docs", "pictures", "packages.svg")
	if !check {
		return os.WriteFile(path, picture, 0o644)
	}
	drawn, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(drawn, picture) {
		return errors.New("docs/pictures/packages.svg is not up to date: run make architecture and commit")
	}
	return nil
}
