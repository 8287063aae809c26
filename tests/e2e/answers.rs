//! The API server answers, but with no list: its own 429 and its own 500.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use wylis_harness::{TempDir, http};

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::outage::{FAILED, REFRESH, SLACK, assert_recovers, assert_unmoved, discovery};
use crate::proxy::Proxy;
use crate::rights::ACCOUNT;
use crate::watch;

/// What the server is driven to ask for: far more than the agents' own second or two.
const RETRY_AFTER: u64 = 4;
/// The agents wait up to a quarter longer than they are asked to.
const RETRY_MOST: Duration = Duration::from_secs(RETRY_AFTER * 5 / 4);
/// Between two looks at the counters: what a gap between two attempts is known to.
const LOOK: Duration = Duration::from_millis(100);
/// For the server to be driven there, or to have read its configuration: seconds both.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long 500 is the answer.
const BROKEN: Duration = Duration::from_secs(40);

const LEVEL_NAME: &str = "prioritylevelconfiguration/wylis-test";
/// One seat, and nobody waits for it.
const LEVEL: &str = r#"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: wylis-test}
spec:
  type: Limited
  limited:
    # Of no seats at all, one is lent to whoever comes first.
    nominalConcurrencyShares: 0
    borrowingLimitPercent: 0
    limitResponse: {type: Reject}
"#;

/// Sends the requests of an account to that level.
fn schema(name: &str, namespace: &str, account: &str) -> String {
    let rule = json!({
        "subjects": [{
            "kind": "ServiceAccount", "serviceAccount": {"name": account, "namespace": namespace},
        }],
        "resourceRules": [{
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
            "clusterScope": true,
        }],
    });
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": name},
        "spec": {
            "priorityLevelConfiguration": {"name": "wylis-test"}, "matchingPrecedence": 2,
            "rules": [rule],
        },
    })
    .to_string()
}

/// Another account, whose requests crowd the level.
struct Crowd<'a> {
    cluster: &'a Cluster,
    config: TempDir,
}

