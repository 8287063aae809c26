//! An API server that answers 429 or 500 instead of a list.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use wylis_harness::{TempDir, http};

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::observe;
use crate::outage::{FAILED, REFRESH, SLACK, assert_recovers, assert_unaffected, discovery};
use crate::proxy::Proxy;
use crate::rights::ACCOUNT;

/// The Retry-After that the test provokes: far longer than the agents' own 1 to 2 s.
const RETRY_AFTER: u64 = 4;
/// The agents wait up to 25 % longer than Retry-After.
const RETRY_MOST: Duration = Duration::from_secs(RETRY_AFTER * 5 / 4);
/// The pause between two polls of a counter, and so the precision of a gap.
const POLL: Duration = Duration::from_millis(100);
/// Many times what the server needs to throttle, or to read its configuration.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the server answers 500.
const BROKEN: Duration = Duration::from_secs(40);

const LEVEL_NAME: &str = "prioritylevelconfiguration/wylis-test";
/// A priority level with one seat and no queue.
const LEVEL: &str = r#"
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: wylis-test}
spec:
  type: Limited
  limited:
    # With no seats of its own, the level lends one to the first request.
    nominalConcurrencyShares: 0
    borrowingLimitPercent: 0
    limitResponse: {type: Reject}
"#;

/// Assigns an account's requests to that level.
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

/// Another account, whose requests fill the level.
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

    /// Occupies the seat until `stop`, with requests whose body never arrives. The server waits 1 min for
    /// each.
    fn occupy(&self, stop: &AtomicBool) {
        let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        while !stop.load(Ordering::Relaxed) {
            let arguments = [&self.identity(), "create", "--raw", review, "-f", "-"];
            let mut command = self.cluster.command(&arguments);
            let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            while child.try_wait().unwrap().is_none() && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(POLL);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends requests until `stop`, and stores the server's last Retry-After.
    fn poll_retry_after(&self, stop: &AtomicBool, asked: &AtomicU64) {
        let proxy = Proxy::start(self.cluster, &[&self.identity()]);
        while !stop.load(Ordering::Relaxed) {
            let path = "/api/v1/namespaces/default/pods";
            let answer = http::get_with(proxy.address, path, &[], PATIENCE).unwrap();
            let after = answer.header("Retry-After").and_then(|seconds| seconds.parse().ok());
            let after = after.filter(|_| answer.status == 429).unwrap_or(0);
            asked.store(after, Ordering::Relaxed);
            // The server doubles Retry-After at three refusals a second, and lowers it below one.
            let pace = if after < RETRY_AFTER { 250 } else { 500 };
            std::thread::sleep(Duration::from_millis(pace));
        }
    }
}

/// An agent's failures with this reason, and all its failures.
fn failures(cluster: &Cluster, pod: &Pod, reason: &str) -> (f64, f64) {
    let metrics = cluster.metrics(pod);
    (metrics.sum(FAILED, &[&format!("reason=\"{reason}\"")]), metrics.sum(FAILED, &[]))
}

/// Waits for two failures of an agent. Returns the time between them.
fn gap_of_failures(cluster: &Cluster, pod: &Pod, reason: &str) -> Duration {
    let (before, _) = failures(cluster, pod, reason);
    let next = |count: f64, limit: Duration| {
        let deadline = Instant::now() + limit;
        while failures(cluster, pod, reason).0 < before + count {
            assert!(Instant::now() < deadline, "{} has not failed within {limit:?}", pod.node);
            std::thread::sleep(POLL);
        }
        Instant::now()
    };
    let first = next(1.0, REFRESH + SLACK);
    next(2.0, RETRY_MOST + SLACK) - first
}

#[test]
fn a_throttled_agent_honours_retry_after_and_continues_probing() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let before = discovery(&cluster, &pods, FAILED);
    let others = |pod: &Pod| {
        let (throttled, all) = failures(&cluster, pod, "throttled");
        all - throttled
    };
    let others_before: Vec<f64> = pods.iter().map(others).collect();
    let mut counters = observe::begin(&cluster, &pods);
    let undo = Undo(&cluster, |cluster| {
        let objects = ["flowschema/wylis-test-agents", "flowschema/wylis-test-crowd", LEVEL_NAME];
        cluster.kubectl(&[&["delete", "--ignore-not-found"], &objects[..]].concat());
    });
    cluster.feed(&["apply", "-f", "-"], LEVEL);
    cluster.feed(&["apply", "-f", "-"], &schema("wylis-test-crowd", "default", "default"));
    let (stop, asked, crowd) = (AtomicBool::new(false), AtomicU64::new(0), Crowd::of(&cluster));
    std::thread::scope(|scope| {
        // Also after a failure below: the scope waits for its threads.
        let stop = Stop(&stop);
        scope.spawn(|| crowd.occupy(stop.0));
        scope.spawn(|| crowd.poll_retry_after(stop.0, &asked));
        cluster.wait(PATIENCE, "the server throttles", || {
            asked.load(Ordering::Relaxed) >= RETRY_AFTER
        });
        // From here on, the agents share the level.
        let agents = schema("wylis-test-agents", "wylis", "wylis");
        cluster.feed(&["apply", "-f", "-"], &agents);
        let throttled: Vec<_> = pods
            .iter()
            .map(|pod| scope.spawn(|| gap_of_failures(&cluster, pod, "throttled")))
            .collect();
        // Less than the minute of an occupied seat.
        let time = REFRESH + RETRY_MOST + SLACK;
        assert_unaffected(&cluster, &mut counters, &pods, time, "API server throttles");
        for (pod, gap) in pods.iter().zip(throttled) {
            let gap = gap.join().unwrap();
            println!("{}: next request {gap:.1?} after a 429", pod.node);
            let least = Duration::from_secs(RETRY_AFTER) - 2 * POLL;
            assert!(gap >= least && gap < RETRY_MOST + SLACK, "{}: {gap:?}", pod.node);
        }
        assert_eq!(pods.iter().map(others).collect::<Vec<_>>(), others_before);
        let what = "API server throttles no more";
        assert_recovers(&cluster, &pods, &before, RETRY_MOST, what, || {
            drop(undo);
            cluster.wait(PATIENCE, "the server throttles no request", || {
                asked.load(Ordering::Relaxed) == 0
            });
        });
    });
}

