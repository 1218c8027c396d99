package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The import rules hold for every package of every module. Tests may import
// more.
func TestWhoImportsWhom(t *testing.T) {
	_, pkgs, err := list(t.Context())
	require.NoError(t, err)
	require.Greater(t, len(pkgs), 50)
	for _, sentence := range broken(areas(), pkgs, exceptions()) {
		t.Error(sentence)
	}
}

// Production's binary contains nothing of dev: no starter of servers and no
// development issuer.
func TestRelayLinksNothingOfDev(t *testing.T) {
	deps := func(command string) []string {
		out, err := golang(t.Context(), "", "list", "-deps", prefix+"services/cmd/"+command)
		require.NoError(t, err)
		return strings.Fields(out)
	}
	relay := deps("relay")
	require.Contains(t, relay, prefix+"services/app")
	for _, d := range relay {
		require.False(t, within(d, prefix+"services/dev"), "relay links %s", d)
	}
	require.Contains(t, deps("relay-dev"), prefix+"services/dev/stack")
}

// What a load test measures does not depend on how it is shown.
func TestLoadtestMeasuresWithoutReport(t *testing.T) {
	for _, from := range []string{"result", "flow", "participant"} {
		for _, to := range []string{"report", "cli"} {
			p := pkg{"loadtest/internal/" + from, []string{"loadtest/internal/" + to}}
			got := strings.Join(broken(areas(), []pkg{p}, nil), "\n")
			require.Contains(t, got, "so neither report nor cli.")
		}
	}
}

func TestBrokenRulesAreNamed(t *testing.T) {
	all := []area{
		{"low", []string{"a"}, nil, "a imports nothing."},
		{"high", []string{"b", "c"}, []string{"a"}, "b and c import only a."},
		{"high", []string{"b/x"}, []string{"a", "b"}, "b/x imports a and b."},
	}
	for name, c := range map[string]struct {
		pkg
		want string
	}{
		"its own folder":     {pkg{"b/y", []string{"b", "b/y/z"}}, ""},
		"a folder below":     {pkg{"b", []string{"a", "a/sub"}}, ""},
		"the longest folder": {pkg{"b/x/y", []string{"b"}}, ""},
		"a sibling folder":   {pkg{"b", []string{"c"}}, "b imports c. b and c import only a."},
		"a similar name":     {pkg{"a", []string{"ab"}}, "a imports ab. a imports nothing."},
		"into a subfolder":   {pkg{"b", []string{"b/x"}}, "b imports b/x. b and c import only a."},
		"no area":            {pkg{"d", nil}, "d is in no area: add its folder to the table."},
	} {
		t.Run(name, func(t *testing.T) {
			got := broken(all, []pkg{c.pkg}, nil)
			require.Equal(t, c.want, strings.Join(got, "\n"))
		})
	}
	p := []pkg{{"a", []string{"b"}}}
	require.Empty(t, broken(all, p, []exception{{"a", "b", "why"}}))
	require.Equal(t, []string{"a does not import c any more: remove the exception."}, broken(all, p, []exception{{"a", "b", "why"}, {"a", "c", "why"}}))
}
