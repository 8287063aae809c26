//! A real Prometheus that scrapes a mesh.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use wylis_harness::mesh::{Mesh, Net};
use wylis_harness::{TempDir, http, wait_until};

/// Killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Prometheus {
    /// Starts a Prometheus that scrapes the agents every second for each job. `more` extends its configuration.
    pub(crate) fn start(mesh: &Mesh, jobs: &[&str], more: &str) -> Self {
        let dir = TempDir::new("prometheus");
        let targets: Vec<String> =
            mesh.nodes.values().map(|node| format!("\"{}\"", node.agent.address)).collect();
        let mut config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n{more}\nscrape_configs:\n"
        );
        for job in jobs {
            let targets = targets.join(", ");
            config.push_str(&format!(
                "- job_name: {job}\n  static_configs:\n  - targets: [{targets}]\n"
            ));
        }
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let address = SocketAddr::new(Net::new().fresh(), 9090);
        let child = spawn(&dir, address);
        Self { child, address, dir }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it with SIGTERM, and starts it again on the same data.
    pub(crate) fn restart(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.dir, self.address);
        wait_until(Duration::from_secs(60), "Prometheus is ready again", || {
            http::get(self.address, "/-/ready").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// The `data` of an API answer.
    pub(crate) fn api(&self, path: &str) -> Result<Value, String> {
        let text = http::get(self.address, path).map_err(|error| error.to_string())?.text();
        let mut answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(text) }
    }

    /// The current result of an expression.
    pub(crate) fn try_query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let data = self.api(&format!("/api/v1/query?query={}", percent_encoded(expression)))?;
        data["result"].as_array().cloned().ok_or_else(|| data.to_string())
    }

    /// As [`Prometheus::try_query`], but empty on an error.
    pub(crate) fn query(&self, expression: &str) -> Vec<Value> {
        self.try_query(expression).unwrap_or_default()
    }
}

fn spawn(dir: &TempDir, address: SocketAddr) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.path().join("log"));
    Command::new("prometheus")
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

pub(crate) fn percent_encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
