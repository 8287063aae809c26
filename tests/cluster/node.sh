# A node: containerd and a kubelet in their own network namespace, mount namespace and control group, with the
# paths of a real node. Sourced.
# shellcheck shell=bash disable=SC2154 # from lib.sh

# Holds the node's namespaces while the node runs; the node's other processes join it. The mounts end with the
# last process.
hold_node() {
    local node=$1 path value
    # /run has mounts of other namespaces' names; a copy here would keep those namespaces alive.
    umount --recursive --lazy /run/netns 2>/dev/null || true
    mount -t tmpfs -o mode=755 run /run
    mount --bind "$state/$node/lib" /var/lib
    mount --bind "$state/$node/log" /var/log
    mkdir -p /run/netns
    # The kubelet would set these for the whole machine: give it files with the values it wants.
    while read -r path value; do
        echo "$value" >"/run/${path//\//.}"
        mount --bind "/run/${path//\//.}" "/proc/sys/$path"
    done <<'VALUES'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
VALUES
    mount --make-rshared /
    touch /run/node-is-up
    exec sleep infinity
}

# `in_node NAME command…`
in_node() {
    local holder
    holder=$(pid_of "$1/holder") || die "$1 is down"
    shift
    nsenter --target "$holder" --net --mount -- "$@"
}

node_process() {
    local node=$1 name=$2 holder
    shift 2
    holder=$(pid_of "$node/holder")
    spawn "$node/$name" "$group/$node/daemons" nsenter --target "$holder" --net --mount -- "$@"
}

make_node_network() {
    local node=$1
    make_host "$prefix-$node" "$(node_ip "$node")"
    ip -n "$prefix-$node" route add default via "$plane_ip"
    route_to_pods "$prefix-$node" "$node"
    nsenter "--net=/run/netns/$prefix-$node" sysctl -qw net.ipv4.ip_forward=1
    # In place of kube-proxy: the only service that the agents use.
    nsenter "--net=/run/netns/$prefix-$node" nft -f - <<NFT
table ip services {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr $service_ip tcp dport 443 dnat to $plane_ip:6443
  }
}
NFT
}

# The configuration that a network plugin installs on a node.
write_network_configuration() {
    local node=$1
    cat >"$state/$node/lib/cni/net.d/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {
    "type": "host-local", "ranges": [[{"subnet": "$(pods_of "$node").0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
}

write_node_configuration() {
    local node=$1 dir=$state/$1
    mkdir -p "$dir/lib/cni/net.d" "$dir/log"
    cat >"$dir/containerd.toml" <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "wylis.test/pause:1"
  # Root in a sandbox may lack CAP_SYS_RESOURCE, which lowering the OOM score needs.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/var/lib/cni/net.d"
TOML
    # No eviction and no image clean-up: the fill level of this machine's disk does not matter. Pod volumes
    # sync every 10 s rather than every minute, for shorter tests.
    cat >"$dir/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$group/$node
failCgroupV1: false
failSwapOn: false
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/$node-server.crt
tlsPrivateKeyFile: $pki/$node-server.key
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: /dev/null
evictionHard: {imagefs.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 4s
syncFrequency: 10s
nodeLeaseDurationSeconds: 20
YAML
}

# Starts everything but the kubelet, which needs the API server.
prepare_node() {
    local node=$1
    mkdir -p "$state/$node"
    make_group "$group/$node/daemons"
    ip netns pids "$prefix-$node" >/dev/null 2>&1 || make_node_network "$node"
    [ -e "$state/$node/kubelet.conf" ] || make_node_identity "$node"
    write_node_configuration "$node"
    rm -f "$state/$node/lib/cni/net.d/"*
    [ "${2:-}" = without-network ] || write_network_configuration "$node"
    spawn "$node/holder" "$group/$node/daemons" nsenter "--net=/run/netns/$prefix-$node" -- \
        unshare --mount --propagation slave -- bash "$here/cluster.sh" hold "$node"
    await 10 "$node/holder" in_node "$node" test -e /run/node-is-up
    node_process "$node" containerd containerd --config "$state/$node/containerd.toml"
    await 30 "$node/containerd" in_node "$node" ctr version
    import_images "$node"
}

import_images() {
    local image
    for image in "$state"/images/*.tar; do
        in_node "$1" ctr --namespace k8s.io images import "$image" >/dev/null
    done
}

start_kubelet() {
    local node=$1 taints=()
    # One node has a control plane's taint: no pod without a toleration.
    [ "$node" != n1 ] || taints=(--register-with-taints=node-role.kubernetes.io/control-plane=:NoSchedule)
    node_process "$node" kubelet "$bin/kubelet" --config "$state/$node/kubelet.yaml" \
        --kubeconfig "$state/$node/kubelet.conf" --hostname-override "$node" --node-ip "$(node_ip "$node")" \
        "${taints[@]}"
}

start_node() {
    prepare_node "$@"
    start_kubelet "$1"
}

agents_of() {
    local pid
    for pid in $(members "$group/$1"); do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != wylis ] || echo "$pid"
    done
}

# Kills a node's agents, as a crash does; the kubelet restarts them.
kill_agents() {
    local pid
    for pid in $(agents_of "$1"); do kill -9 "$pid"; done
}

# Prints a file of the service account of a node's agent: token or ca.crt.
secret_of() {
    local pid
    for pid in $(agents_of "$1"); do
        cat "/proc/$pid/cwd/var/run/secrets/kubernetes.io/serviceaccount/$2"
    done
}

# A power failure: all processes and the link end at once. The disk stays for a new start.
crash_node() {
    # Delete the veth by name: waiting sockets keep the namespace alive for a while.
    ip -n "$switch" link del "$prefix-$1" 2>/dev/null || true
    kill_group "$group/$1"
    ip netns del "$prefix-$1" 2>/dev/null || true
}
