#!/usr/bin/env bash
# Runs all checks: style, lints, release binaries, and all tests against them. Parts whose requirements are
# missing on this machine are skipped; the list at the end gives the reasons.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build
export WYLIS_SKIPS=$PWD/build/skips
log=build/test.log
: >"$WYLIS_SKIPS"

step() { printf '\n== %s\n' "$1"; }
skip() {
    echo "skipped: $1" >&2
    echo "$1" >>"$WYLIS_SKIPS"
}
# Background jobs do not receive Ctrl-C, so they are ended here.
background=()
logs=$(mktemp -d)
trap 'kill "${background[@]}" 2>/dev/null || true; scripts/engine.sh stop; rm -rf "$logs"' EXIT

step "requirements"
scripts/setup.sh

# The first build of a real API server takes minutes. It starts now, at the lowest priority; the tests
# against it wait for it.
nice -n 19 tests/cluster/build.sh control >"$logs/build" 2>&1 &
background+=("$!")

step "style"
if cargo fmt --version >/dev/null 2>&1; then cargo fmt --all --check; else skip "cargo fmt: not installed"; fi
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --workspace --all-targets --locked -- -D warnings
else
    skip "cargo clippy: not installed"
fi

# Without the toolchain, tests that need the binary skip themselves. A failed build is an error.
step "release binaries"
if command -v musl-gcc >/dev/null; then
    scripts/build.sh
    WYLIS_BINARY=$(realpath "$(scripts/build.sh --path)")
    export WYLIS_BINARY
fi
if [ "$(uname -m)" = x86_64 ] && [ -d /usr/aarch64-linux-gnu/include ]; then
    scripts/build.sh arm64
    WYLIS_BINARY_ARM64=$(realpath "$(scripts/build.sh --path arm64)")
    export WYLIS_BINARY_ARM64
fi

step "container engine"
scripts/engine.sh start || true

# Most tests wait for a mesh, so the slowest programs run in parallel to the others. Their output is printed
# at the end, one program after another.
step "tests"
cargo test --workspace --locked --no-run
cargo test --locked --test lifecycle -- --test-threads=4 >"$logs/lifecycle" 2>&1 &
lifecycle=$!
background+=("$lifecycle")
# Ten threads on any number of cores: the tests wait for verdicts, and the longest takes two minutes.
cargo test --locked --test tunnels -- --test-threads=10 >"$logs/tunnels" 2>&1 &
tunnels=$!
background+=("$tunnels")
scripts/control-plane.sh >"$logs/control" 2>&1 &
control=$!
background+=("$control")
others=$(cd tests && for test in */; do
    test=${test%/}
    case $test in lifecycle | tunnels | harness | cluster | e2e | control_plane) ;; *) echo --test "$test" ;; esac
done)
failed=false
{
    # shellcheck disable=SC2086 # split into arguments
    cargo test --locked --no-fail-fast --lib --bins $others 2>&1 || touch "$logs/failed"
    cargo test --locked --package wylis-harness --no-fail-fast 2>&1 || touch "$logs/failed"
    cargo test --locked --doc 2>&1 || touch "$logs/failed"
} | tee "$log"
wait "$lifecycle" || touch "$logs/failed"
wait "$tunnels" || touch "$logs/failed"
status=0
wait "$control" || status=$?
case $status in
    0) ;;
    3) skip "tests against a real API server: $(tail -n 1 "$logs/control")" ;;
    *) cat "$logs/build"; touch "$logs/failed" ;;
esac
background=()
cat "$logs/lifecycle" "$logs/tunnels" "$logs/control" | tee -a "$log"
if [ -e "$logs/failed" ]; then failed=true; fi

# Cargo closes each test program with `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
sum() { awk -v what="$1;" '/^test result:/ { for (i = 2; i <= NF; i++) if ($i == what) n += $(i - 1) } END { print n + 0 }' "$log"; }
skipped=$(wc -l <"$WYLIS_SKIPS")
scripts/engine.sh stop
echo
if [ "$skipped" -gt 0 ]; then
    echo "skipped, in whole or in part (cargo counts these tests as passed):"
    sed 's/^/  /' "$WYLIS_SKIPS"
fi
if $failed; then
    echo "$(sum passed) tests passed, $(sum failed) FAILED, $skipped skipped, in $SECONDS s"
    exit 1
fi
echo "$(sum passed) tests passed, $skipped skipped, in $SECONDS s"
