#!/usr/bin/env bash
# A real Kubernetes cluster on one machine, for the tests: the control plane as plain processes, and nodes
# with kubelet and containerd in their own network namespaces. Needs root.
#
#   cluster.sh up [NODES]      starts a cluster with NODES nodes (3), after taking down leftovers
#   cluster.sh up-plane        starts etcd and the API server alone, for pods that are objects only
#   cluster.sh down            removes all its processes, namespaces and files
#   cluster.sh stop PART       stops etcd, apiserver, controller-manager, scheduler, or NODE/kubelet
#   cluster.sh start PART      starts it again, and waits until it is ready
#   cluster.sh crash NODE      ends a node like a power failure
#   cluster.sh boot NODE [without-network]  starts a node, new or not
#   cluster.sh plug NODE       connects the network of a node booted without it
#   cluster.sh in NODE COMMAND…  runs a command in the namespaces of a node
#   cluster.sh kill-agent NODE kills the agents on a node
#   cluster.sh secret NODE FILE  prints token or ca.crt of a node's agent
#   cluster.sh server-authority announce|switch|forget  replaces the API server's certificate authority
#   cluster.sh new-token-key   creates the signing key of tokens, used after the API server's next start
#   cluster.sh drop-old-token-keys  removes the other keys: their tokens are refused after the next start
#   cluster.sh authorization broken|whole  makes the API server answer the agents with 500, or repairs it
#   cluster.sh save-etcd       backs up etcd, which is stopped meanwhile
#   cluster.sh restore-etcd    restores the backup; start the API server afterwards
#   cluster.sh kubeconfig      prints the path of the kubeconfig
#   cluster.sh group           prints the control group of all processes
#   cluster.sh state           prints the folder of its files: keys in pki/, the agents' requests in audit.jsonl
#   cluster.sh logs            prints the end of each log
#
# Up to ten clusters can run at once: WYLIS_CLUSTER is the number of this one, from 0 (the default) to 9. Its
# files are in /tmp/wylis-cluster-NUMBER; build.sh prints the folder of the programs.
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

# Exit code 3: this machine lacks something (as in build.sh).
check_needs() {
    local program missing=()
    [ "$(id -u)" = 0 ] || { say "needs root, for network namespaces and control groups"; exit 3; }
    for program in "$@"; do command -v "$program" >/dev/null || missing+=("$program"); done
    [ ${#missing[@]} = 0 ] || { say "missing: ${missing[*]} (scripts/setup.sh installs them)"; exit 3; }
}

# Each kubelet needs six instances, and the default limit is 128 per user.
raise_limits() {
    local limit=fs.inotify.max_user_instances most=1024
    if [ "$(sysctl -n $limit)" -lt $most ]; then
        sysctl -qw $limit=$most
        say "set $limit to $most"
    fi
}

# Starts everything that needs no node, without waiting.
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
    # The API server refuses pods until it exists.
    await 30 controller-manager kubectl --namespace default get serviceaccount default
    say "up after $((SECONDS - began)) s: $(kubectl version -o json | sed -n 's/.*"gitVersion": "\(.*\)",/\1/p' | tail -n 1), ${#nodes[@]} nodes"
    say "try: KUBECONFIG=$KUBECONFIG $bin/kubectl get nodes"
}

# One command at a time.
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
    in) in_node "${@:2}" ;;
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
