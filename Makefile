# The four things one does here: make up, make demo, make test, make bench.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bp-relay
RELAY := bin/relay

.PHONY: help build up demo test bench lint generate generate-check tools clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

build: ## build bin/relay and bin/relay-loadtest
	@go build -trimpath -o $(RELAY) ./services/cmd/relay
	@go build -trimpath -o bin/relay-loadtest ./loadtest/cmd/relay-loadtest

up: build ## start the whole stack on loopback, until Ctrl-C (ARGS="--help" for more)
	@exec $(RELAY) up $(ARGS)

demo: build ## the main job end to end on real media and a real shell; exit 0 only if all of it held
	@$(RELAY) demo $(ARGS)

test: ## set up what the tests need, run all of them with -race, and sum up
	@.ci/test $(ARGS)

bench: build ## measure; prints a table and writes bench/results.json
	@.ci/bench $(ARGS)

lint: tools ## buf, golangci-lint, govulncheck, tidy, generated code
	@.ci/lint

generate: tools ## regenerate gen/ and proto/third_party
	@.ci/generate

generate-check: tools ## fail when generated code is not what the protos give
	@.ci/generate --check

tools:
	@.ci/install-tools

clean: ## remove what a run left in this clone (not the shared cache)
	@rm -rf .local bin
