package app

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheGraphHasAnOrder(t *testing.T) {
	names, err := order(graph(), serviceNames()...)
	require.NoError(t, err)
	for _, name := range names {
		for _, need := range graph()[name].needs {
			require.Less(t, slices.Index(names, need), slices.Index(names, name), "%s before %s", need, name)
		}
	}
	names, err = order(graph(), "turn")
	require.NoError(t, err)
	require.NotContains(t, names, "capture", "only what is needed")
}

func TestGraphsThatCannotBe(t *testing.T) {
	_, err := order(map[string]module{"a": {needs: []string{"b"}}, "b": {needs: []string{"a"}}}, "a")
	require.ErrorContains(t, err, "need each other")
	_, err = order(map[string]module{"a": {needs: []string{"ghost"}}}, "a")
	require.ErrorContains(t, err, "ghost")
}

func TestABrokenBuildIsTakenDownAgain(t *testing.T) {
	b := newBuilder(Default(), Options{})
	closed := false
	err := b.modules(t.Context(), map[string]module{
		"a": {make: func(_ context.Context, b *builder, _ *products) error {
			b.closer(func() error { closed = true; return nil })
			return nil
		}},
		"b": {needs: []string{"a"}, make: func(context.Context, *builder, *products) error { return io.ErrUnexpectedEOF }},
	}, new(products), "b")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "b:")
	require.True(t, closed)
}

// The table says who needs whom, and the compiler cannot check it: a module
// that uses a product without needing its module would find it nil in some
// choices of --services.
func TestModulesUseExactlyWhatTheyNeed(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "graph.go", nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	uses := make(map[string][]string)
	ast.Inspect(file, func(n ast.Node) bool {
		entry, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		key, ok := entry.Key.(*ast.BasicLit)
		if !ok {
			return true
		}
		name, err := strconv.Unquote(key.Value)
		require.NoError(t, err)
		uses[name] = []string{}
		ast.Inspect(entry.Value, func(n ast.Node) bool {
			field, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if of, ok := field.X.(*ast.Ident); ok && of.Name == "p" && field.Sel.Name != name {
				uses[name] = append(uses[name], field.Sel.Name)
			}
			return true
		})
		return false
	})
	require.Len(t, uses, len(graph()))
	for name, m := range graph() {
		require.ElementsMatch(t, m.needs, uses[name], name)
	}
}
