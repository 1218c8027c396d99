package main

import (
	"fmt"
	"slices"
	"strings"
)

// area is a set of folders that one import rule is about. Packages of one of
// its folders may import each other, but not those of another of its folders.
type area struct {
	name    string
	folders []string
	may     []string // the folders that it may import besides
	rule    string   // in words, for who has broken it
}

// exception is an import that the rules forbid and that stays for a reason.
type exception struct{ from, to, why string }

// areas is design.md, "Who may import whom", as a table. A package belongs to
// the area with the longest folder that contains it.
func areas() []area {
	format := []string{"services/format"}
	stores := []string{"services/records", "services/bus", "services/blob"}
	internal := slices.Concat(format, stores, []string{"services/internal", "gen"})
	adapters := []string{"services/livekit", "services/rtc", "services/media", "services/capture", "services/job"}
	services := []string{
		"services/room", "services/event", "services/recording", "services/connection",
		"services/access", "services/turn", "services/evidence", "services/web",
	}
	verify := []string{"services/verify"}
	result, flow := []string{"loadtest/internal/result"}, []string{"loadtest/internal/flow"}
	participant := []string{"loadtest/internal/participant"}
	all := slices.Concat(internal, adapters, services, verify)
	return []area{
		{"gen", []string{"gen"}, nil, "gen is generated code only; it imports nothing else of this repository."},
		{"format", format, nil, "format imports nothing else of this repository: anyone can build it from its specification."},
		{"verify", verify, format, "verify imports only format: an auditor builds it without storage or network code."},
		{"stores", stores, format, "records, bus and blob import only format, and not each other."},
		{"internal", []string{"services/internal"}, internal, "internal imports only gen, format, records, bus and blob."},
		{"adapters", adapters, internal, "livekit, rtc, media, capture and job import only internal and what is below it, and not each other."},
		{"services", services, slices.Concat(internal, adapters), "A service never imports another service, only its client in gen."},
		{"app", []string{"services/app"}, all, "app imports the services and what is below them; nothing of dev."},
		{"dev", []string{"services/dev"}, slices.Concat(all, []string{"services/app"}), "dev imports app and the services; no command and not the load tester."},
		{"cmd/relay", []string{"services/cmd/relay"}, []string{"services/app"}, "cmd/relay imports app, and never dev."},
		{"cmd/relay-dev", []string{"services/cmd/relay-dev"}, []string{"services/dev"}, "cmd/relay-dev imports only dev."},
		{"cmd/relay-verify", []string{"services/cmd/relay-verify"}, verify, "cmd/relay-verify imports only verify."},
		{"integration", []string{"services/integration"}, nil, "integration holds tests only."},
		{"loadtest", []string{"loadtest"},
			slices.Concat([]string{"gen", "services/format/printable", "services/rtc", "services/media", "services/dev"}, result, flow, participant),
			"loadtest imports only gen, services/format/printable, services/rtc, services/media and services/dev."},
		{"loadtest", result, nil, "loadtest's result imports nothing else of this repository, so neither report nor cli."},
		{"loadtest", flow, result, "loadtest's flow imports only result, so neither report nor cli."},
		{"loadtest", participant, slices.Concat(result, flow, []string{"loadtest/internal/clip", "services/rtc"}),
			"loadtest's participant imports only result, flow, clip and services/rtc, so neither report nor cli."},
		{"loadtest", []string{"loadtest/internal/bench"}, slices.Concat(all, []string{"services/dev", "loadtest"}),
			"bench imports what it measures, but no command and not app."},
		{"loadtest", []string{"loadtest/cmd/bench"}, []string{"loadtest/internal/bench"}, "cmd/bench imports only bench."},
		{"operator", []string{"deploy/operator"}, []string{"gen"}, "operator imports only gen."},
		{"sdk", []string{"sdk"}, []string{"gen"}, "sdk imports only gen."},
	}
}

// exceptions are the imports that stay although a rule forbids them. One that
// is no longer needed is an error, too.
func exceptions() []exception {
	guac := "the load tester speaks the Guacamole protocol as a browser and as guacd do, with the same parser"
	return []exception{
		{"services/rtc", "services/livekit/signal", "a participant joins a room by LiveKit's signalling, which only package livekit knows"},
		{"loadtest/internal/run", "services/livekit/signal", "a run asks LiveKit which TURN servers it names, before anybody joins"},
		{"loadtest/internal/desktop", "services/connection/guac", guac},
		{"loadtest/internal/guacd", "services/connection/guac", guac},
		{"loadtest/internal/tunnelload", "services/connection/guac", guac},
		{"loadtest/internal/work", "services/blob", "the workers of a run meet in an object store"},
		{"loadtest/internal/work", "services/blob/s3", "the workers of a run meet in an object store"},
		{"loadtest/internal/sut", "services/turn", "the load tester compiles the gateway that relay would, for a data plane without relay"},
		{"loadtest/internal/sut", "services/turn/cds", "the load tester serves a data plane its configuration, without relay"},
	}
}

// find returns the area that a package belongs to, and the folder by which it
// does.
func find(all []area, path string) (a area, folder string, ok bool) {
	for _, one := range all {
		for _, f := range one.folders {
			if within(path, f) && len(f) > len(folder) {
				a, folder, ok = one, f, true
			}
		}
	}
	return a, folder, ok
}

// within reports whether a package is in a folder.
func within(path, folder string) bool {
	rest, ok := strings.CutPrefix(path, folder)
	return ok && (rest == "" || rest[0] == '/')
}

// broken returns each import that breaks a rule, with the rule.
func broken(all []area, pkgs []pkg, allowed []exception) []string {
	var out []string
	used := make([]bool, len(allowed))
	for _, p := range pkgs {
		a, folder, ok := find(all, p.path)
		if !ok {
			out = append(out, p.path+" is in no area: add its folder to the table.")
			continue
		}
		for _, to := range p.imports {
			_, other, _ := find(all, to)
			if other == folder || slices.ContainsFunc(a.may, func(f string) bool { return within(to, f) }) {
				continue
			}
			if i := slices.IndexFunc(allowed, func(e exception) bool { return e.from == p.path && e.to == to }); i >= 0 {
				used[i] = true
				continue
			}
			out = append(out, fmt.Sprintf("%s imports %s. %s", p.path, to, a.rule))
		}
	}
	for i, e := range allowed {
		if !used[i] {
			out = append(out, fmt.Sprintf("%s does not import %s any more: remove the exception.", e.from, e.to))
		}
	}
	return out
}
