#!/usr/bin/env bash
# Everything that must hold, in one go: style, lints, the release binaries, all tests against them.
# A part that this machine cannot do is skipped, with the reason in the list at the end.
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
# However this ends; and before the last line, which is to be the last. What runs beside us does not
# hear Ctrl-C.
beside=()
apart=$(mktemp -d)
trap 'kill "${beside[@]}" 2>/dev/null || true; scripts/engine.sh stop; rm -rf "$apart"' EXIT

step "what the tests need"
scripts/setup.sh

# A real API server takes minutes to build, the first time. That is begun now, and takes hardly more than
# nobody else wants of the processors; the tests before it wait for it.
nice -n 19 tests/cluster/build.sh control >"$apart/build" 2>&1 &
beside+=("$!")

step "style"
if cargo fmt --version >/dev/null 2>&1; then cargo fmt --all --check; else skip "cargo fmt: not installed"; fi
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --workspace --all-targets --locked -- -D warnings
else
    skip "cargo clippy: not installed"
fi

# The tests that need a binary which could not be made skip themselves; a binary that is there but
# does not build is a failure.
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

step "a container engine"
scripts/engine.sh start || true

# Most tests wait for a mesh rather than work: the longest programs run beside the others. What they
# print comes whole, one after another, so that it can be read.
step "tests"
cargo test --workspace --locked --no-run
cargo test --locked --test lifecycle -- --test-threads=4 >"$apart/life" 2>&1 &
life=$!
beside+=("$life")
# However few the cores: its tests wait for verdicts, and the longest takes two minutes.
cargo test --locked --test tunnels -- --test-threads=10 >"$apart/lab" 2>&1 &
lab=$!
beside+=("$lab")
scripts/control-plane.sh >"$apart/control" 2>&1 &
control=$!
beside+=("$control")
others=$(cd tests && for test in *; do
    case $test in lifecycle | tunnels | harness | cluster | e2e | control_plane) ;; *) echo --test "$test" ;; esac
done)
failed=false
{
    # shellcheck disable=SC2086 # one word an argument
    cargo test --locked --no-fail-fast --lib --bins $others 2>&1 || touch "$apart/failed"
    cargo test --locked --package wylis-harness --no-fail-fast 2>&1 || touch "$apart/failed"
    cargo test --locked --doc 2>&1 || touch "$apart/failed"
} | tee "$log"
wait "$life" || touch "$apart/failed"
wait "$lab" || touch "$apart/failed"
status=0
wait "$control" || status=$?
case $status in
    0) ;;
    3) skip "the tests before a real API server: $(tail -n 1 "$apart/control")" ;;
    *) cat "$apart/build"; touch "$apart/failed" ;;
esac
beside=()
cat "$apart/life" "$apart/lab" "$apart/control" | tee -a "$log"
if [ -e "$apart/failed" ]; then failed=true; fi

# Cargo closes each test program with `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
sum() { awk -v what="$1;" '/^test result:/ { for (i = 2; i <= NF; i++) if ($i == what) n += $(i - 1) } END { print n + 0 }' "$log"; }
skipped=$(wc -l <"$WYLIS_SKIPS")
scripts/engine.sh stop
echo
if [ "$skipped" -gt 0 ]; then
    echo "skipped, in whole or in part (cargo counts such a test as passed):"
    sed 's/^/  /' "$WYLIS_SKIPS"
fi
if $failed; then
    echo "$(sum passed) tests passed, $(sum failed) FAILED, $skipped skipped, in $SECONDS s"
    exit 1
fi
echo "$(sum passed) tests passed, $skipped skipped, in $SECONDS s"
