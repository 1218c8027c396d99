package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// wrappedEOF are the files that may ask whether an error wraps io.EOF or
// io.ErrUnexpectedEOF.
func wrappedEOF() map[string]string {
	return map[string]string{
		"services/blob/s3/errors.go":                   "it classifies a failed request as one without an answer; it is no end of anything",
		"services/connection/engine/guacd/upstream.go": "a browser that is gone is gone, however it went",
		"services/connection/guac/handshake.go":        "an end in a handshake is an error, however it came",
		"services/dev/testmedia/make.go":               "a local file, whose length is checked",
		"services/dev/architecture/list.go":            "JSON in memory",
		"loadtest/internal/clip/read.go":               "a file in memory, whose frames are counted",
		"loadtest/internal/scenario/parse.go":          "YAML in memory",
		"loadtest/internal/result/schema.go":           "JSON in memory",
	}
}

// A connection that breaks off may wrap io.EOF or io.ErrUnexpectedEOF, as
// net/http's errors do. Who asks for the end with errors.Is takes it for a
// complete answer: ReadTrack answered OK with half a track. The end is io.EOF
// itself (see io.Reader).
func TestNobodyTakesABrokenConnectionForTheEnd(t *testing.T) {
	root, _, err := list(t.Context())
	require.NoError(t, err)
	allowed, used := wrappedEOF(), map[string]bool{}
	for _, module := range []string{"services", "loadtest"} {
		require.NoError(t, fs.WalkDir(os.DirFS(filepath.Join(root, module)), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			path = module + "/" + path
			files := token.NewFileSet()
			f, err := parser.ParseFile(files, filepath.Join(root, path), nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, is := n.(*ast.CallExpr); is && asksForEOF(call) {
					used[path] = true
					if allowed[path] == "" {
						t.Errorf("%s: compare with io.EOF itself, or say in wrappedEOF why an error that wraps it is the end, too", files.Position(n.Pos()))
					}
				}
				return true
			})
			return nil
		}))
	}
	for path := range allowed {
		require.True(t, used[path], "%s is no longer an exception: remove it", path)
	}
}

// asksForEOF reports whether the call is errors.Is with one of the two.
func asksForEOF(call *ast.CallExpr) bool {
	named := func(e ast.Expr, pkg string, names ...string) bool {
		sel, ok := e.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok || id.Name != pkg {
			return false
		}
		return slices.Contains(names, sel.Sel.Name)
	}
	return len(call.Args) == 2 && named(call.Fun, "errors", "Is") && named(call.Args[1], "io", "EOF", "ErrUnexpectedEOF")
}
