package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openova-io/bp-relay/services/dev/process"
)

// prefix begins the import path of each package of this repository.
const prefix = "github.com/openova-io/bp-relay/"

// pkg is a package with those of its imports that are in this repository, both
// without the prefix. Imports of tests are left out.
type pkg struct {
	path    string
	imports []string
}

// list returns the clone's folder and the packages of all modules in go.work,
// sorted by path.
func list(ctx context.Context) (root string, pkgs []pkg, err error) {
	work, err := golang(ctx, "", "env", "GOWORK")
	if err != nil {
		return "", nil, err
	}
	file := strings.TrimSpace(work)
	if file == "" || file == "off" {
		return "", nil, errors.New("no go.work above this folder: run it in the clone")
	}
	root = filepath.Dir(file)
	modules, err := golang(ctx, root, "list", "-m")
	if err != nil {
		return "", nil, err
	}
	args := []string{"list", "-json=ImportPath,Imports"}
	for m := range strings.FieldsSeq(modules) {
		args = append(args, m+"/...")
	}
	out, err := golang(ctx, root, args...)
	if err != nil {
		return "", nil, err
	}
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", nil, fmt.Errorf("go list: %w", err)
		}
		one := pkg{path: strings.TrimPrefix(p.ImportPath, prefix)}
		for _, i := range p.Imports {
			if i, ok := strings.CutPrefix(i, prefix); ok {
				one.imports = append(one.imports, i)
			}
		}
		pkgs = append(pkgs, one)
	}
	slices.SortFunc(pkgs, func(a, b pkg) int { return strings.Compare(a.path, b.path) })
	return root, pkgs, nil
}

// golang runs the go command in a folder; "" is the current one.
func golang(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	return process.Output(ctx, cmd)
}
