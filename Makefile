# strata: build, run and check. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/strata
VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),unknown)
GOLANGCI_LINT_VERSION := v2.5.0
GOLANGCI_LINT := $(CACHE)/bin/golangci-lint-$(GOLANGCI_LINT_VERSION)

# Without ",direct" a module that is missing is an answer and not a hanging git.
export GOPROXY := $(shell go env GOPROXY | sed 's/[,|]direct//g')

# Of the long runs: the first seed, and how many of them.
SEED ?= 1
COUNT ?= 1000

.PHONY: help
help: ## show this list
	@printf 'strata, a Kafka-protocol broker that archives into a bucket\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the static binary bin/strata
	@echo 'building bin/strata (the first time takes a minute or two: Go fetches and compiles all it needs)' >&2
	@CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/strata ./cmd/strata

.PHONY: run
run: build ## build and start a broker on 127.0.0.1:9092, data in ./strata-data
	exec bin/strata dev

.PHONY: test
test: deps ## the whole test suite; installs what it needs
	@mkdir -p bin; rm -f bin/test-report
	STRATA_TEST_REPORT='$(CURDIR)/bin/test-report' go test -timeout 20m ./...
	@cat bin/test-report 2>/dev/null || true # what the long tests counted, unless go had their results

.PHONY: check
check: lint proto-check arch race ## format, vet, linters, generated code, architecture, race tests

.PHONY: lint
lint: $(GOLANGCI_LINT)
	$(GOLANGCI_LINT) fmt --diff
	go mod tidy -diff
	go vet ./...
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...

.PHONY: arch
arch:
	go test -run '^TestImportsFollowTheHousePlan$$' ./integration/

.PHONY: race
race: ## race tests; not the black-box ones, whose broker is another process
	integration/setup.sh gcc minio
	CGO_ENABLED=1 go test -race -timeout 20m $$(go list ./... | grep -v '/integration$$')

.PHONY: format
format: $(GOLANGCI_LINT) ## format the sources
	$(GOLANGCI_LINT) fmt

.PHONY: clients
clients: ## install the clients of the tour: kcat, Java and Kafka's tools
	integration/setup.sh kcat kafka

.PHONY: clients-matrix
clients-matrix: deps ## every client and tool of other makers against one broker; installs them
	integration/setup.sh sarama
	STRATA_TEST_MATRIX=all go test -v -count=1 -timeout 60m -run '^(TestClient|TestKcat|TestKafka|TestJava|TestFranz|TestStaticMember|TestCooperative)' ./integration

.PHONY: deps
deps: ## install what the tests need: kcat, Java, Kafka's tools, MinIO, clients in Python and JavaScript
	integration/setup.sh kcat kafka minio python kafkajs

.PHONY: lint-tools
lint-tools: $(GOLANGCI_LINT) ## build golangci-lint into the cache (once, some minutes)

$(GOLANGCI_LINT):
	@echo 'building golangci-lint $(GOLANGCI_LINT_VERSION) into $(@D) (once, some minutes)' >&2
	@mkdir -p '$(@D)'; fresh=$$(mktemp -d '$(@D)/build.XXXXXX'); trap 'rm -rf "$$fresh"' EXIT; cd /; \
	GOBIN="$$fresh" GOFLAGS=-buildvcs=false go install -v github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION); \
	mv "$$fresh/golangci-lint" '$@'

.PHONY: proto
proto: ## generate the Go code of the .proto files
	integration/setup.sh protoc
	protoc --plugin=$(CACHE)/bin/protoc-gen-go --go_out=. --go_opt=paths=source_relative $$(git ls-files '*.proto')

.PHONY: proto-check
proto-check: # the generated code is that of the .proto files; the version of protoc in its head may differ
	integration/setup.sh protoc
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	protoc --plugin=$(CACHE)/bin/protoc-gen-go --go_out="$$fresh" --go_opt=paths=source_relative $$(git ls-files '*.proto'); \
	for file in $$(git ls-files '*.pb.go'); do \
		diff -u -I '^// 	protoc  *v' "$$file" "$$fresh/$$file" || { echo "$$file is not what its .proto says: run make proto" >&2; exit 1; }; \
	done

.PHONY: docs
docs: build ## write the reference pages in docs/
	bin/strata settings --markdown >docs/settings.md
	bin/strata apis --markdown >docs/apis.md

.PHONY: images
images: ## build the images strata and strata-minio, from scratch: docker/compose.yaml runs them
	docker/build.sh

.PHONY: seeds
seeds: ## a long simulation: COUNT seeds from SEED on
	go test -v -count=1 -timeout 24h -run '^TestSimulation$$' ./tiering -sim.first=$(SEED) -sim.seeds=$(COUNT)

# Of make bench: rows, by name or as consume-*, with commas (list shows them, nothing runs all), and pairs of legs.
ROWS ?=
PAIRS ?= 5

.PHONY: bench
bench: build ## strata against Kafka, measured: ROWS=list shows the rows, PAIRS=n
	integration/setup.sh kafka minio
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o bin/bench ./integration/bench
	bin/bench -rows '$(ROWS)' -pairs $(PAIRS) $(FLAGS)

# Of make bench-profiles: what it sets beside this commit, by default the last before the hot paths were
# measured. Empty for none.
BEFORE ?= de9314f

.PHONY: bench-profiles
bench-profiles: ## where the CPU goes on the hot paths, now and in the commit BEFORE
	integration/setup.sh minio perf
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o bin/bench ./integration/bench
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/strata-symbols ./cmd/strata
ifneq ($(BEFORE),)
	@tree=$$(mktemp -d); trap 'git worktree remove --force "$$tree"' EXIT; \
	echo 'building $(BEFORE)' >&2; git worktree add --quiet --detach "$$tree" $(BEFORE); cd "$$tree"; \
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-X main.version=$$(git rev-parse --short HEAD)" -o '$(CURDIR)/bin/strata-before' ./cmd/strata
endif
	bin/bench -profiles -strata bin/strata-symbols -before '$(and $(BEFORE),bin/strata-before)' $(FLAGS)

.PHONY: soak
soak: deps ## kill -9 and pause a loaded broker COUNT times, at the moments of SEED
	STRATA_TEST_SEED=$(SEED) STRATA_TEST_KILLS=$(COUNT) go test -v -count=1 -timeout 24h -run '^TestKillsAtRandomMomentsLoseNothing$$' ./integration

.PHONY: bucket-faults
bucket-faults: deps ## give the bucket every kind of trouble, and let it be away for OUTAGE (10m)
	STRATA_TEST_OUTAGE=$(or $(OUTAGE),10m) go test -v -count=1 -timeout 24h -run '^(TestProduceOutlivesABucketInTrouble|TestAnOutageStaysWithinTheDiskBudget)$$' ./integration

.PHONY: lost-disks
lost-disks: deps ## lose the disk of a loaded broker COUNT times (say 20) and restore it from MinIO, at the moments of SEED
	STRATA_TEST_SEED=$(SEED) STRATA_TEST_LOST_DISKS=$(COUNT) go test -v -count=1 -timeout 24h -run '^TestLostDisksComeBackFromTheBucket$$' ./integration

.PHONY: clean
clean: ## remove what was built and the data of make run
	rm -rf bin strata-data
