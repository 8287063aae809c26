//! manifests/monitoring: what is made from another file is so made, and nothing of it is applied unasked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use wylis_harness::TempDir;
use wylis_harness::yaml::parse;

use crate::objects::object;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/monitoring")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect(name)
}

/// The one object of a file.
fn manifest(name: &str) -> Value {
    let mut objects = parse(&read(name));
    assert_eq!(objects.len(), 1, "{name}");
    objects.remove(0)
}

/// Whether the made files of a folder are as they would be made, and what is said otherwise.
fn check(folder: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/monitoring.sh");
    let output = Command::new(script).arg("--check").arg(folder).output().expect("bash");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_made_files_are_as_they_would_be_made() {
    let (same, said) = check(&folder());
    assert!(same, "{said}");
    assert_eq!(manifest("prometheus-rule.yaml")["spec"], manifest("wylis.rules.yaml"));
    let map = manifest("grafana-dashboard-configmap.yaml");
    let data = map["data"].as_object().unwrap();
    assert_eq!(data.len(), 1);
    assert_eq!(data["wylis.json"], read("grafana-dashboard.json"));
    // A ConfigMap holds a MiB, and kubectl keeps a copy of it in an annotation of 256 KiB at most.
    assert!(read("grafana-dashboard-configmap.yaml").len() < 200_000);
}

#[test]
fn a_made_file_that_differs_from_its_source_is_told() {
    for name in ["wylis.rules.yaml", "grafana-dashboard.json", "prometheus-rule.yaml"] {
        let dir = TempDir::new("monitoring");
        for file in fs::read_dir(folder()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        assert!(check(dir.path()).0, "the copy itself");
        let text = read(name);
        fs::write(dir.path().join(name), text.replacen("Wylis", "Willis", 1)).unwrap();
        let (same, said) = check(dir.path());
        assert!(!same && said.contains("Willis"), "{name}: {said}");
    }
}

#[test]
fn the_objects_are_what_operator_and_sidecar_look_for() {
    for (file, version, kind) in [
        ("pod-monitor.yaml", "monitoring.coreos.com/v1", "PodMonitor"),
        ("prometheus-rule.yaml", "monitoring.coreos.com/v1", "PrometheusRule"),
        ("grafana-dashboard-configmap.yaml", "v1", "ConfigMap"),
    ] {
        let object = manifest(file);
        assert_eq!((&object["apiVersion"], &object["kind"]), (&json!(version), &json!(kind)));
        assert_eq!(object["metadata"]["namespace"], "wylis", "{file}");
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "wylis", "{file}");
    }
    let map = manifest("grafana-dashboard-configmap.yaml");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let monitor = manifest("pod-monitor.yaml");
    let daemonset = object("DaemonSet");
    assert_eq!(monitor["metadata"]["name"], "wylis");
    assert_eq!(monitor["spec"]["selector"], daemonset["spec"]["selector"]);
    let endpoints = monitor["spec"]["podMetricsEndpoints"].as_array().unwrap();
    let [endpoint] = endpoints.as_slice() else { panic!("{endpoints:?}") };
    let ports = &daemonset["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(endpoint["port"], ports[0]["name"]);
    assert_eq!(endpoint["path"], "/metrics");
}
