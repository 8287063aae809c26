//! An API server that is away, and one whose etcd was restored from a backup.

use std::time::{Duration, Instant};

use serde_json::json;
use wylis_harness::kube::{Api as _, MERGE, Request};

use crate::agents::{AgentPod, Agents, path_of, text};
use crate::plane::Plane;

/// The outage: 15 probe intervals.
const AWAY: Duration = Duration::from_secs(15);

/// Waits for a new list of every agent. Returns the time it took.
fn assert_recovers(agents: &Agents<'_>) -> Duration {
    let (begun, before) =
        (Instant::now(), agents.pods.iter().map(AgentPod::lists).collect::<Vec<_>>());
    agents.wait("every agent has a new list", |agents| {
        agents.pods.iter().zip(&before).all(|(pod, before)| pod.lists() > *before)
    });
    begun.elapsed()
}

/// The failed refreshes by reason, for the output.
fn failures_by_reason(agents: &Agents<'_>) -> String {
    let reasons =
        ["network", "timeout", "tls", "unauthorized", "forbidden", "throttled", "server_error"];
    let count = |reason: &&str| {
        let sum: f64 = agents.pods.iter().map(|pod| pod.failures(reason)).sum();
        (sum > 0.0).then(|| format!("{reason} {sum}"))
    };
    reasons.iter().filter_map(count).collect::<Vec<_>>().join(", ")
}

#[test]
fn probing_continues_without_the_server_and_lists_resume_with_it() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 3);
    let successes = || agents.each("wylis_probes_total", &["result=\"success\""]);
    plane.script(&["stop", "apiserver"]);
    let (begun, before) = (Instant::now(), successes());
    agents.wait("every agent counts network failures", |agents| {
        agents.pods.iter().all(|pod| pod.failures("network") >= 2.0) && begun.elapsed() >= AWAY
    });
    for pod in &agents.pods {
        let log = pod.agent.log();
        assert!(log.contains("refused"), "{}: {log}", pod.node);
    }
    // Two peers, one probe a second each; one may be in flight.
    let least = 2 * (begun.elapsed().as_secs() - 1);
    let probed: Vec<f64> =
        successes().iter().zip(&before).map(|(after, before)| after - before).collect();
    println!("away for {:.1?}: {probed:?} probes with success", begun.elapsed());
    assert!(probed.iter().all(|count| *count >= least as f64), "{probed:?}, not {least}");
    assert_eq!(agents.unproven(), [""; 0]);

    plane.script(&["start", "apiserver"]);
    let took = assert_recovers(&agents);
    println!(
        "every agent had a list {took:.1?} after the server was back; failed: {}",
        failures_by_reason(&agents)
    );
    assert_eq!(agents.each("wylis_probes_total", &["result=\"failure\""]), [0.0; 3]);
}

/// After a restore, versions restart at the backup's. The server refuses a request for a later version, and
/// the agent then requests any version.
#[test]
fn agents_recover_from_an_etcd_restored_to_an_older_version() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 2);
    plane.script(&["save-etcd"]);
    let path = path_of(&agents.pods[0].object);
    let version = || text(&plane.admin.read(&path)["metadata"]["resourceVersion"]);
    let change = |number: u32| {
        let body = json!({"metadata": {"annotations": {"number": number.to_string()}}}).to_string();
        plane.admin.send(&Request {
            method: "PATCH",
            path: &path,
            content_type: MERGE,
            body: &body,
        })
    };
    let changed = |number| change(number).is_ok_and(|answer| answer.status == 200);
    agents.wait("the server reaches etcd again", |_| changed(0));
    // More changes than the server itself makes at its start.
    assert!((1..300).all(changed), "a change failed");
    let late = version();
    assert_recovers(&agents);
    assert_recovers(&agents);
    let asked = plane.requests().len();
    plane.script(&["restore-etcd"]);
    plane.script(&["start", "apiserver"]);
    let restored = version();
    assert!(restored.parse::<u64>().unwrap() < late.parse().unwrap(), "{restored}, {late}");
    let took = assert_recovers(&agents);
    println!(
        "version {late}, restored to {restored}: a list after {took:.1?}; failed: {}",
        failures_by_reason(&agents)
    );
    let refused = plane.requests().split_off(asked);
    let refused = refused.iter().filter(|event| {
        event["responseStatus"]["code"] == 504
            && text(&event["requestURI"]).contains("NotOlderThan")
    });
    assert!(refused.count() >= 1, "no request for a lost version");
    assert_eq!(agents.unproven(), [""; 0]);
}