/// Runs the function when dropped, also after a failure.
struct Undo<'a>(&'a Cluster, fn(&Cluster));

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        (self.1)(self.0);
    }
}

/// Sets the flag when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_server_error_is_counted_as_one_and_probing_continues() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let mut counters = observe::begin(&cluster, &pods);
    let total = discovery(&cluster, &pods, FAILED);
    let before: Vec<_> = pods.iter().map(|pod| failures(&cluster, pod, "server_error")).collect();
    let undo = Undo(&cluster, |cluster| cluster.script(&["authorization", "whole"]));
    cluster.script(&["authorization", "broken"]);
    let account = format!("--as={ACCOUNT}");
    cluster.wait(PATIENCE, "the server answers 500", || {
        let result = cluster.attempt(&["-n", NAMESPACE, "get", "pods", &account]);
        result.is_err_and(|error| error.contains("InternalError"))
    });
    assert_unaffected(&cluster, &mut counters, &pods, BROKEN, "API server answers 500");
    for (pod, before) in pods.iter().zip(before) {
        let now = failures(&cluster, pod, "server_error");
        let (errors, all) = (now.0 - before.0, now.1 - before.1);
        println!("{}: {errors} of {all} failures are the server's errors", pod.node);
        // The first at the regular refresh, the second 1 s later.
        assert!(errors >= 2.0 && errors == all, "{}: {before:?}, {now:?}", pod.node);
    }
    let what = "API server whole again";
    assert_recovers(&cluster, &pods, &total, Duration::ZERO, what, || drop(undo));
}
