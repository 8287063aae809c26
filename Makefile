# Entry points for developers; the work is in scripts/ and tests/.
.DEFAULT_GOAL := help
.PHONY: help demo test control-plane e2e cluster-up cluster-down tunnels-long lab-long test-long withstand faults screenshots recordings build image budgets bench fmt lint setup clean

version := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: ## run a small mesh on this machine with one fault after another (Rust and a C compiler)
	cargo build --locked --bin wylis
	WYLIS_BINARY="$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/wylis" cargo run --locked --quiet -p wylis-harness --bin demo

test: ## run all checks and tests; as root on Debian, install what is missing
	@scripts/test.sh

e2e: build ## test on a real Kubernetes: that of KUBECONFIG, or one started on this machine (root, Go)
	@scripts/e2e.sh

control-plane: build ## test agents against a real API server without nodes; part of `make test` (root, Go)
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" scripts/control-plane.sh

cluster-up: build ## start a real Kubernetes with three nodes on this machine (root, Go)
	tests/cluster/cluster.sh up

cluster-down: ## stop it
	tests/cluster/cluster.sh down

# The static binary, as in `make test`.
tunnels := cargo test --locked --test tunnels
faults := $(CURDIR)/build/faults

tunnels-long: build ## run the tests that wait for WireGuard's own timers (40 minutes)
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" $(tunnels) -- --ignored --nocapture long

lab-long: tunnels-long

# The hour comes last: its busy processes would delay the other tests.
hour := clusters::slow::hour

test-long: build ## run the slow rows of the tables of faults, slow surveys and experiments, faults of ten minutes ago, what tunnels-long runs, and an hour of healthy pairs
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" $(tunnels) -- --ignored --nocapture --test-threads=10 --skip documented --skip $(hour) long truth:: clusters:: survey:: beside:: history::
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" $(tunnels) -- --ignored --nocapture $(hour)

withstand: build ## attack an agent in a pod of 32 MiB with all hostile clients at once for ten minutes (root)
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" cargo test --locked --test withstand -- --ignored --nocapture --test-threads=1 ten_minutes

faults: build ## measure how soon each fault is reported, and write docs/faults.md
	rm -rf $(faults)
	WYLIS_FAULTS=$(faults) WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" $(tunnels) -- --include-ignored --nocapture --test-threads=10 --skip documented truth::
	WYLIS_FAULTS=$(faults) $(tunnels) -- --ignored write_the_documented_table

screenshots: build ## take the screenshots in docs/, of a real mesh in a real browser (root)
	scripts/screenshots.sh

recordings: build ## record real agents for the tests of the alerts (30 minutes)
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" $(tunnels) -- --ignored --test-threads=4 recorded_

build: ## build the static release binary for this machine's architecture
	scripts/build.sh
	@ls -l "$$(scripts/build.sh --path)"

image: build ## build the container image wylis:VERSION from that binary
	install -D -m 755 "$$(scripts/build.sh --path)" build/image/wylis
	scripts/engine.sh start
	docker build -f Dockerfile.scratch --target prebuilt -t wylis:$(version) build/image

budgets: build ## measure size, memory, threads and packets against their bounds
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" cargo test --locked --test budgets -- --nocapture --test-threads=1

bench: build ## measure CPU of a probe and an answer relative to bare sockets, and start delays
	WYLIS_BINARY="$$(realpath "$$(scripts/build.sh --path)")" cargo bench --locked --bench pace

fmt: ## format the code
	cargo fmt --all

lint: ## check style and lints as `make test` does
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

setup: ## install what the tests need, or print what is missing
	@scripts/setup.sh

clean: ## remove build output, and stop the container engine that was started for the image
	scripts/engine.sh stop
	rm -rf build
	cargo clean
