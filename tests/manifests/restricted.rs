//! The *restricted* Pod Security Standard, checked without a cluster, field by field as in the standard's
//! table. In a cluster, the namespace's label makes the API server enforce it.

use serde_json::{Value, json};

use crate::objects::object;

/// Volume types that the standard allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The rules that a pod's specification breaks.
fn broken(pod: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rule = |holds: bool, name: &str| {
        if !holds {
            broken.push(name.to_owned());
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        rule(pod[field].is_null() || pod[field] == false, field);
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let types = volume.as_object().into_iter().flat_map(|fields| fields.keys());
        let known = types.filter(|key| *key != "name").all(|key| VOLUMES.contains(&key.as_str()));
        rule(known, "volumes");
    }
    rule(pod["securityContext"]["sysctls"].is_null(), "sysctls");
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        for container in pod[containers].as_array().into_iter().flatten() {
            check_container(&pod["securityContext"], container, &mut rule);
        }
    }
    broken
}

fn check_container(pod: &Value, container: &Value, rule: &mut impl FnMut(bool, &str)) {
    let own = &container["securityContext"];
    // The container's field overrides the pod's.
    let either = |field: &str| if own[field].is_null() { &pod[field] } else { &own[field] };
    rule(own["privileged"].is_null() || own["privileged"] == false, "privileged");
    rule(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
    rule(*either("runAsNonRoot") == true, "runAsNonRoot");
    rule(*either("runAsUser") != 0, "runAsUser");
    let seccomp = &either("seccompProfile")["type"];
    rule(*seccomp == "RuntimeDefault" || *seccomp == "Localhost", "seccompProfile");
    let dropped = own["capabilities"]["drop"].as_array();
    rule(dropped.is_some_and(|names| names.contains(&json!("ALL"))), "capabilities.drop");
    let added = own["capabilities"]["add"].as_array().into_iter().flatten();
    rule(added.into_iter().all(|name| name == "NET_BIND_SERVICE"), "capabilities.add");
    rule(own["procMount"].is_null() || own["procMount"] == "Default", "procMount");
    for port in container["ports"].as_array().into_iter().flatten() {
        rule(port["hostPort"].is_null(), "hostPort");
    }
}

fn pod() -> Value {
    object("DaemonSet")["spec"]["template"]["spec"].clone()
}

#[test]
fn the_pod_is_restricted() {
    assert_eq!(broken(&pod()), Vec::<String>::new());
    let namespace = object("Namespace");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn each_rule_of_the_standard_can_be_broken() {
    let container = "/containers/0/securityContext";
    for (at, value, rule) in [
        ("/hostNetwork", json!(true), "hostNetwork"),
        ("/securityContext/runAsNonRoot", json!(false), "runAsNonRoot"),
        ("/securityContext/runAsUser", json!(0), "runAsUser"),
        ("/securityContext/seccompProfile/type", json!("Unconfined"), "seccompProfile"),
        ("/volumes/0", json!({"name": "state", "hostPath": {"path": "/"}}), "volumes"),
        ("/containers/0/ports/0", json!({"containerPort": 9050, "hostPort": 9050}), "hostPort"),
        (&format!("{container}/allowPrivilegeEscalation"), json!(true), "allowPrivilegeEscalation"),
        (&format!("{container}/capabilities/drop"), json!([]), "capabilities.drop"),
        (
            &format!("{container}/capabilities"),
            json!({"drop": ["ALL"], "add": ["NET_RAW"]}),
            "capabilities.add",
        ),
    ] {
        let mut pod = pod();
        let (parent, field) = at.rsplit_once('/').expect("a pointer");
        let parent = pod.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is missing"));
        match parent.as_array_mut() {
            Some(list) => list[field.parse::<usize>().expect("an index")] = value,
            None => parent[field] = value,
        }
        assert_eq!(broken(&pod), [rule], "{at}");
    }
}
