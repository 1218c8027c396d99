package app

import (
	"context"
	"io"
	"slices"
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
	p := new(process)
	closed := false
	err := p.build(t.Context(), map[string]module{
		"a": {make: func(_ context.Context, p *process) error {
			p.closers = append(p.closers, func() error { closed = true; return nil })
			return nil
		}},
		"b": {needs: []string{"a"}, make: func(context.Context, *process) error { return io.ErrUnexpectedEOF }},
	}, "b")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "b:")
	require.True(t, closed)
}
