//! The promises of the manifests, field by field, so that no edit drops one unnoticed.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use wylis_harness::manifest;

use crate::objects::{files, object, objects};

const PORT: u64 = 9050;
/// The default of WYLIS_DRAIN.
const DRAIN_SECONDS: u64 = 5;

fn pod_template() -> Value {
    object("DaemonSet")["spec"]["template"].clone()
}

fn pod() -> Value {
    pod_template()["spec"].clone()
}

fn container() -> Value {
    let containers = pod()["containers"].clone();
    assert_eq!(containers.as_array().map(Vec::len), Some(1), "one container and no sidecar");
    containers[0].clone()
}

#[test]
fn a_plain_apply_creates_the_namespace_first_and_all_objects_in_it() {
    let kinds: Vec<_> =
        objects().iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds.first().map(String::as_str), Some("Namespace"));
    // A pod before its account or quota would be refused for a while.
    assert_eq!(kinds.last().map(String::as_str), Some("DaemonSet"));
    let expected = [
        "DaemonSet",
        "Namespace",
        "NetworkPolicy",
        "ResourceQuota",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected.into());
    assert_eq!(kinds.len(), expected.len());
    for object in objects() {
        let name = &object["metadata"];
        if object["kind"] == "Namespace" {
            assert_eq!(name["name"], "wylis");
        } else {
            assert_eq!(name["namespace"], "wylis", "{} {}", object["kind"], name["name"]);
        }
    }
}

#[test]
fn kubectl_can_apply_every_file_of_the_folder() {
    for file in files() {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(name.ends_with(".yaml"), "{name} is not a manifest");
        // kubectl would read it as an object of an unknown kind.
        assert!(!name.starts_with("kustomization"), "{name} belongs elsewhere");
    }
}

