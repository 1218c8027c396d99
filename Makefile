# The four commands that matter: make up, make demo, make test, make bench.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# dev/setup has few dependencies, so it compiles within seconds. It builds the
# programs, stripped, and with --parts obtains the third-party parts beside them.
SETUP := go run -trimpath ./services/dev/setup
PROGRAMS := bin/relay-dev=./services/cmd/relay-dev bin/relay=./services/cmd/relay \
	bin/relay-verify=./services/cmd/relay-verify,static bin/relay-loadtest=./loadtest/cmd/relay-loadtest

.PHONY: help build up demo test crash bench lint generate generate-check architecture tools clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

build: ## build bin/relay, bin/relay-dev, bin/relay-verify and bin/relay-loadtest
	@$(SETUP) $(PROGRAMS)

up: ## run the whole stack on loopback, until Ctrl-C (ARGS="--help" for more)
	@$(SETUP) $(if $(ARGS),,--parts up) $(PROGRAMS)
	@exec bin/relay-dev up $(ARGS)

demo: ## the main job end to end on real media and a real shell; exit 0 only if every check passed
	@$(SETUP) $(if $(ARGS),,--parts demo) $(PROGRAMS)
	@bin/relay-dev demo $(ARGS)

test: ## obtain what the tests need, run all of them with -race, and sum up
	@.ci/test $(ARGS)

SEED ?= 1
RUNS ?= 60
MAX ?= 60
FIRST ?= 0
crash: ## required recordings and sessions on two replicas under seeded faults of up to MAX seconds (SEED, RUNS, MAX, FIRST)
	@cd services && RELAY_CRASH_SEED=$(SEED) RELAY_CRASH_RUNS=$(RUNS) RELAY_CRASH_MAX=$(MAX) RELAY_CRASH_FIRST=$(FIRST) \
		go test -trimpath -count=1 -timeout 6h -p 1 -parallel $${PARALLEL:-3} -run 'TestCrash$$' -v ./recording ./connection

bench: build ## measure; prints a table and writes bench/results.json
	@.ci/bench $(ARGS)

lint: tools ## buf, golangci-lint, govulncheck, tidy, generated code and pictures
	@.ci/lint

generate: tools ## regenerate gen/ and proto/third_party
	@.ci/generate

generate-check: tools ## fail if generated code differs from what the protos give
	@.ci/generate --check

architecture: ## redraw docs/pictures/packages.svg from the code
	@go run ./services/dev/architecture

tools:
	@.ci/install-tools

clean: ## remove what a run left in this clone (not the shared cache)
	@rm -rf .local bin
