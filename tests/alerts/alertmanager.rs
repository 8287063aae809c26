//! The Alertmanager example: a real Alertmanager accepts it, and inhibits alerts that another explains.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use wylis_harness::mesh::Net;
use wylis_harness::{TempDir, http, wait_until};

use crate::promtool::is_installed;
use crate::rules;

fn example() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("manifests/monitoring/alertmanager-example.yaml")
}

/// Killed when dropped.
struct Alertmanager {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Alertmanager {
    fn start() -> Self {
        let dir = TempDir::new("alertmanager");
        let address = SocketAddr::new(Net::new().fresh(), 9093);
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", example().display()))
            .arg(format!("--storage.path={}", dir.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        wait_until(Duration::from_secs(30), "Alertmanager is ready", || {
            http::get(address, "/-/ready").is_ok_and(|answer| answer.status == 200)
        });
        Self { child, address, _dir: dir }
    }

    fn amtool(&self, arguments: &[&str]) -> String {
        let url = format!("--alertmanager.url=http://{}", self.address);
        let output = Command::new("amtool").arg(url).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fire(&self, alert: &str) {
        let words: Vec<&str> = ["alert", "add"].into_iter().chain(alert.split(' ')).collect();
        self.amtool(&words);
    }

    /// The active or the inhibited alerts, in the form of [`Alertmanager::fire`].
    fn alerts(&self, which: &str) -> BTreeSet<String> {
        let all: Value =
            serde_json::from_str(&self.amtool(&["alert", "query", which, "-o", "json"])).unwrap();
        let one = |alert: &Value| {
            let labels = alert["labels"].as_object().unwrap();
            let words = labels.iter().map(|(name, value)| match name.as_str() {
                "alertname" => value.as_str().unwrap().to_owned(),
                _ => format!("{name}={}", value.as_str().unwrap()),
            });
            words.collect::<Vec<_>>().join(" ")
        };
        all.as_array().unwrap().iter().map(one).collect()
    }
}

#[test]
fn amtool_accepts_the_example_and_its_alerts_exist() {
    if !is_installed("amtool") {
        return;
    }
    let output = Command::new("amtool").arg("check-config").arg(example()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(example()).unwrap();
    let rules = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = rules.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()));
    let names: BTreeSet<&str> =
        words.filter(|word| word.starts_with("Wylis") && *word != "WylisPair").collect();
    assert!(names.len() > 4, "{names:?}");
    names.into_iter().for_each(|name| drop(rules::alert(name)));
}

#[test]
fn an_alert_that_another_explains_is_inhibited() {
    if !is_installed("amtool") || !is_installed("prometheus-alertmanager") {
        return;
    }
    let manager = Alertmanager::start();
    let active = [
        "WylisNodeDown target_node=n3",
        "WylisNodeCutOff source_node=n5",
        "WylisAgentNotProbing source_node=n6",
        // On other nodes.
        "WylisPairDown source_node=n1 target_node=n2",
        "WylisPairLossy source_node=n3 target_node=n1",
        "WylisAgentMissing target_node=n5",
        "WylisLocalErrors source_node=n5",
    ];
    let inhibited = [
        "WylisPairDown source_node=n1 target_node=n3",
        "WylisPairOneWay source_node=n2 target_node=n3",
        "WylisAgentMissing target_node=n3",
        "WylisPairDown source_node=n5 target_node=n1",
        "WylisPairSlow source_node=n5 target_node=n2",
        "WylisLocalErrors source_node=n6",
        "WylisPeerListStale source_node=n6",
    ];
    active.iter().chain(&inhibited).for_each(|alert| manager.fire(alert));
    let all = |alerts: &[&str]| alerts.iter().map(|alert| (*alert).to_owned()).collect();
    wait_until(Duration::from_secs(30), "all alerts arrived", || {
        manager.alerts("--active").len() + manager.alerts("--inhibited").len() == 14
    });
    assert_eq!(manager.alerts("--inhibited"), all(&inhibited));
    assert_eq!(manager.alerts("--active"), all(&active));
}
