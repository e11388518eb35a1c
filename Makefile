# Shoal on a fresh Debian 12 machine, as root: `make demo` shows it, `make test` tests it. `make help` lists the rest.

VERSION    ?= $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
GO_VERSION := $(shell sed -n 's/^go //p' go.mod)

# The machine's own go if it can read go.mod (one that is older but knows toolchains fetches the right one by itself), else
# one that is fetched into .cache. Tests call `go` too, so it is put on the PATH.
ifeq ($(shell go list -m 2>/dev/null),)
FETCHED := $(CURDIR)/.cache/go$(GO_VERSION)
export PATH := $(FETCHED)/bin:$(PATH)
endif
export CGO_ENABLED ?= 0
# A go.work in a directory above is somebody else's.
export GOWORK := off
# The same for builds and tests, which so share what is compiled. Git's stamp fails in a tarball and in another user's
# checkout, and the version says enough.
export GOFLAGS ?= -trimpath -buildvcs=false
LDFLAGS  := -s -w -X main.version=$(VERSION)
PROGRAMS ?= ./cmd/shoald ./cmd/shoal-lease ./cmd/shoal ./packaging/testbed

# Tests that boot hosts, and what they install there; all others need no more than this machine's kernel.
BEDS := ./packaging/testbed/...
ON_BED = SHOAL_DEB=$$(echo $(CURDIR)/bin/shoal_*.deb) SHOAL_TESTBED_PROGRAM=$(CURDIR)/bin/testbed go test
UNITS = $$(go list ./... | grep -v /packaging/testbed)
# Everything with goroutines of our own. The CLI has none, and its dependencies take minutes to build with -race.
RACY = $$(go list ./... | grep -v -e /packaging/testbed -e /cmd/shoal$$)

.PHONY: help deps build check test test-full chaos storm bench arm64 fuzz deb install demo clean
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile

# What building and testing needs, besides what the test-bed lists itself (`testbed deps`).
PACKAGES := ca-certificates git make gcc libc6-dev dpkg-dev debhelper crun conmon catatonit nftables iproute2 ansible-core

deps: ## install with apt what is missing, and fetch Go if the machine's is too old
	@missing=; for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	command -v go >/dev/null || missing="$$missing golang-go"; \
	command -v kubectl >/dev/null || missing="$$missing kubernetes-client"; \
	test -z "$$missing" || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$missing >/dev/null; }
	@$(MAKE) -s $(FETCHED) build
	@bin/testbed deps

# Any go fetches the toolchain as a module and checks it against the checksum database; one older than 1.21 does not know
# what it is, and leaves out the mode bits. It would not read our go.mod either: hence `cd /`.
$(FETCHED):
	@echo "fetching Go $(GO_VERSION)"
	@mkdir -p $(@D) && rm -rf $@.partial && cd / && \
	module=golang.org/toolchain@v0.0.1-go$(GO_VERSION).linux-$$(dpkg --print-architecture) && \
	GOFLAGS= GOTOOLCHAIN=local GO111MODULE=on go mod download $$module && \
	cp -r "$$(go env GOMODCACHE)/$$module" $@.partial && chmod -R u+w $@.partial && \
	chmod 755 $@.partial/bin/* $@.partial/pkg/tool/*/* && mv $@.partial $@

build: $(FETCHED) ## build bin/shoald, bin/shoal and bin/testbed
	go build -ldflags "$(LDFLAGS)" -o bin/ $(PROGRAMS)

check: ## the inner loop: format, vet, unit and golden tests
	@bad=$$(gofmt -l cmd daemon dnsd manifests packaging proxy storage); test -z "$$bad" || { echo "gofmt -w" $$bad; exit 1; }
	go vet ./...
	go test $(UNITS)

test: deps check deb ## everything: check, again with the race detector, and on hosts of the test-bed
	CGO_ENABLED=1 go test -race -short -skip '^TestMemory' $(RACY) # the detector's own memory would be measured
	SHOAL_FULL_HOST=1 $(ON_BED) -timeout 20m -p 1 $(BEDS)

