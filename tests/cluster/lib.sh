# Shared by the scripts of the cluster: paths, control groups, processes. Sourced.
# shellcheck shell=bash disable=SC2034 # used by the sourcing scripts

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
say() { echo "cluster: $*" >&2; }
die() { say "$*"; exit 1; }

# Up to ten clusters at once, each in a fixed place, so that a run finds and removes the leftovers of a killed
# one. Machine-wide names and addresses contain the cluster's number.
number=${WYLIS_CLUSTER:-0}
[[ $number =~ ^[0-9]$ ]] || die "WYLIS_CLUSTER is '$number': must be a digit from 0 to 9"
state=/tmp/wylis-cluster-$number
bin=$("$here/build.sh" --path)
pki=$state/pki
export KUBECONFIG=$state/admin.conf

# Prefix of network namespaces and of the veth to this machine.
prefix=wyk$number
switch=$prefix-sw
plane=$prefix-cp
# Addresses in the benchmark range, which no real network uses: ten networks for each cluster. Node N has the
# address .1N; its pods' network is N after that of the nodes.
network=$((100 + 10 * number))
machine_ip=198.18.$network.1
plane_ip=198.18.$network.2
node_ip() { echo "198.18.$network.1${1#n}"; }
pods_of() { echo "198.18.$((network + ${1#n}))"; }
service_ip=10.96.0.1
# All nodes that may join: each node has the routes to all of them from the start.
all_nodes=(n1 n2 n3 n4 n5)

# The control group of all our processes, and no others. After a crash, a pid file may name a foreign process;
# the group cannot.
group=wylis-cluster-$number

is_v2() { [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; }
hierarchies() { if is_v2; then echo /sys/fs/cgroup; else awk '$3 == "cgroup" { print $2 }' /proc/mounts; fi; }
# The hierarchy that lists a group's processes.
members_root() { if is_v2; then echo /sys/fs/cgroup; else echo /sys/fs/cgroup/memory; fi; }

# Creates a group in every hierarchy.
make_group() {
    local root part path
    while read -r root; do
        path=$root
        for part in ${1//\// }; do
            if is_v2; then echo "+cpu +cpuset +memory +pids" >"$path/cgroup.subtree_control"; fi
            [ -d "$path/$part" ] || mkdir "$path/$part"
            # A new group of version 1 has no CPUs and no memory nodes.
            if [ -e "$path/$part/cpuset.cpus" ] && ! is_v2; then
                cat "$path/cpuset.cpus" >"$path/$part/cpuset.cpus"
                cat "$path/cpuset.mems" >"$path/$part/cpuset.mems"
            fi
            path=$path/$part
        done
    done < <(hierarchies)
}

# All pids in a group and below it.
members() {
    local root
    root=$(members_root)
    [ ! -d "$root/$1" ] || find "$root/$1" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

# Kills all processes of a group, and removes the group.
kill_group() {
    local pids root
    for _ in $(seq 200); do
        pids=$(members "$1")
        [ -n "$pids" ] || break
        # shellcheck disable=SC2086 # one word a pid
        kill -9 $pids 2>/dev/null || true
        sleep 0.05
    done
    [ -z "$(members "$1")" ] || die "processes of $1 do not end: $(members "$1" | tr '\n' ' ')"
    while read -r root; do
        [ ! -d "$root/$1" ] || find "$root/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    # Where both versions are mounted, the runtime created groups in the other one too.
    done < <(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts)
}

# Runs in a group: `in_group GROUP command…`; becomes the command.
in_group() {
    local root wanted=$1
    shift
    while read -r root; do echo "$BASHPID" >"$root/$wanted/cgroup.procs"; done < <(hierarchies)
    exec "$@"
}

pid_of() {
    local pid
    pid=$(cat "$state/$1.pid" 2>/dev/null) || return 1
    grep -qs "/$group/" "/proc/$pid/cgroup" || return 1
    echo "$pid"
}

# Starts a process: `spawn NAME GROUP command…`; its log and pid file are in the state folder.
spawn() {
    local name=$1 wanted=$2
    shift 2
    if pid_of "$name" >/dev/null; then return; fi
    mkdir -p "$(dirname "$state/$name")"
    # Detached from our terminal and pipes: otherwise a reader of our output waits for the process's end.
    (in_group "$wanted" setsid "$@") </dev/null >>"$state/$name.log" 2>&1 9>&- &
    echo $! >"$state/$name.pid"
}

# Ends a process as an init system does, but with 2 s of patience: the API server would wait 1 min for its
# watches.
stop_process() {
    local pid
    pid=$(pid_of "$1") || return 0
    kill "$pid"
    for _ in $(seq 40); do
        pid_of "$1" >/dev/null || return 0
        sleep 0.05
    done
    kill -9 "$pid"
}

# Polls a command until it succeeds: `await SECONDS NAME command…`; a failure prints the log of NAME.
await() {
    local seconds=$1 name=$2 end
    shift 2
    end=$((SECONDS + seconds))
    until ("$@") >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            tail -n 20 "$state/$name.log" >&2 || true
            die "$name is not ready after $seconds s: $*"
        fi
        sleep 0.1
    done
}

# Creates a namespace connected to the switch: `make_host NAMESPACE ADDRESS`.
make_host() {
    ip netns add "$1"
    ip -n "$1" link set lo up
    ip link add "$1" netns "$switch" type veth peer name eth0 netns "$1"
    ip -n "$switch" link set "$1" master br0 up
    ip -n "$1" addr add "$2/24" dev eth0
    ip -n "$1" link set eth0 up
}

# Adds routes to the pods of all nodes, except perhaps one; in a namespace, or on this machine for "".
route_to_pods() {
    local node
    for node in "${all_nodes[@]}"; do
        [ "$node" = "${2:-}" ] || ip ${1:+-n "$1"} route replace "$(pods_of "$node").0/24" via "$(node_ip "$node")"
    done
}
