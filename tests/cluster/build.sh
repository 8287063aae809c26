#!/usr/bin/env bash
# Builds the parts of a real cluster from Go modules, once for each state of go.mod and go.sum, and
# prints the folder that holds them. With --path it only prints it. GOFLAGS=-p=1 spares a busy machine.
set -euo pipefail
cd "$(dirname "$0")"

cache=${WYLIS_CLUSTER_CACHE:-${HOME:-/root}/.cache/wylis-cluster}
state=$(cat go.mod go.sum build.sh pause.c | sha256sum | cut -c 1-12)
bin=$cache/$state
if [ "${1:-}" = --path ]; then echo "$bin"; exit; fi
if [ -e "$bin/complete" ]; then echo "$bin"; exit; fi

mkdir -p "$bin"
# Whoever comes second waits for the first; then there is nothing left to do.
exec 9>"$cache/build.lock"
flock 9
if [ -e "$bin/complete" ]; then echo "$bin"; exit; fi

kubernetes=$(go list -mod=readonly -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
ldflags="-s -w"
# Without it, the parts tell one another that they are of version 0.0.0, and clients see it.
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    ldflags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=$major -X $package.gitMinor=$minor"
done
echo "cluster: building Kubernetes $kubernetes into $bin (once; some minutes)" >&2
# Static: they run in namespaces of any make, and need no C compiler.
export CGO_ENABLED=0
# One by one, so that a build that was interrupted has something to go on with.
for part in etcd=go.etcd.io/etcd/server/v3 kubectl kube-apiserver kube-controller-manager kube-scheduler kubelet; do
    name=${part%%=*}
    package=${part#*=}
    [ "$package" != "$name" ] || package=k8s.io/kubernetes/cmd/$name
    if [ ! -e "$bin/$name" ]; then
        go build -mod=readonly -trimpath -buildvcs=false -ldflags "$ldflags" -o "$bin/$name" "$package" >&2
    fi
done
# The one process of a sandbox. Static, as the image holds nothing else.
cc -Os -static -o "$bin/pause" pause.c
touch "$bin/complete"
echo "$bin"
