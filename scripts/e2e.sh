#!/usr/bin/env bash
# The agent on a real Kubernetes. Where KUBECONFIG names a cluster, that one is used: it must have the
# manifests' image, and the same once more as `wylis:next` (or what WYLIS_NEXT_IMAGE says) to update
# to. Otherwise one is brought up on this machine, and taken down at the end. Arguments go to the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
if [ -z "${KUBECONFIG:-}" ]; then
    cluster=$PWD/tests/cluster/cluster.sh
    trap '"$cluster" down' EXIT
    "$cluster" up "${WYLIS_CLUSTER_NODES:-3}"
    KUBECONFIG=$("$cluster" kubeconfig)
    WYLIS_KUBECTL=$(tests/cluster/build.sh --path)/kubectl
    export KUBECONFIG WYLIS_KUBECTL WYLIS_CLUSTER_SCRIPT=$cluster
fi
# They share one cluster.
cargo test --locked --test e2e -- --test-threads=1 --nocapture "$@"
