//! The server away, and the server with a past that it has lost.

use std::time::{Duration, Instant};

use serde_json::json;
use wylis_harness::kube::{Api as _, MERGE, Request};

use crate::agents::{Agents, Member, path_of, text};
use crate::plane::Plane;

/// How long it stays away, at an interval of a second.
const AWAY: Duration = Duration::from_secs(15);

/// Waits until every agent has had a list again; how long that took.
fn assert_recovers(agents: &Agents<'_>) -> Duration {
    let (begun, before) =
        (Instant::now(), agents.members.iter().map(Member::lists).collect::<Vec<_>>());
    agents.wait("every agent had a list again", |agents| {
        agents.members.iter().zip(&before).all(|(member, before)| member.lists() > *before)
    });
    begun.elapsed()
}

/// Why lists failed so far, for the reader of the output.
fn told(agents: &Agents<'_>) -> String {
    let reasons =
        ["network", "timeout", "tls", "unauthorized", "forbidden", "throttled", "server_error"];
    let count = |reason: &&str| {
        let sum: f64 = agents.members.iter().map(|member| member.failures(reason)).sum();
        (sum > 0.0).then(|| format!("{reason} {sum}"))
    };
    reasons.iter().filter_map(count).collect::<Vec<_>>().join(", ")
}

#[test]
fn probing_goes_on_while_the_server_is_away_and_lists_come_again_when_it_is_back() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 3);
    let successes = || agents.each("wylis_probes_total", &["result=\"success\""]);
    plane.script(&["stop", "apiserver"]);
    let (begun, before) = (Instant::now(), successes());
    agents.wait("every agent says that the server cannot be reached", |agents| {
        agents.members.iter().all(|member| member.failures("network") >= 2.0)
            && begun.elapsed() >= AWAY
    });
    for member in &agents.members {
        let log = member.agent.log();
        assert!(log.contains("refused"), "{}: {log}", member.node);
    }
    // Two peers, a probe a second each; one may be on its way.
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
        told(&agents)
    );
    assert_eq!(agents.each("wylis_probes_total", &["result=\"failure\""]), [0.0; 3]);
}

/// Versions begin again where the backup was made; whoever asks for a later one is refused until they
/// ask for any.
#[test]
fn agents_that_know_a_later_version_than_a_restored_etcd_find_back() {
    let Some(plane) = Plane::with_manifests() else { return };
    let agents = Agents::of(&plane, 2);
    plane.script(&["save-etcd"]);
    let path = path_of(&agents.members[0].pod);
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
    agents.wait("the server has found its etcd again", |_| changed(0));
    // More than a server writes of itself when it starts.
    assert!((1..300).all(changed), "not every change was made");
    let late = version();
    assert_recovers(&agents);
    assert_recovers(&agents);
    let asked = plane.asked().len();
    plane.script(&["restore-etcd"]);
    plane.script(&["start", "apiserver"]);
    let restored = version();
    assert!(restored.parse::<u64>().unwrap() < late.parse().unwrap(), "{restored}, {late}");
    let took = assert_recovers(&agents);
    println!(
        "version {late}, restored to {restored}: a list after {took:.1?}; failed: {}",
        told(&agents)
    );
    let refused = plane.asked().split_off(asked);
    let refused = refused.iter().filter(|event| {
        event["responseStatus"]["code"] == 504
            && text(&event["requestURI"]).contains("NotOlderThan")
    });
    assert!(refused.count() >= 1, "none asked for a version that was lost");
    assert_eq!(agents.unproven(), [""; 0]);
}
