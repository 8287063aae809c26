#!/usr/bin/env bash
# Installs what the tests need beyond Rust and a C compiler: Debian packages (as root), parts of Rust through
# rustup, Python packages into build/venv. Prints what is still missing and what needs it, which is not an
# error: the tests skip those parts and list them. Uses no network if nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

machine=$(uname -m)
# Kubernetes' schemas, Grafana's published types.
python=(kubernetes-validate==1.37.0 'grafana-foundation-sdk==1769699998!10.1.0')

has_target() { [ -d "$(rustc --print target-libdir --target "$1" 2>/dev/null)" ]; }
has_venv() { [ "$(cat build/venv/holds 2>/dev/null)" = "${python[*]}" ]; }
# Debian packages the venv module apart from the interpreter.
has_python() { has_venv || python3 -c 'import ensurepip, venv' 2>/dev/null; }
# Debian's Go is too old to build Kubernetes or Prometheus.
has_go() { [ "$(printf '%s\n' "go$1" "$(go env GOVERSION)" | sort -V | head -n 1)" = "go$1" ]; }
# An engine that already answers (perhaps on another machine) needs no dockerd here.
has_engine() { command -v docker && { command -v dockerd || timeout 10 docker info; }; } >/dev/null 2>&1

# part | check | Debian packages | rustup arguments | needed by
parts() {
    cat <<'PARTS'
a C compiler|command -v cc|gcc libc6-dev||every build
musl-gcc|command -v musl-gcc|musl-tools||the static binary, the image, most integration tests
Rust's musl target|has_target "$machine-unknown-linux-musl"||target add MACHINE-unknown-linux-musl|the static binary, the image, most integration tests
clippy|cargo clippy --version||component add clippy|make lint
rustfmt|cargo fmt --version||component add rustfmt|make fmt, make lint
iproute2|command -v ip|iproute2||tests with several hosts, tests against a real API server
nftables|command -v nft|nftables||tests with faults on the path, the count of packets per probe
wireguard-go|command -v wireguard-go|wireguard-go||tests on tunnels
wireguard-tools|command -v wg|wireguard-tools||tests on tunnels
util-linux|command -v setpriv && command -v prlimit && command -v nsenter|util-linux||tests on tunnels, tests against a real API server
curl|command -v curl|curl||the count of packets per probe, tests against a real API server
a container engine|has_engine|docker.io||image tests
promtool|command -v promtool|prometheus||tests of the metrics format, of the alerts, of a scrape by a real Prometheus
Alertmanager|command -v amtool && command -v prometheus-alertmanager|prometheus-alertmanager||the test of the Alertmanager example
Go 1.24 or newer|has_go 1.24|||tests against a real API server
Go 1.25 or newer|has_go 1.25|||make e2e on this machine
containerd|command -v containerd && command -v ctr|containerd||make e2e on this machine
runc|command -v runc|runc||make e2e on this machine
CNI plugins|[ -x /usr/lib/cni/bridge ]|containernetworking-plugins||make e2e on this machine
openssl|command -v openssl|openssl||tests against a real API server, make e2e on this machine
Chromium|command -v chromium && command -v chromedriver|chromium chromium-driver fonts-dejavu-core||tests of the page in a browser, its screenshots
pngquant|command -v pngquant|pngquant||make screenshots
Python with venv|has_python|python3-venv||tests of the manifests against Kubernetes' schemas, of the dashboard against Grafana's types
PARTS
    # The image's second architecture. The reverse (amd64 on arm64) is not tested.
    if [ "$machine" = x86_64 ]; then
        cat <<'PARTS'
a compiler for arm64|command -v aarch64-linux-gnu-gcc && [ -d /usr/aarch64-linux-gnu/include ]|gcc-aarch64-linux-gnu libc6-dev-arm64-cross||the arm64 binary
Rust's musl target for arm64|has_target aarch64-unknown-linux-musl||target add aarch64-unknown-linux-musl|the arm64 binary
qemu for arm64|command -v qemu-aarch64-static|qemu-user-static||running the arm64 binary
PARTS
    fi
}

# Calls `$1 part packages rustup dependents` for each missing part.
each_missing() {
    local part check packages rustup dependents
    while IFS='|' read -r -u 3 part check packages rustup dependents; do
        eval "$check" >/dev/null 2>&1 || "$1" "$part" "$packages" "${rustup/MACHINE/$machine}" "$dependents"
    done 3< <(parts)
}

wanted=()
add_packages() { read -r -a more <<<"$2"; wanted+=("${more[@]}"); }

# Some packages start a service. Debian's policy-rc.d prevents that, unless the machine has its own policy.
# With systemd, the service is also kept from starting at boot.
install_packages() {
    local policy=/usr/sbin/policy-rc.d package units
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    echo "setup: installing ${wanted[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -q -y --no-install-recommends "${wanted[@]}"; } \
        >build/apt.log 2>&1 || { echo "setup: apt-get failed; end of build/apt.log:"; tail -n 5 build/apt.log; }
    [ -d /run/systemd/system ] || return 0
    for package in "${wanted[@]}"; do
        case $package in
            docker.io) units=(docker.service docker.socket containerd.service) ;;
            containerd) units=(containerd.service) ;;
            prometheus) units=(prometheus.service) ;;
            prometheus-alertmanager) units=(prometheus-alertmanager.service) ;;
            *) continue ;;
        esac
        systemctl disable --quiet "${units[@]}" || true
    done
}

install_rust_part() {
    local arguments
    read -r -a arguments <<<"$3"
    if [ ${#arguments[@]} -gt 0 ] && command -v rustup >/dev/null; then
        rustup "${arguments[@]}" >build/rustup.log 2>&1 || { echo "setup: rustup $3 failed:"; tail -n 3 build/rustup.log; }
    fi
}

install_venv() {
    echo "setup: installing ${python[*]} into build/venv"
    rm -rf build/venv
    if { python3 -m venv build/venv && build/venv/bin/pip install --quiet "${python[@]}"; } >build/pip.log 2>&1; then
        echo "${python[*]}" >build/venv/holds
    else
        echo "setup: pip failed; end of build/pip.log:"
        tail -n 3 build/pip.log
    fi
}

missing=0
name_missing() {
    missing=$((missing + 1))
    echo "setup: missing: $1${2:+ (Debian: $2)}${3:+ (rustup $3)}; needed by: $4"
}

mkdir -p build
each_missing add_packages
if [ ${#wanted[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then
    install_packages
fi
each_missing install_rust_part
has_venv || { has_python && install_venv; } || true

each_missing name_missing
has_venv || name_missing "${python[*]}" "" "" "tests of the manifests against Kubernetes' schemas, of the dashboard against Grafana's types"
[ "$missing" -gt 0 ] || echo "setup: nothing is missing"
