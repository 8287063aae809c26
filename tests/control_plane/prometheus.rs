//! A real Prometheus discovers each agent once: by the manifests' annotations, or by the PodMonitor, which
//! the operator's own code translates.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use wylis_harness::{TempDir, http};

use crate::agents::Agents;
use crate::plane::{Plane, documents};

/// The usual job: scrapes every pod with the annotation.
const USUAL: &str = r#"
- job_name: kubernetes-pods
  scrape_interval: 1s
  kubernetes_sd_configs: [{role: pod, kubeconfig_file: KUBECONFIG}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: "true"}
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], target_label: __metrics_path__, regex: (.+)}
  - source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port]
    target_label: __address__
    regex: (.+?)(?::\d+)?;(\d+)
    replacement: $1:$2
"#;
const ANNOTATED: &str = "kubernetes-pods";
const MONITORED: &str = "wylis/wylis";

/// A Prometheus process; killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(dir: &Path, configuration: &str) -> Self {
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, configuration).unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let child = Command::new(part("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, address: free }
    }

    /// Job and address of each target whose last scrape succeeded.
    fn scraped(&self) -> Vec<(String, String)> {
        let answer = http::get(self.address, "/api/v1/targets?state=active");
        let text = answer.map(|answer| answer.text()).unwrap_or_default();
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let targets = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let up = targets.iter().filter(|target| target["health"] == "up");
        let mut all: Vec<(String, String)> = up
            .map(|target| {
                let job = target["scrapePool"].as_str().unwrap_or_default();
                // The operator numbers a monitor's endpoints.
                let job = job.trim_start_matches("podMonitor/").trim_end_matches("/0");
                (job.to_owned(), target["labels"]["instance"].as_str().unwrap_or("").to_owned())
            })
            .collect();
        all.sort();
        all
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that `tests/cluster/build.sh monitoring` builds.
fn part(name: &str) -> PathBuf {
    let parts = std::env::var_os("WYLIS_MONITORING");
    PathBuf::from(parts.expect("WYLIS_MONITORING")).join(name)
}

/// A configuration with the job by annotations alone.
fn by_annotations(plane: &Plane) -> String {
    let jobs = USUAL.replace("KUBECONFIG", &plane.state.join("admin.conf").display().to_string());
    format!("scrape_configs:{jobs}")
}

/// The operator's configuration for the PodMonitor, with additional jobs.
fn by_monitor(plane: &Plane, dir: &Path, jobs: &str) -> String {
    let file = dir.join("jobs.yml");
    std::fs::write(&file, jobs).unwrap();
    let monitor = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/monitoring/pod-monitor.yaml");
    let mut command = Command::new(part("pod-monitor"));
    command.arg(monitor).arg(format!("https://{}", plane.address)).arg(plane.state.join("pki"));
    let output = command.arg(&file).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "pod-monitor failed");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until exactly these jobs scrape each agent.
fn assert_scraped(agents: &Agents<'_>, configuration: &str, jobs: &[&str]) {
    let dir = TempDir::new("prometheus");
    let prometheus = Prometheus::start(dir.path(), configuration);
    let mut expected: Vec<(String, String)> = Vec::new();
    for job in jobs {
        for pod in &agents.pods {
            expected.push(((*job).to_owned(), pod.agent.address.to_string()));
        }
    }
    expected.sort();
    agents.wait(&format!("{jobs:?} scrape each agent"), |_| {
        let found = prometheus.scraped();
        let log = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        assert!(found.len() <= expected.len(), "{found:?}, not {expected:?}\n{}", log());
        found == expected
    });
    println!("{} agents are scraped by {jobs:?}", agents.pods.len());
}

/// The DaemonSet without annotations, by the command of docs/monitoring.md.
fn without_annotations(daemonset: &str) -> String {
    let text = wylis_harness::documentation();
    let commands = text.split("sed -i '").skip(1);
    let mut scripts = commands.filter_map(|rest| rest.split('\'').next());
    let script = scripts.find(|script| script.contains("prometheus")).expect("the sed command");
    wylis_harness::netns::feed("sed", &[script], daemonset)
}

#[test]
#[ignore = "needs a Prometheus that knows Kubernetes: make e2e builds it"]
fn prometheus_scrapes_each_agent_once_by_the_annotations_or_by_the_pod_monitor() {
    let Some(plane) = Plane::with_manifests() else { return };
    let dir = TempDir::new("monitor");
    let annotations = by_annotations(&plane);
    let monitor = by_monitor(&plane, dir.path(), "");
    let jobs = annotations.trim_start_matches("scrape_configs:");
    let both = by_monitor(&plane, dir.path(), jobs);

    let agents = Agents::of(&plane, 2);
    assert_scraped(&agents, &annotations, &[ANNOTATED]);
    assert_scraped(&agents, &monitor, &[MONITORED]);
    // Neither job knows of the other.
    assert_scraped(&agents, &both, &[ANNOTATED, MONITORED]);
    drop(agents);

    plane.clear();
    let set = documents().into_iter().find(|document| document.contains("kind: DaemonSet"));
    plane.apply(&without_annotations(&set.unwrap()), "");
    let agents = Agents::of(&plane, 2);
    assert_scraped(&agents, &both, &[MONITORED]);
}