#[test]
fn the_agent_may_list_pods_of_its_namespace_and_nothing_else() {
    let rules = object("Role")["rules"].clone();
    assert_eq!(rules, json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]));
    let binding = object("RoleBinding");
    let role = object("Role")["metadata"]["name"].clone();
    let account = object("ServiceAccount");
    assert_eq!(binding["roleRef"]["kind"], "Role");
    assert_eq!(binding["roleRef"]["name"], role);
    let subject = json!([{"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "wylis"}]);
    assert_eq!(binding["subjects"], subject);
    assert_eq!(pod()["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(account["automountServiceAccountToken"], false);
    assert_eq!(pod()["automountServiceAccountToken"], true);
}

#[test]
fn one_label_selects_every_agent() {
    let daemonset = object("DaemonSet");
    let label = json!({"app.kubernetes.io/name": "wylis"});
    assert_eq!(daemonset["spec"]["selector"]["matchLabels"], label);
    assert_eq!(object("Service")["spec"]["selector"], label);
    assert_eq!(object("NetworkPolicy")["spec"]["podSelector"]["matchLabels"], label);
    assert_eq!(pod_template()["metadata"]["labels"]["app.kubernetes.io/name"], "wylis");
}

#[test]
fn the_port_is_open_to_all_sources_and_the_service_is_headless() {
    let port = json!([{"name": "http", "protocol": "TCP", "containerPort": PORT}]);
    assert_eq!(container()["ports"], port);
    let service = object("Service");
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["ports"][0]["port"], PORT);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
    let policy = object("NetworkPolicy");
    // No `from`, since sources may be rewritten on the path, and no egress rule.
    let ports = ["TCP", "UDP"].map(|protocol| json!({"protocol": protocol, "port": PORT}));
    assert_eq!(policy["spec"]["ingress"], json!([{"ports": ports}]));
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
    assert!(policy["spec"]["egress"].is_null());
}

#[test]
fn prometheus_finds_the_metrics_and_service_meshes_skip_the_pod() {
    let about = pod_template()["metadata"].clone();
    assert_eq!(about["annotations"]["prometheus.io/scrape"], "true");
    assert_eq!(about["annotations"]["prometheus.io/port"], PORT.to_string());
    assert_eq!(about["annotations"]["prometheus.io/path"], "/metrics");
    assert_eq!(about["annotations"]["linkerd.io/inject"], "disabled");
    assert_eq!(about["labels"]["sidecar.istio.io/inject"], "false");
    assert_eq!(about["labels"]["istio.io/dataplane-mode"], "none");
}

#[test]
fn the_pod_runs_on_every_real_node_of_a_built_architecture_in_the_pod_network() {
    let pod = pod();
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    let terms = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let expected = json!([{"matchExpressions": [
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]},
        {"key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"]},
        {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet", "kwok"]},
    ]}]);
    assert_eq!(terms["nodeSelectorTerms"], expected);
    // Unset: the API server drops a `false`, so that each apply would see a difference.
    assert!(pod["hostNetwork"].is_null());
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    let quota = object("ResourceQuota");
    let scope = json!([
        {"scopeName": "PriorityClass", "operator": "In", "values": [pod["priorityClassName"]]}
    ]);
    assert_eq!(quota["spec"]["scopeSelector"]["matchExpressions"], scope);
    // Twice the largest cluster: terminating pods count during an update.
    assert_eq!(quota["spec"]["hard"]["pods"], "10k");
}

/// Whether the DaemonSet schedules a pod on a node with these labels.
fn runs_on(labels: &[(&str, &str)]) -> bool {
    let affinity = &pod()["affinity"]["nodeAffinity"];
    let terms = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    let list = |value: &Value| value.as_array().cloned().expect("a list");
    list(&terms["nodeSelectorTerms"]).iter().any(|term| {
        list(&term["matchExpressions"]).iter().all(|expression| {
            let label = labels.iter().find(|(key, _)| expression["key"] == *key);
            let listed =
                label.is_some_and(|(_, value)| list(&expression["values"]).contains(&json!(value)));
            let wanted = expression["operator"] == "In";
            assert!(wanted || expression["operator"] == "NotIn", "{expression}");
            listed == wanted
        })
    })
}

#[test]
fn virtual_nodes_and_foreign_systems_get_no_pod() {
    let node = |more: &[(&'static str, &'static str)]| {
        [&[("kubernetes.io/os", "linux"), ("kubernetes.io/arch", "arm64")][..], more].concat()
    };
    for more in [
        &[][..],
        &[("eks.amazonaws.com/compute-type", "auto")],
        &[("eks.amazonaws.com/compute-type", "hybrid")],
        &[("type", "gpu")],
    ] {
        assert!(runs_on(&node(more)), "{more:?}");
    }
    for more in [
        [("eks.amazonaws.com/compute-type", "fargate")],
        [("type", "virtual-kubelet")],
        [("type", "kwok")],
    ] {
        assert!(!runs_on(&node(&more)), "{more:?}");
    }
    assert!(!runs_on(&[("kubernetes.io/os", "windows"), ("kubernetes.io/arch", "amd64")]));
    assert!(!runs_on(&[("kubernetes.io/os", "linux"), ("kubernetes.io/arch", "riscv64")]));
}

#[test]
fn the_container_has_the_promised_resources_and_security_context() {
    let container = container();
    let resources =
        json!({"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}});
    assert_eq!(container["resources"], resources);
    let closed = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], closed);
    assert_eq!(pod()["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    // The image's user, which tests/image checks.
    assert_eq!(pod()["securityContext"]["runAsUser"], 65532);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(container["image"], format!("wylis:{version}"));
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    for labels in [&object("DaemonSet")["metadata"], &pod_template()["metadata"]] {
        assert_eq!(labels["labels"]["app.kubernetes.io/version"], version);
    }
}

#[test]
fn the_environment_has_the_agents_identity_and_its_cache() {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let expected = json!([
        field("WYLIS_NODE_NAME", "spec.nodeName"),
        field("WYLIS_POD_NAME", "metadata.name"),
        field("WYLIS_POD_UID", "metadata.uid"),
        {"name": "WYLIS_STATE_DIR", "value": "/var/lib/wylis"},
    ]);
    assert_eq!(container()["env"], expected);
    let state = &container()["volumeMounts"][0];
    assert_eq!(state["mountPath"], "/var/lib/wylis");
    assert_eq!(pod()["volumes"][0]["name"], state["name"]);
    // Beyond it, the kubelet evicts the pod: both files fit, each twice while it is replaced.
    let limit = pod()["volumes"][0]["emptyDir"]["sizeLimit"].as_str().unwrap().to_owned();
    let mebibytes: f64 = limit.strip_suffix("Mi").unwrap().parse().unwrap();
    let bounds = wylis_harness::bounds::documented();
    let files =
        bounds.iter().filter(|bound| ["MAX_FILE", "MAX_HISTORY"].contains(&&*bound.constant));
    let most: Vec<f64> = files.map(|bound| 2.0 * bound.value).collect();
    assert_eq!(most.len(), 2);
    assert!(most.iter().sum::<f64>() <= mebibytes * 1024.0 * 1024.0, "{most:?}");
}

#[test]
fn every_variable_in_the_manifests_is_a_known_setting() {
    let help = Command::new(env!("CARGO_BIN_EXE_wylis")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known: BTreeSet<&str> =
        help.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    for variable in container()["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(known.contains(name), "{name} is not in `wylis --help`:\n{help}");
    }
}

#[test]
fn the_kubelets_probes_use_the_health_routes_with_patience() {
    for (probe, path, patience) in
        [("livenessProbe", "/healthz", 60), ("readinessProbe", "/readyz", 15)]
    {
        let probe = &container()[probe];
        assert_eq!(probe["httpGet"], json!({"path": path, "port": "http"}));
        let number = |field: &str| probe[field].as_u64().unwrap();
        assert!(number("periodSeconds") * number("failureThreshold") >= patience, "{path}");
        assert!(number("timeoutSeconds") >= 5, "{path}");
    }
}

#[test]
fn an_update_keeps_most_agents_running_and_gives_each_time_to_drain() {
    let daemonset = object("DaemonSet");
    let expected = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%"}});
    assert_eq!(daemonset["spec"]["updateStrategy"], expected);
    // Peers refresh early for a new instance, at most once in 10 s.
    assert!(manifest::min_ready().as_secs() > 10);
    let grace = pod()["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace >= 2 * DRAIN_SECONDS, "{grace} s are too few to drain");
    // tests/lifecycle plays the controller and the kubelets with the same figures.
    let min_ready = daemonset["spec"]["minReadySeconds"].as_u64().unwrap();
    assert_eq!(manifest::min_ready().as_secs(), min_ready);
    assert_eq!(manifest::grace().as_secs(), grace);
    assert_eq!([1, 8, 9].map(manifest::max_unavailable), [1, 2, 3], "a quarter, rounded up");
    // The drain has its default.
    let variables = container()["env"].clone();
    assert!(variables.as_array().unwrap().iter().all(|one| one["name"] != "WYLIS_DRAIN"));
}
