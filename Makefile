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
# Where make install puts things; DESTDIR goes in front of all of it.
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR    ?=
ZSHDIR     ?= $(PREFIX)/share/zsh/site-functions
GOLANGCI  := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VALIDATE  := sigs.k8s.io/kubectl-validate@v0.0.4
PACKAGING := cmd/sfcd/packaging

# Programs that building and testing need, each with its Debian package, and
# those without which some tests skip.
NEEDED   := gcc:gcc ip:iproute2 tcpdump:tcpdump ping:iputils-ping curl:curl python3:python3
OPTIONAL := clang-19:clang-19 wasm-ld-19:lld-19 tshark:tshark

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## compile bin/sfcctl and bin/sfcd
	$(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/sfcctl ./cmd/sfcd

# Only what is not there is built: root need not have Go, nor own what it makes.
bin/sfcctl bin/sfcd:
	$(MAKE) build

.PHONY: install
install: bin/sfcctl bin/sfcd ## install what make build made: programs, systemd unit, configuration, functions, manual pages, completions (DESTDIR, PREFIX)
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin bin/sfcctl bin/sfcd
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,/usr/bin/sfcd,$(PREFIX)/bin/sfcd,' $(PACKAGING)/systemd/sfcd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/sfcd.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/sfcd.service
	test -e $(DESTDIR)$(SYSCONFDIR)/sfc/sfcd.yaml || install -D -m 644 $(PACKAGING)/sfcd.yaml $(DESTDIR)$(SYSCONFDIR)/sfc/sfcd.yaml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/sfc/functions nf/catalog/*/*.wasm
	install -D -m 644 ctrl/observe/dashboard.json $(DESTDIR)$(PREFIX)/share/sfc/grafana-dashboard.json
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	for c in sfcctl sfcd; do \
		bin/$$c completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$c && \
		bin/$$c completion zsh >$(DESTDIR)$(ZSHDIR)/_$$c && \
		bin/$$c completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$c.fish && \
		bin/$$c man $(DESTDIR)$(PREFIX)/share/man >/dev/null || exit 1; \
	done
	@test -n "$(DESTDIR)" || getent passwd sfc >/dev/null || useradd --system --user-group --no-create-home --home-dir /var/lib/sfc --shell /usr/sbin/nologin sfc
	@test -n "$(DESTDIR)" || ! test -d /run/systemd/system || systemctl daemon-reload

.PHONY: deb
deb: build ## make a Debian package, sfc_VERSION_ARCH.deb, here
	$(PACKAGING)/deb.sh "$(VERSION)" .

.PHONY: check-packaging
check-packaging: build ## look at the systemd unit, how hardened it is, and the Kubernetes manifests
	@tree=$$(mktemp -d) && trap 'rm -rf "$$tree"' EXIT && \
	$(MAKE) --no-print-directory install DESTDIR=$$tree PREFIX=/usr >/dev/null && \
	unit=$$tree/usr/lib/systemd/system/sfcd.service && sed -i "s,/usr/bin/sfcd,$$tree&," $$unit && \
	if command -v systemd-analyze >/dev/null; then \
		MANPATH=$$tree/usr/share/man systemd-analyze verify $$unit && \
		systemd-analyze security --offline=yes --threshold=45 $$unit | tail -n 1; \
	else echo "systemd-analyze is not here: the unit is not looked at"; fi
	$(GO) run $(VALIDATE) $(PACKAGING)/kubernetes/

.PHONY: demo
demo: as-root deps build ## send recorded traffic through a chain over AF_XDP and account for every packet; then the daemon, and a chain made through its API (as root)
	bin/sfcctl record --out bin/demo.pcapng
	bin/sfcctl replay --chain testbed/examples/edge.yaml --in bin/demo.pcapng --out bin/demo-out.pcapng --drops bin/demo-drops.pcapng
	@echo; echo "The packets are in bin/demo.pcapng, bin/demo-out.pcapng and, with reasons, bin/demo-drops.pcapng."
	@echo; echo "Now the daemon."
	@testbed/examples/daemon.sh

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

.PHONY: bench-daemon
bench-daemon: as-root deps ## what the daemon promises: chains made, modules uploaded, kills, shares, many chains, idle (as root, on an idle machine)
	SFC_DAEMON=30 $(GO) test -count=1 -timeout 30m -run '^TestFigures$$' -v ./testbed/daemon
	$(GO) test -count=1 -timeout 30m -run '^$$' -bench '^BenchmarkPlaneChains$$' -benchtime 2000000x ./ctrl/agent

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
clean: ## remove what make build and make deb made
	rm -rf bin sfc_*.deb
