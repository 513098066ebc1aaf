# Every target but services runs with nothing installed but Go, and race and stress with a C compiler beside it. Lint builds
# its linter on first use; trial and soak use the servers that are installed.

GO           ?= go
FUZZTIME     ?= 10s
BENCHTIME    ?= 1s
TRIAL        ?= 2s
DURATION     ?= 10m
SEED         ?= 0
GOLANGCI     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK  := golang.org/x/vuln/cmd/govulncheck@v1.9.0
PLATFORMS    := linux/amd64 linux/arm64 darwin/arm64 windows/amd64
# The root and every module nested in it.
MODULES      := $(sort $(dir $(shell find . -name go.mod -not -path '*/.*/*')))

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## run the tests
	$(GO) test ./...

.PHONY: test-all
test-all: ## run the tests of every module, uncached
	@set -e; for m in $(MODULES); do echo "== $$m"; (cd $$m && $(GO) test -count=1 ./...); done

.PHONY: services
services: ## install the services that the tests of internal/e2e start; needs npm
	bash .ci/services

.PHONY: race
race: ## run the tests with the race detector, uncached
	$(GO) test -race -count=1 ./...

.PHONY: stress
stress: ## run the tests with the race detector 20 times in a row
	$(GO) test -race -count=20 -timeout=60m ./...

.PHONY: lint
lint: ## run golangci-lint, built from source on first use
	@set -e; dir="$$($(GO) env GOPATH)/thaw-lint/$(lastword $(subst @, ,$(GOLANGCI)))"; \
	test -x "$$dir/golangci-lint" || { echo "building $(GOLANGCI), some minutes"; GOBIN="$$dir" $(GO) install $(GOLANGCI); }; \
	config="$(CURDIR)/.golangci.yml"; \
	for m in $(MODULES); do echo "== $$m"; (cd $$m && "$$dir/golangci-lint" run --allow-parallel-runners --config "$$config" ./...); done

.PHONY: vuln
vuln: ## look the dependencies up in the Go vulnerability database
	@set -e; for m in $(MODULES); do echo "== $$m"; (cd $$m && $(GO) run $(GOVULNCHECK) ./...); done

.PHONY: fmt
fmt: ## format the code
	gofmt -w $$(find . -name '*.go' -not -path '*/.*/*')

.PHONY: vet-all
vet-all: ## vet every module for every platform that is supported
	@set -e; for m in $(MODULES); do for p in $(PLATFORMS); do \
		echo "== $$m $$p"; (cd $$m && GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 $(GO) vet ./...); done; done

.PHONY: bench
bench: ## measure the pool beside http.Transport, with the server in another process
	cd bench && $(GO) run .

.PHONY: gobench
gobench: ## run the Go benchmarks, for benchstat and profiles (BENCHTIME=1s)
	@set -e; for m in $(MODULES); do echo "== $$m"; (cd $$m && $(GO) test -run='^$$' -bench=. -benchmem -benchtime=$(BENCHTIME) ./...); done

.PHONY: fuzz
fuzz: ## run every fuzz target for a while (FUZZTIME=10s)
	@set -e; for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			echo "== $$p $$f"; $(GO) test -run='^$$' -fuzz="^$$f\$$" -fuzztime=$(FUZZTIME) $$p; done; done

.PHONY: mutate
mutate: ## break each rule of the pool in turn, and see whether its tests notice
	$(GO) test -count=1 -timeout=30m -v -run='^TestAMutationOfEachRuleIsNoticed$$' ./internal/pool -mutate

.PHONY: lab
lab: ## freeze a function, break its connections, and compare Go's client with thaw
	$(GO) run ./cmd/freezelab

.PHONY: trial
trial: ## put the pool on trial with the servers that are installed, and print the tables (TRIAL=2s each)
	THAW_TRIAL=$(TRIAL) $(GO) test -count=1 -timeout=60m -v -run='^Test(Servers|Proxies|Network)$$' ./internal/trial

.PHONY: soak
soak: ## use servers that come and go for long, at random (DURATION=10m SEED=0)
	$(GO) test -count=1 -timeout=0 -v -run='^TestSoak$$' ./internal/trial -soak=$(DURATION) -soak.seed=$(SEED)

.PHONY: size
size: ## what the pool and the client add to a stripped program
	$(GO) test -count=1 -v -run='^TestWhatIsAddedToAProgramIsBounded$$' .

.PHONY: tidy
tidy: ## check that go.mod lists what is imported, and nothing else
	$(GO) mod tidy -diff

.PHONY: ci
ci: ## everything that CI runs
	bash .ci/run
