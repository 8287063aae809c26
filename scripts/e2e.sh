#!/usr/bin/env bash
# Runs tests/e2e on a real Kubernetes: the cluster of KUBECONFIG if set, otherwise clusters that it starts on
# this machine and stops at the end. A cluster of yours needs the manifests' image, and the same image as
# `wylis:next` (or WYLIS_NEXT_IMAGE) as the target of the update.
#
#   e2e.sh              all tests
#   e2e.sh ARGUMENTS…   a selection in one cluster, in the syntax of `cargo test`: rolling:: --skip cost::
#
# WYLIS_CLUSTER is the number of the first cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh

# The tests mostly wait, so three clusters run in parallel: two for the slowest files of tests/e2e, the
# first for all others. The output of each cluster is printed as a whole.
if [ -z "${KUBECONFIG:-}" ] && [ $# = 0 ]; then
    cargo test --locked --test e2e --no-run
    tests/cluster/build.sh >/dev/null
    WYLIS_MONITORING=$(tests/cluster/build.sh monitoring)
    export WYLIS_MONITORING
    logs=$(mktemp -d)
    parts=()
    part() {
        # A process group of its own, so that end_all also stops its children.
        WYLIS_CLUSTER=$((${WYLIS_CLUSTER:-0} + ${#parts[@]})) setsid scripts/e2e.sh "$@" >"$logs/${#parts[@]}" 2>&1 &
        parts+=($!)
    }
    end_all() {
        local leader
        for leader in "${parts[@]}"; do kill -- "-$leader" 2>/dev/null || true; done
        wait
        rm -rf "$logs"
    }
    trap end_all EXIT
    part --skip nodes:: --skip outage:: --skip rolling::
    part nodes::
    part outage:: rolling::
    # Prometheus discovers pods without a node as well as pods on nodes.
    WYLIS_CLUSTER=9 setsid scripts/control-plane.sh --ignored >"$logs/${#parts[@]}" 2>&1 &
    parts+=($!)
    failed=false
    for number in "${!parts[@]}"; do
        wait "${parts[number]}" || failed=true
        cat "$logs/$number"
    done
    echo "e2e: all tests took $SECONDS s"
    if $failed; then
        echo "e2e: failed" >&2
        exit 1
    fi
    exit
fi

if [ -z "${KUBECONFIG:-}" ]; then
    cluster=$PWD/tests/cluster/cluster.sh
    trap '"$cluster" down' EXIT
    "$cluster" up "${WYLIS_CLUSTER_NODES:-3}"
    KUBECONFIG=$("$cluster" kubeconfig)
    WYLIS_KUBECTL=$(tests/cluster/build.sh --path)/kubectl
    export KUBECONFIG WYLIS_KUBECTL WYLIS_CLUSTER_SCRIPT=$cluster
fi
# One test at a time: they share the cluster.
cargo test --locked --test e2e -- --test-threads=1 --nocapture "$@"
echo "e2e: ${*:-all tests} took $SECONDS s"
