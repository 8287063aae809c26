# The certificates and kubeconfigs of a cluster, with the users and groups of its role bindings.
# Sourced.
# shellcheck shell=bash disable=SC2154 # from lib.sh

# `issue NAME SUBJECT EXTENSION…`: a key and a certificate, signed by the authority in `authority`, by default
# the cluster's. Elliptic curves, because a dozen RSA keys take seconds.
issue() {
    local name=$1 subject=$2 extension arguments=()
    shift 2
    for extension in "$@"; do arguments+=(-addext "$extension"); done
    [ "$name" = "${authority:=ca}" ] || arguments+=(-CA "$pki/$authority.crt" -CAkey "$pki/$authority.key")
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 30 \
        -config "$pki/openssl.conf" -subj "$subject" -keyout "$pki/$name.key" -out "$pki/$name.crt" \
        "${arguments[@]}" 2>"$pki/openssl.log" || { cat "$pki/openssl.log" >&2; return 1; }
}

# `leaf NAME SUBJECT clientAuth|serverAuth [EXTENSION…]`
leaf() {
    local name=$1 subject=$2 usage=$3
    shift 3
    issue "$name" "$subject" basicConstraints=critical,CA:false keyUsage=critical,digitalSignature \
        "extendedKeyUsage=$usage" "$@"
}

# `kubeconfig NAME FILE`: a self-contained kubeconfig with that certificate.
kubeconfig() {
    cat >"$2" <<YAML
apiVersion: v1
kind: Config
current-context: wylis-cluster
contexts: [{name: wylis-cluster, context: {cluster: wylis-cluster, user: $1}}]
clusters:
  - name: wylis-cluster
    cluster:
      server: https://$plane_ip:6443
      certificate-authority-data: $(base64 -w 0 "$pki/trusted.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w 0 "$pki/$1.crt")
      client-key-data: $(base64 -w 0 "$pki/$1.key")
YAML
}

make_server_certificate() {
    local names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
    leaf apiserver "/CN=kube-apiserver" serverAuth \
        "subjectAltName=$names,DNS:kubernetes.default.svc.cluster.local,IP:$plane_ip,IP:$service_ip"
}

# Rewrites the trusted authorities in all kubeconfigs; running processes need a restart.
write_kubeconfigs() {
    local node
    kubeconfig admin "$KUBECONFIG"
    kubeconfig controller-manager "$state/controller-manager.conf"
    kubeconfig scheduler "$state/scheduler.conf"
    for node in "${all_nodes[@]}"; do
        [ ! -e "$pki/$node-client.crt" ] || kubeconfig "$node-client" "$state/$node/kubelet.conf"
    done
}

make_authority() {
    mkdir -p "$pki"
    # Without the machine's OpenSSL configuration, which makes every certificate an authority.
    printf '[req]\ndistinguished_name = name\n[name]\n' >"$pki/openssl.conf"
    issue ca "/CN=kubernetes" basicConstraints=critical,CA:true keyUsage=critical,keyCertSign,cRLSign
    cp "$pki/ca.crt" "$pki/trusted.crt"
    make_server_certificate
    leaf apiserver-kubelet "/O=system:masters/CN=kube-apiserver-kubelet-client" clientAuth
    leaf admin "/O=system:masters/CN=kubernetes-admin" clientAuth
    leaf controller-manager "/CN=system:kube-controller-manager" clientAuth
    leaf scheduler "/CN=system:kube-scheduler" clientAuth
    make_token_key
    write_kubeconfigs
}

# Replaces the API server's authority in three steps.
replace_server_authority() {
    case $1 in
        announce)
            authority=server-ca issue server-ca "/CN=kubernetes-2" basicConstraints=critical,CA:true \
                keyUsage=critical,keyCertSign,cRLSign
            cat "$pki/ca.crt" "$pki/server-ca.crt" >"$pki/trusted.crt"
            ;;
        switch) authority=server-ca make_server_certificate ;;
        forget) cp "$pki/server-ca.crt" "$pki/trusted.crt" ;;
        *) die "announce, switch or forget" ;;
    esac
    write_kubeconfigs
}

# A node's client certificate for the API server, and its serving certificate.
make_node_identity() {
    leaf "$1-client" "/O=system:nodes/CN=system:node:$1" clientAuth
    leaf "$1-server" "/O=system:nodes/CN=system:node:$1" serverAuth "subjectAltName=DNS:$1,IP:$(node_ip "$1")"
    kubeconfig "$1-client" "$state/$1/kubelet.conf"
}