impl<'a> Crowd<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        let config = TempDir::new("crowd");
        let token = cluster.kubectl(&["-n", "default", "create", "token", "default"]);
        let mut file = cluster.json(&["config", "view", "--raw", "--minify", "--flatten"]);
        file["users"][0]["user"] = json!({"token": token});
        std::fs::write(config.path().join("crowd.conf"), file.to_string()).unwrap();
        Self { cluster, config }
    }

    fn identity(&self) -> String {
        format!("--kubeconfig={}", self.config.path().join("crowd.conf").display())
    }

    /// Takes the seat and keeps it until `stop`, with a request whose body does not come. The server
    /// gives each of them a minute.
    fn sit(&self, stop: &AtomicBool) {
        let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        while !stop.load(Ordering::Relaxed) {
            let arguments = [&self.identity(), "create", "--raw", review, "-f", "-"];
            let mut command = self.cluster.command(&arguments);
            let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            while child.try_wait().unwrap().is_none() && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks again and again until `stop`, and tells for how long the server wants to be left alone.
    fn probe_once(&self, stop: &AtomicBool, asked: &AtomicU64) {
        let proxy = Proxy::start(self.cluster, &[&self.identity()]);
        while !stop.load(Ordering::Relaxed) {
            let path = "/api/v1/namespaces/default/pods";
            let answer = http::get_with(proxy.address, path, &[], PATIENCE).unwrap();
            let after = answer.header("Retry-After").and_then(|seconds| seconds.parse().ok());
            let after = after.filter(|_| answer.status == 429).unwrap_or(0);
            asked.store(after, Ordering::Relaxed);
            // The server asks for twice as long when it had to refuse three in each second, and for
            // less when there is not even one.
            let pace = if after < RETRY_AFTER { 250 } else { 500 };
            std::thread::sleep(Duration::from_millis(pace));
        }
    }
}

/// Failures of an agent with a reason, and with any.
fn failures(cluster: &Cluster, pod: &Pod, reason: &str) -> (f64, f64) {
    let metrics = cluster.metrics(pod);
    (metrics.sum(FAILED, &[&format!("reason=\"{reason}\"")]), metrics.sum(FAILED, &[]))
}

/// Follows an agent's counter until it has failed twice; how far apart.
fn gap_of_failures(cluster: &Cluster, pod: &Pod, reason: &str) -> Duration {
    let (before, _) = failures(cluster, pod, reason);
    let next = |count: f64, limit: Duration| {
        let deadline = Instant::now() + limit;
        while failures(cluster, pod, reason).0 < before + count {
            assert!(Instant::now() < deadline, "{} has not failed within {limit:?}", pod.node);
            std::thread::sleep(LOOK);
        }
        Instant::now()
    };
    let first = next(1.0, REFRESH + SLACK);
    next(2.0, RETRY_MOST + SLACK) - first
}

#[test]
fn an_agent_that_is_throttled_stays_away_for_as_long_as_the_server_asks_and_goes_on_probing() {
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    let before = discovery(&cluster, &pods, FAILED);
    let others = |pod: &Pod| {
        let (throttled, all) = failures(&cluster, pod, "throttled");
        all - throttled
    };
    let others_before: Vec<f64> = pods.iter().map(others).collect();
    let mut watch = watch::begin(&cluster, &pods);
    let undo = Undo(&cluster, |cluster| {
        let objects = ["flowschema/wylis-test-agents", "flowschema/wylis-test-crowd", LEVEL_NAME];
        cluster.kubectl(&[&["delete", "--ignore-not-found"], &objects[..]].concat());
    });
    cluster.feed(&["apply", "-f", "-"], LEVEL);
    cluster.feed(&["apply", "-f", "-"], &schema("wylis-test-crowd", "default", "default"));
    let (stop, asked, crowd) = (AtomicBool::new(false), AtomicU64::new(0), Crowd::of(&cluster));
    std::thread::scope(|scope| {
        // Also when something fails below: the scope waits for its threads.
        let stop = Stop(&stop);
        scope.spawn(|| crowd.sit(stop.0));
        scope.spawn(|| crowd.probe_once(stop.0, &asked));
        cluster.wait(PATIENCE, "the server wants to be left alone", || {
            asked.load(Ordering::Relaxed) >= RETRY_AFTER
        });
        // From here on, the agents are in the same crowd.
        let agents = schema("wylis-test-agents", "wylis", "wylis");
        cluster.feed(&["apply", "-f", "-"], &agents);
        let throttled: Vec<_> = pods
            .iter()
            .map(|pod| scope.spawn(|| gap_of_failures(&cluster, pod, "throttled")))
            .collect();
        // Within the minute that a seat is kept for.
        let time = REFRESH + RETRY_MOST + SLACK;
        assert_unmoved(&cluster, &mut watch, &pods, time, "API server throttles");
        for (pod, gap) in pods.iter().zip(throttled) {
            let gap = gap.join().unwrap();
            println!("{}: asked again {gap:.1?} after a 429", pod.node);
            let least = Duration::from_secs(RETRY_AFTER) - 2 * LOOK;
            assert!(gap >= least && gap < RETRY_MOST + SLACK, "{}: {gap:?}", pod.node);
        }
        assert_eq!(pods.iter().map(others).collect::<Vec<_>>(), others_before);
        let what = "API server throttles no more";
        assert_recovers(&cluster, &pods, &before, RETRY_MOST, what, || {
            drop(undo);
            cluster.wait(PATIENCE, "the server lets everybody in again", || {
                asked.load(Ordering::Relaxed) == 0
            });
        });
    });
}

/// Undoes it when it goes, also when something has failed.
struct Undo<'a>(&'a Cluster, fn(&Cluster));

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        (self.1)(self.0);
    }
}

/// Sets a flag when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_error_of_the_server_is_told_as_one_and_probing_goes_on() {
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    let mut watch = watch::begin(&cluster, &pods);
    let total = discovery(&cluster, &pods, FAILED);
    let before: Vec<_> = pods.iter().map(|pod| failures(&cluster, pod, "server_error")).collect();
    let undo = Undo(&cluster, |cluster| cluster.script(&["authorization", "whole"]));
    cluster.script(&["authorization", "broken"]);
    let account = format!("--as={ACCOUNT}");
    cluster.wait(PATIENCE, "the server answers with an error of its own", || {
        let said = cluster.attempt(&["-n", NAMESPACE, "get", "pods", &account]);
        said.is_err_and(|said| said.contains("InternalError"))
    });
    assert_unmoved(&cluster, &mut watch, &pods, BROKEN, "API server answers 500");
    for (pod, before) in pods.iter().zip(before) {
        let now = failures(&cluster, pod, "server_error");
        let (errors, all) = (now.0 - before.0, now.1 - before.1);
        println!("{}: {errors} of {all} failures are the server's errors", pod.node);
        // The first at the regular refresh, the second a second later.
        assert!(errors >= 2.0 && errors == all, "{}: {before:?}, {now:?}", pod.node);
    }
    let what = "API server whole again";
    assert_recovers(&cluster, &pods, &total, Duration::ZERO, what, || drop(undo));
}