test-full: test ## test, then what takes long: all rounds with the race detector, emulated hosts, 200 kills
	CGO_ENABLED=1 go test -race -timeout 60m -skip '^TestMemory' $(RACY)
	SHOAL_TESTBED_FULL=1 $(ON_BED) -count 1 -timeout 60m -run TestFullHosts ./packaging/testbed/bed
	SHOAL_FULL_HOST=1 SHOAL_TESTBED_FULL=1 $(ON_BED) -count 1 -timeout 60m -run "TestUnderMemoryPressure|TestTheStaticPolicy" ./packaging/testbed/enforce
	$(ON_BED) -count 1 -timeout 30m ./packaging/testbed/chaos -run TestStorm -kills 200
	SHOAL_TESTBED_FULL=1 $(ON_BED) -count 1 -timeout 60m ./packaging/testbed/fleet
	$(ON_BED) -count 1 -timeout 30m ./packaging/testbed/chaos -run FleetStorm -for 10m -shoald.race

FOR ?= 30m
chaos: deps deb ## break five hosts that are one cluster, in all ways, for FOR (30m)
	$(ON_BED) -count 1 -timeout 0 -v ./packaging/testbed/chaos -run FleetStorm -for $(FOR)

KILLS ?= 1000
storm: deps deb ## kill shoald KILLS (1000) times over pods of one host that change; about half an hour
	$(ON_BED) -count 1 -timeout 0 -v ./packaging/testbed/chaos -run TestStorm -kills $(KILLS)

bench: deps deb ## Shoal beside crun, systemd-run and podman, and the loss of hosts: the tables in docs/benchmarks.md
	go run ./packaging/bench
	$(ON_BED) -count 1 -timeout 60m -v ./packaging/testbed/fleet -run TestFailover -runs 30
	go run ./daemon/sim --nodes 10

arm64: ## build everything for arm64
	GOARCH=arm64 go build ./...

FUZZTIME ?= 1m
fuzz: ## run every fuzz target for FUZZTIME (1m)
	@grep -r --include='*_test.go' -o '^func Fuzz[A-Za-z0-9]*' . | sed 's|/[^/]*:func | |' | sort | while read dir target; do \
		echo "$$dir $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$dir || exit 1; done

# Debian's tools write next to the source and above it, hence a copy. The package is compressed for speed: `dpkg-buildpackage`
# by itself makes a small one.
deb: $(FETCHED) ## build bin/shoal_VERSION_ARCH.deb
	@rm -rf .cache/deb && mkdir -p .cache/deb/shoal bin
	@git ls-files -co --exclude-standard -z | xargs -0 -r sh -c 'for f; do test ! -e "$$f" || printf "%s\0" "$$f"; done' sh | \
		tar -c --null -T - | tar -x -C .cache/deb/shoal
	@cd .cache/deb/shoal && DEB_BUILD_OPTIONS=quick dpkg-buildpackage -b -uc -us -d >../log 2>&1 || { tail -30 ../log; exit 1; }
	@rm -f bin/shoal_*.deb && mv .cache/deb/shoal_*.deb bin/ && rm -rf .cache/deb && ls bin/shoal_*.deb

# What the package has. The completions need a shoal of the machine that builds.
install:
	install -D -m 755 bin/shoald $(DESTDIR)/usr/sbin/shoald
	install -D -m 755 bin/shoal-lease $(DESTDIR)/usr/sbin/shoal-lease
	install -D -m 755 bin/shoal $(DESTDIR)/usr/bin/shoal
	install -D -m 644 packaging/config/shoal.toml $(DESTDIR)/etc/shoal/shoal.toml
	install -D -m 644 packaging/systemd/shoald.service $(DESTDIR)/lib/systemd/system/shoald.service
	install -D -m 644 packaging/systemd/shoal-lease.service $(DESTDIR)/lib/systemd/system/shoal-lease.service
	install -D -m 644 packaging/systemd/shoal-exclusive.slice $(DESTDIR)/lib/systemd/system/shoal-exclusive.slice
	install -D -m 644 packaging/systemd/shoal.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/shoal.conf
	install -D -m 644 packaging/systemd/shoal.sysusers $(DESTDIR)/usr/lib/sysusers.d/shoal.conf
	install -d $(DESTDIR)/usr/share/bash-completion/completions $(DESTDIR)/usr/share/zsh/vendor-completions
	GOARCH= go run -ldflags "$(LDFLAGS)" ./cmd/shoal completion bash > $(DESTDIR)/usr/share/bash-completion/completions/shoal
	GOARCH= go run -ldflags "$(LDFLAGS)" ./cmd/shoal completion zsh > $(DESTDIR)/usr/share/zsh/vendor-completions/_shoal

demo: deps deb ## a host with pods, step by step
	@packaging/demo/run bin/shoal_*.deb

clean: ## remove what was built; Go's caches and the test-bed's stay
	rm -rf bin .cache/deb
