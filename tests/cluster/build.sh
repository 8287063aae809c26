#!/usr/bin/env bash
# Builds the parts of a real cluster from Go modules, once for each state of these files, and prints their
# folder. `build.sh [--path] [PART…]`: without a part, all of Kubernetes; `control` builds the control plane,
# `monitoring` the parts that scrape agents. --path builds nothing. Without Go or the network it reports why
# and exits with 3. GOFLAGS=-p=1 spares a busy machine.
set -euo pipefail
cd "$(dirname "$0")"

cache=${WYLIS_CLUSTER_CACHE:-${HOME:-/root}/.cache/wylis-cluster}
state=$(cat go.mod go.sum build.sh pause.c prometheus/* pod-monitor/* | sha256sum | cut -c 1-12)
bin=$cache/$state
if [ "${1:-}" = --path ]; then echo "$bin"; exit; fi

control=(etcd kube-apiserver)
monitoring=(prometheus pod-monitor)
all=("${control[@]}" kubectl kube-controller-manager kube-scheduler kubelet pause)
case "${1:-}" in
    "") wanted=("${all[@]}") ;;
    control) wanted=("${control[@]}") ;;
    monitoring) wanted=("${monitoring[@]}") ;;
    *) wanted=("$@") ;;
esac

missing() {
    local part
    for part in "${wanted[@]}"; do [ -e "$bin/$part" ] || echo "$part"; done
}

# A part's module folder and package.
source_of() {
    case $1 in
        etcd) echo . go.etcd.io/etcd/server/v3 ;;
        prometheus) echo prometheus github.com/prometheus/prometheus/cmd/prometheus ;;
        pod-monitor) echo pod-monitor . ;;
        *) echo . "k8s.io/kubernetes/cmd/$1" ;;
    esac
}

# Downloads missing modules. Distinguishes a missing network from a broken module.
fetch() {
    local module package said
    read -r module package < <(source_of "$1")
    said=$(cd "$module" && go list -mod=readonly -deps "$package" 2>&1 >/dev/null) && return
    echo "$said" | tail -n 5 >&2
    if grep -qE 'dial tcp|no such host|i/o timeout|proxyconnect|module lookup disabled' <<<"$said"; then
        echo "cluster: no Go modules: no network" >&2
        exit 3
    fi
    exit 1
}

build() {
    local module package arguments=()
    # The process of a sandbox. Static: its image has no other file.
    if [ "$1" = pause ]; then
        cc -Os -static -o "$bin/pause.new" pause.c
    else
        fetch "$1"
        read -r module package < <(source_of "$1")
        # One kind of discovery of two dozen, which are most of the build.
        [ "$1" != prometheus ] || arguments=(-tags "remove_all_sd enable_kubernetes_sd")
        (cd "$module" && go build -mod=readonly "${arguments[@]}" -trimpath -buildvcs=false -gcflags=all=-dwarf=false \
            -ldflags "$ldflags" -o "$bin/$1.new" "$package") >&2
    fi
    # Atomic, in case of an interruption.
    mv "$bin/$1.new" "$bin/$1"
}

if [ -n "$(missing)" ]; then
    mkdir -p "$bin"
    # A second build waits for the first, and finds nothing left to do.
    exec 9>"$cache/build.lock"
    flock 9
    # An older Go downloads the version that go.mod requires, if permitted.
    go env GOVERSION >/dev/null 2>&1 || { echo "cluster: no Go 1.24 or newer" >&2; exit 3; }
    fetch etcd
    kubernetes=$(go list -mod=readonly -m -f '{{.Version}}' k8s.io/kubernetes)
    IFS=. read -r major minor _ <<<"${kubernetes#v}"
    ldflags="-s -w"
    # Without it, the parts report version 0.0.0.
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        ldflags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=$major -X $package.gitMinor=$minor"
    done
    # Static: the parts run in any mount namespace and need no C compiler. Less frequent garbage collection
    # trades memory for time.
    export CGO_ENABLED=0 GOGC=${GOGC:-400}
    for part in $(missing); do
        echo "cluster: building $part into $bin, for Kubernetes $kubernetes (once)" >&2
        build "$part"
    done
fi
echo "$bin"
