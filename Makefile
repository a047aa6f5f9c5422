# make help lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null)
FUZZTIME  ?= 30s
TESTFLAGS ?=
BENCH     ?= .
ROUNDS    ?= 5
GOLANGCI  := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Programs that building and testing need, each with its Debian package, and
# those without which some tests skip.
NEEDED   := gcc:gcc ip:iproute2 tcpdump:tcpdump
OPTIONAL := clang-19:clang-19 wasm-ld-19:lld-19 tshark:tshark

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## compile bin/sfcctl
	$(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/sfcctl ./cmd/sfcctl

.PHONY: demo
demo: as-root deps build ## record real traffic, send it through the example chain over AF_XDP, account for every packet (as root)
	bin/sfcctl record --out bin/demo.pcapng
	bin/sfcctl replay --chain testbed/examples/edge.yaml --in bin/demo.pcapng --out bin/demo-out.pcapng --drops bin/demo-drops.pcapng
	@echo; echo "The packets are in bin/demo.pcapng, bin/demo-out.pcapng and, with reasons, bin/demo-drops.pcapng."

.PHONY: as-root
as-root:
	@if [ "$$(id -u)" != 0 ]; then echo "this makes network namespaces, which only root may: run it with sudo" >&2; exit 1; fi

.PHONY: test
test: deps ## run every test this machine can run; skipped ones are counted with reasons
	@$(GO) test -json -count=1 $(TESTFLAGS) ./... | $(GO) run ./testbed/testsum

.PHONY: race
race: deps ## the same tests with the race detector
	@$(GO) test -json -race -count=1 $(TESTFLAGS) ./... | $(GO) run ./testbed/testsum

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

.PHONY: bench
bench: ## run the benchmarks whose names match BENCH; the output suits benchstat
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: bench-stateful
bench-stateful: ## the stateful chain alone, on one core: at 1,000, 100,000 and a million flows, and new flows per second (ROUNDS times)
	$(GO) test -run '^$$' -bench '^BenchmarkStateful$$' -benchtime 20000000x -count $(ROUNDS) -timeout 120m ./testbed/bench
	$(GO) test -run '^$$' -bench '^BenchmarkCreate$$' -benchtime 4000000x -count $(ROUNDS) -timeout 60m ./testbed/bench

.PHONY: bench-workers
bench-workers: ## two workers against two processes of one, ROUNDS times in turn (on an idle machine)
	SFC_WORKERS=$(ROUNDS) $(GO) test -count=1 -timeout 60m -run '^TestTwoWorkers$$' -v ./testbed/bench

.PHONY: bench-holds
bench-holds: ## how long packets wait while flows move between workers and functions are replaced (on an idle machine)
	SFC_HOLDS=1000 $(GO) test -count=1 -timeout 60m -run '^TestHolds$$' -v ./testbed/bench

.PHONY: bench-peers
bench-peers: deps ## compare with dpdk-testpmd, Linux forwarding and nftables on veth, ROUNDS times in turn (as root, on an idle machine)
	@command -v dpdk-testpmd >/dev/null || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends dpdk-dev librte-net-af-xdp23; }
	@command -v nft >/dev/null || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nftables; }
	SFC_PEERS=$(ROUNDS) $(GO) test -count=1 -timeout 120m -run '^TestPeers$$' -v ./testbed/bench

.PHONY: generate
generate: ## make generated files again: eBPF objects, names of constants
	$(GO) generate ./...

.PHONY: lint
lint: ## go vet and golangci-lint
	$(GO) vet ./...
	$(GO) run $(GOLANGCI) run ./...

.PHONY: escape
escape: ## compile the files of dataplane/hotpath.txt and see that nothing in them moves to the heap
	$(GO) test -count=1 -run '^TestHotPathStaysOffHeap$$' .

.PHONY: format
format: ## gofmt all Go files
	gofmt -l -w $$(git ls-files '*.go')

.PHONY: check
check: generate format lint escape ## what a change must pass: nothing generated is stale, nothing is unformatted, nothing hot is on the heap
	git diff --exit-code

.PHONY: deps
deps: ## install the Debian packages that are missing (as root)
	@missing=; \
	for p in $(NEEDED); do command -v $${p%%:*} >/dev/null || missing="$$missing $${p##*:}"; done; \
	test -e /usr/include/stdio.h || missing="$$missing libc6-dev"; \
	test -z "$$missing" && exit 0; \
	if [ "$$(id -u)" != 0 ]; then echo "missing Debian packages; as root: apt-get install$$missing" >&2; exit 1; fi; \
	apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing

.PHONY: deps-all
deps-all: deps ## install what the optional tests need too: clang-19, lld-19, tshark
	@missing=; \
	for p in $(OPTIONAL); do command -v $${p%%:*} >/dev/null || missing="$$missing $${p##*:}"; done; \
	test -z "$$missing" && exit 0; \
	if [ "$$(id -u)" != 0 ]; then echo "missing Debian packages; as root: apt-get install$$missing" >&2; exit 1; fi; \
	apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing

.PHONY: clean
clean: ## remove what make build made
	rm -rf bin
