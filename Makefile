# Shoal on a fresh Debian 12 machine, as root: `make demo` shows it, `make test` tests it. `make help` lists the rest.

VERSION    ?= $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog 2>/dev/null)
GO_VERSION := $(shell sed -n 's/^go //p' go.mod)

# The machine's own go if it can read go.mod (one that is older but knows toolchains fetches the right one by itself), else
# the one that `make deps` puts into .cache. Tests call `go` too, so it is put on the PATH.
GO_FETCHED := $(CURDIR)/.cache/go$(GO_VERSION)
ifeq ($(shell go list -m 2>/dev/null),)
export PATH := $(GO_FETCHED)/bin:$(PATH)
endif
export CGO_ENABLED ?= 0
# The tree is built from tarballs and by root in others' checkouts: git's stamp would fail there, the version says enough.
export GOFLAGS ?= -buildvcs=false

LDFLAGS := -s -w$(if $(VERSION), -X main.version=$(VERSION))
# Hosts are booted by these; everything else is a unit or a golden test, or needs no more than this machine's kernel.
BEDS := ./packaging/testbed/...
UNITS = $(shell go list ./... | grep -v /packaging/testbed)
# Everything with goroutines of our own. The CLI has none, and its dependencies take minutes to build with -race.
RACY = $(shell go list ./... | grep -v -e /packaging/testbed -e /cmd/shoal$$)

PREFIX ?= /usr

.PHONY: help deps build check test arm64 fuzz deb install demo clean
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile

# What building and testing needs, besides what the test-bed lists itself (`testbed deps`).
PACKAGES := ca-certificates git make gcc libc6-dev dpkg-dev debhelper crun conmon catatonit nftables iproute2 kubernetes-client

deps: ## install with apt what is missing, and fetch Go if the machine's is too old
	@missing=; for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	go list -m >/dev/null 2>&1 || command -v go >/dev/null || missing="$$missing golang-go"; \
	test -z "$$missing" || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$missing >/dev/null; }
	@go list -m >/dev/null 2>&1 || $(MAKE) -s $(GO_FETCHED)
	@go run ./packaging/testbed deps

# Any go fetches the toolchain as a module and checks it against the checksum database; one older than 1.21 does not know
# what it is, and leaves out the mode bits. It would not read our go.mod either: hence `cd /`.
$(GO_FETCHED):
	@echo "fetching Go $(GO_VERSION)"
	@mkdir -p $(@D) && rm -rf $@.partial && cd / && \
	module=golang.org/toolchain@v0.0.1-go$(GO_VERSION).linux-$$(dpkg --print-architecture) && \
	GOFLAGS= GOTOOLCHAIN=local GO111MODULE=on go mod download $$module && \
	cp -r "$$(go env GOMODCACHE)/$$module" $@.partial && chmod -R u+w $@.partial && \
	chmod 755 $@.partial/bin/* $@.partial/pkg/tool/*/* && mv $@.partial $@

build: ## build bin/shoald, bin/shoal and bin/testbed
	go build -trimpath -ldflags "$(LDFLAGS)" -o bin/ ./cmd/shoald ./cmd/shoal ./packaging/testbed

check: ## the inner loop: format, vet, unit and golden tests
	@bad=$$(gofmt -l cmd daemon dnsd manifests packaging proxy storage); test -z "$$bad" || { echo "gofmt -w" $$bad; exit 1; }
	go vet ./...
	go test $(UNITS)

test: deps build check ## everything: check, again with the race detector, and on hosts of the test-bed
	CGO_ENABLED=1 go test -race $(RACY)
	go test -timeout 20m -p 1 $(BEDS)

arm64: ## build everything for arm64
	GOARCH=arm64 go build -trimpath -o /dev/null ./cmd/shoald
	GOARCH=arm64 go build ./...

FUZZTIME ?= 1m
fuzz: ## run every fuzz target for FUZZTIME (1m)
	@grep -r --include='*_test.go' -o '^func Fuzz[A-Za-z0-9]*' . | sed 's|/[^/]*:func | |' | sort | while read dir target; do \
		echo "$$dir $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$dir || exit 1; done

clean: ## remove what was built
	rm -rf bin
