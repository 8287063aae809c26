//! manifests/monitoring: generated files match their sources, and a plain apply includes none of the folder.

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

/// The only object of a file.
fn manifest(name: &str) -> Value {
    let mut objects = parse(&read(name));
    assert_eq!(objects.len(), 1, "{name}");
    objects.remove(0)
}

/// Whether a folder's generated files match their sources, and the script's output.
fn check(folder: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/monitoring.sh");
    let output = Command::new(script).arg("--check").arg(folder).output().expect("bash");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn generated_files_match_their_sources() {
    let (same, output) = check(&folder());
    assert!(same, "{output}");
    assert_eq!(manifest("prometheus-rule.yaml")["spec"], manifest("wylis.rules.yaml"));
    let map = manifest("grafana-dashboard-configmap.yaml");
    let data = map["data"].as_object().unwrap();
    assert_eq!(data.len(), 1);
    assert_eq!(data["wylis.json"], read("grafana-dashboard.json"));
    // A ConfigMap may hold 1 MiB, but kubectl copies it into an annotation of at most 256 KiB.
    assert!(read("grafana-dashboard-configmap.yaml").len() < 200_000);
}

#[test]
fn a_generated_file_that_differs_from_its_source_is_reported() {
    for name in ["wylis.rules.yaml", "grafana-dashboard.json", "prometheus-rule.yaml"] {
        let dir = TempDir::new("monitoring");
        for file in fs::read_dir(folder()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        assert!(check(dir.path()).0, "the unchanged copy");
        let text = read(name);
        fs::write(dir.path().join(name), text.replacen("Wylis", "Willis", 1)).unwrap();
        let (same, output) = check(dir.path());
        assert!(!same && output.contains("Willis"), "{name}: {output}");
    }
}

#[test]
fn operator_and_sidecar_find_the_objects() {
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
