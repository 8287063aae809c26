#!/usr/bin/env bash
# A real Kubernetes on one machine, for the tests: the real control plane as plain processes, and nodes
# with real kubelets and containerd, in network namespaces of their own. Needs root.
#
#   cluster.sh up [NODES]      brings one up with so many nodes (3), after taking down what is left of another
#   cluster.sh up-plane        brings up etcd and the API server alone, for pods that are objects only
#   cluster.sh down            takes it down: all its processes, namespaces and files
#   cluster.sh stop PART       etcd, apiserver, controller-manager, scheduler, or NODE/kubelet
#   cluster.sh start PART      the same again, ready when this returns
#   cluster.sh crash NODE      takes a node's power away
#   cluster.sh boot NODE [without-network]  starts a node, new or not
#   cluster.sh plug NODE       gives it the network that it was booted without
#   cluster.sh kill-agent NODE ends the agents on a node without a word
#   cluster.sh secret NODE FILE  prints token or ca.crt as the agent on a node sees it
#   cluster.sh server-authority announce|switch|forget  replaces the one who vouches for the API server
#   cluster.sh new-token-key   makes the key that signs tokens from the next start of the API server on
#   cluster.sh drop-old-token-keys  what the others signed is refused from the next start on
#   cluster.sh authorization broken|whole  the API server cannot tell what the agents may, and answers 500
#   cluster.sh save-etcd       keeps a copy of what etcd holds; it is stopped meanwhile
#   cluster.sh restore-etcd    puts that copy back, as from a backup; the API server is to be started after
#   cluster.sh kubeconfig      prints where it is
#   cluster.sh group           prints the control group of all that runs
#   cluster.sh state           prints where all of it is: keys in pki/, what the agents asked in audit.jsonl
#   cluster.sh logs            the end of each log
#
# Several can run beside each other: WYLIS_CLUSTER is the number of the one that is meant, from 0 (the
# default) to 9. Everything of it is in /tmp/wylis-cluster-NUMBER; the programs are where build.sh says.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=pki.sh
source "$here/pki.sh"
# shellcheck source-path=SCRIPTDIR source=images.sh
source "$here/images.sh"
# shellcheck source-path=SCRIPTDIR source=control_plane.sh
source "$here/control_plane.sh"
# shellcheck source-path=SCRIPTDIR source=node.sh
source "$here/node.sh"

down() {
    local name
    kill_group "$group"
    for name in $(ip netns list | awk -v ours="^$prefix-" '$1 ~ ours { print $1 }'); do ip netns del "$name"; done
    ip link del "$prefix-host" 2>/dev/null || true
    rm -rf "$state"
}

# What this machine cannot do is told by the exit code 3, as build.sh does.
check_needs() {
    local program missing=()
    [ "$(id -u)" = 0 ] || { say "needs root, for network namespaces and control groups"; exit 3; }
    for program in "$@"; do command -v "$program" >/dev/null || missing+=("$program"); done
    [ ${#missing[@]} = 0 ] || { say "missing: ${missing[*]} (scripts/setup.sh installs them)"; exit 3; }
}

# Each kubelet takes six, and a machine gives 128 to each user.
raise_limits() {
    local limit=fs.inotify.max_user_instances most=1024
    if [ "$(sysctl -n $limit)" -lt $most ]; then
        sysctl -qw $limit=$most
        say "$limit is $most from now on"
    fi
}

# All that has no need of a node, but for the wait.
begin_plane() {
    down
    mkdir -p "$state"
    make_group "$group/plane"
    make_authority
    make_network
    start_etcd
    start_apiserver
}

up_plane() {
    local began=$SECONDS
    check_needs curl ip nsenter openssl
    "$here/build.sh" control >/dev/null
    begin_plane
    await_apiserver
    say "the control plane is up after $((SECONDS - began)) s"
}

up() {
    local node nodes=() began=$SECONDS waiting=()
    for node in $(seq "${1:-3}"); do nodes+=("n$node"); done
    check_needs curl ip nsenter openssl containerd runc ctr nft /usr/lib/cni/bridge
    raise_limits
    "$here/build.sh" >/dev/null
    begin_plane
    make_images
    for node in "${nodes[@]}"; do
        prepare_node "$node" &
        waiting+=($!)
    done
    await_apiserver
    start_controller_manager
    start_scheduler
    for node in "${waiting[@]}"; do wait "$node"; done
    for node in "${nodes[@]}"; do start_kubelet "$node"; done
    for node in "${nodes[@]}"; do await 60 "$node/kubelet" kubectl get node "$node"; done
    kubectl label node n1 node-role.kubernetes.io/control-plane= >/dev/null
    kubectl wait --for=condition=Ready node --all --timeout=60s >/dev/null
    # Pods are refused until it exists.
    await 30 controller-manager kubectl --namespace default get serviceaccount default
    say "up after $((SECONDS - began)) s: $(kubectl version -o json | sed -n 's/.*"gitVersion": "\(.*\)",/\1/p' | tail -n 1), ${#nodes[@]} nodes"
    say "try: KUBECONFIG=$KUBECONFIG $bin/kubectl get nodes"
}

# One at a time, whoever calls.
exclusively() {
    exec 9>"/run/wylis-cluster-$number.lock"
    flock 9
    "$@"
}

case "${1:-}" in
    up) exclusively up "${2:-3}" ;;
    up-plane) exclusively up_plane ;;
    down) exclusively down ;;
    stop) stop_process "$2" ;;
    start)
        case $2 in
            */kubelet) start_kubelet "${2%/*}" ;;
            *) start_part "$2" ;;
        esac
        ;;
    crash) crash_node "$2" ;;
    boot) start_node "${@:2}" ;;
    plug) write_network_configuration "$2" ;;
    kill-agent) kill_agents "$2" ;;
    secret) secret_of "$2" "$3" ;;
    server-authority) replace_server_authority "$2" ;;
    new-token-key) make_token_key ;;
    drop-old-token-keys) drop_old_token_keys ;;
    authorization) write_authorization "$2" ;;
    save-etcd) save_etcd ;;
    restore-etcd) restore_etcd ;;
    kubeconfig) echo "$KUBECONFIG" ;;
    group) echo "$group" ;;
    state) echo "$state" ;;
    hold) hold_node "$2" ;;
    logs)
        for log in "$state"/*.log "$state"/n*/*.log; do
            [ -e "$log" ] || continue
            echo "== $log"
            tail -n "${2:-5}" "$log"
        done
        ;;
    *) sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
