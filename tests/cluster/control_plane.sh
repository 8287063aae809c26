# The control plane: etcd, API server, controller manager and scheduler, in one network namespace.
# Sourced.
# shellcheck shell=bash disable=SC2154 # from lib.sh

kubectl() { "$bin/kubectl" "$@"; }

plane_process() {
    local name=$1
    shift
    spawn "$name" "$group/plane" nsenter "--net=/run/netns/$plane" -- "$@"
}

start_etcd() {
    # Only this namespace reaches its loopback. Without fsync: no data outlives the machine.
    plane_process etcd "$bin/etcd" --name plane --data-dir "$state/etcd-data" --unsafe-no-fsync \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster plane=http://127.0.0.1:2380 --log-level warn
}

await_etcd() {
    await 30 etcd nsenter "--net=/run/netns/$plane" -- curl --silent --fail http://127.0.0.1:2379/health
}

save_etcd() {
    stop_process etcd
    rm -rf "$state/etcd-saved"
    cp -a "$state/etcd-data" "$state/etcd-saved"
    start_etcd
    await_etcd
}

restore_etcd() {
    stop_process apiserver
    stop_process etcd
    rm -rf "$state/etcd-data"
    cp -a "$state/etcd-saved" "$state/etcd-data"
    start_etcd
    await_etcd
}

# The newest key signs tokens; tokens of all existing keys are accepted.
newest_token_key() { find "$pki" -name 'service-account-*.key' | sort | tail -n 1; }

make_token_key() {
    local name
    name=$pki/service-account-$(date +%s%N)
    openssl ecparam -genkey -noout -name prime256v1 -out "$name.key"
    openssl ec -in "$name.key" -pubout -out "$name.pub" 2>/dev/null
}

drop_old_token_keys() {
    local newest key
    newest=$(newest_token_key)
    for key in "$pki"/service-account-*.key; do
        [ "$key" = "$newest" ] || rm "$key" "${key%.key}.pub"
    done
}

# Node and RBAC authorize. With `broken`, a webhook without a listener comes first for the agents, and its
# failure makes the server answer 500. A running server reloads this file.
write_authorization() {
    local broken=""
    if [ "$1" = broken ]; then
        broken="
  - type: Webhook
    name: unreachable
    webhook:
      failurePolicy: Deny
      timeout: 3s
      authorizedTTL: 1s
      unauthorizedTTL: 1s
      subjectAccessReviewVersion: v1
      matchConditionSubjectAccessReviewVersion: v1
      matchConditions: [{expression: request.user == 'system:serviceaccount:wylis:wylis'}]
      connectionInfo: {type: KubeConfigFile, kubeConfigFile: $state/unreachable.conf}"
        # Port 1 has no listener: the connection is refused at once.
        sed 's|server: .*|server: https://127.0.0.1:1|' "$KUBECONFIG" >"$state/unreachable.conf"
    fi
    cat >"$state/authorization.new" <<YAML
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:$broken
  - {type: Node, name: node}
  - {type: RBAC, name: rbac}
YAML
    mv "$state/authorization.new" "$state/authorization.yaml"
}

start_apiserver() {
    local key accepted=()
    [ -e "$state/authorization.yaml" ] || write_authorization whole
    # The agents' requests only.
    printf '%s\n' 'apiVersion: audit.k8s.io/v1' 'kind: Policy' 'omitStages: [RequestReceived]' 'rules:' \
        '  - {level: Metadata, users: ["system:serviceaccount:wylis:wylis"]}' '  - {level: None}' >"$state/audit.yaml"
    for key in "$pki"/service-account-*.pub; do accepted+=(--service-account-key-file "$key"); done
    plane_process apiserver "$bin/kube-apiserver" --advertise-address "$plane_ip" --secure-port 6443 \
        --etcd-servers http://127.0.0.1:2379 --authorization-config "$state/authorization.yaml" \
        --enable-admission-plugins NodeRestriction,PodSecurity,ServiceAccount \
        --client-ca-file "$pki/ca.crt" \
        --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
        --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
        --kubelet-client-certificate "$pki/apiserver-kubelet.crt" --kubelet-client-key "$pki/apiserver-kubelet.key" \
        --service-account-issuer https://kubernetes.default.svc.cluster.local \
        --service-account-signing-key-file "$(newest_token_key)" "${accepted[@]}" \
        --service-cluster-ip-range 10.96.0.0/16 --allow-privileged \
        --audit-policy-file "$state/audit.yaml" --audit-log-path "$state/audit.jsonl"
}

# Every user may read the cluster's public information.
await_apiserver() {
    await 60 apiserver curl --silent --fail --cacert "$pki/trusted.crt" "https://$plane_ip:6443/readyz"
}

start_controller_manager() {
    # A dead node is noticed within 20 s rather than 50, for shorter tests.
    plane_process controller-manager "$bin/kube-controller-manager" --bind-address 127.0.0.1 --leader-elect=false \
        --kubeconfig "$state/controller-manager.conf" --use-service-account-credentials \
        --service-account-private-key-file "$(newest_token_key)" --root-ca-file "$pki/trusted.crt" \
        --node-monitor-period 2s --node-monitor-grace-period 20s
}

start_scheduler() {
    plane_process scheduler "$bin/kube-scheduler" --bind-address 127.0.0.1 --leader-elect=false \
        --kubeconfig "$state/scheduler.conf"
}

start_part() {
    case $1 in
        etcd)
            start_etcd
            await_etcd
            ;;
        apiserver)
            start_apiserver
            await_apiserver
            ;;
        controller-manager) start_controller_manager ;;
        scheduler) start_scheduler ;;
        *) die "unknown part: $1" ;;
    esac
}

make_network() {
    ip netns add "$switch"
    ip -n "$switch" link add br0 type bridge
    ip -n "$switch" link set br0 up
    make_host "$plane" "$plane_ip"
    route_to_pods "$plane"
    # This machine is connected too: kubectl and the tests reach the API server and the pods.
    ip link add "$prefix-host" type veth peer name host netns "$switch"
    ip -n "$switch" link set host master br0 up
    ip addr add "$machine_ip/24" dev "$prefix-host"
    ip link set "$prefix-host" up
    route_to_pods ""
}
