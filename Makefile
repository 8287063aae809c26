# The one place to find what can be done here; the work itself is in scripts/ and in the tests.
.DEFAULT_GOAL := help
.PHONY: help demo test control-plane e2e cluster-up cluster-down tunnels-long lab-long faults screenshots recordings build image budgets bench fmt lint setup clean

version := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## a small mesh on this machine, with one fault after another (needs Rust and a C compiler only)
	cargo build --locked --bin wylis
	WYLIS_BINARY="$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/wylis" cargo run --locked --quiet -p wylis-harness --bin demo

test: ## everything that must hold; installs what is missing where it may
	@scripts/test.sh

e2e: build ## the agent on a real Kubernetes: KUBECONFIG's, or one brought up on this machine (root, Go)
	@scripts/e2e.sh

control-plane: build ## the agents before a real API server, without nodes; a part of `make test` (root, Go)
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" scripts/control-plane.sh

cluster-up: build ## a real Kubernetes on this machine, with three nodes, to look at (root, Go)
	tests/cluster/cluster.sh up

cluster-down: ## takes it down
	tests/cluster/cluster.sh down

# Against the static binary where it can be built, as `make test` does.
tunnels := cargo test --locked --test tunnels
faults := $(CURDIR)/build/faults

tunnels-long: build ## the proofs that need WireGuard's own timers: seven minutes
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" $(tunnels) -- --ignored --nocapture long

lab-long: tunnels-long

faults: build ## measures how soon each fault is told, and writes docs/faults.md
	rm -rf $(faults)
	WYLIS_FAULTS=$(faults) WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" $(tunnels) -- --nocapture --test-threads=10 --skip documented truth::
	WYLIS_FAULTS=$(faults) $(tunnels) -- --ignored write_the_documented_table

screenshots: build ## the pictures in docs/: a real mesh in a real browser (root)
	scripts/screenshots.sh

recordings: build ## records real agents in the situations that the alerts are tested on: half an hour
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" $(tunnels) -- --ignored --test-threads=4 recorded_

build: ## the static release binary for this machine's architecture
	scripts/build.sh
	@ls -l "$$(scripts/build.sh --path)"

image: build ## the container image wylis:VERSION from that binary
	install -D -m 755 "$$(scripts/build.sh --path)" build/image/wylis
	scripts/engine.sh start
	docker build -f Dockerfile.scratch --target prebuilt -t wylis:$(version) build/image

budgets: build ## size, memory, threads and packets, each beside its bound
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" cargo test --locked --test budgets -- --nocapture --test-threads=1

bench: build ## CPU of a probe and of an answer beside the bare thing, and lateness in a crowd
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" cargo bench --locked --bench pace

fmt: ## formats the code
	cargo fmt --all

lint: ## style and lints, as `make test` checks them
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

setup: ## installs what the tests need, or names it
	@scripts/setup.sh

clean: ## removes what was built, and stops the engine that was started for the image
	scripts/engine.sh stop
	rm -rf build
	cargo clean
