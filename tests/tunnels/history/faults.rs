//! Faults of a pair and of a node, asked for once they are over.

use super::past::{ask, assert_remembered, command, document, matrix, words};
use super::said::{Said, Watch, now};
use super::{PATIENCE, SETTINGS};
use crate::faults::{Fault, drops};
use crate::mesh::{TunnelMesh, node};
use crate::network::Topology;
use std::time::{Duration, Instant};
use wylis_harness::wait_until;

/// The node that is asked, and another one; no fault affects either.
pub(super) const ASKED: u8 = 3;
pub(super) const OTHER: u8 = 5;
const SIZE: u8 = 5;
/// How long a pair is cut at least.
pub(super) const CUT: Duration = Duration::from_secs(20);
/// How long a node is dead at least.
pub(super) const DEAD: Duration = Duration::from_secs(60);

/// Five nodes, whose hosts can be asked for a sign of life.
pub(super) fn mesh() -> Option<TunnelMesh> {
    TunnelMesh::with_hosts(Topology::of(SIZE), SETTINGS, |_| ())
}

/// Cuts what two nodes' pods send each other.
pub(super) fn cut(mesh: &TunnelMesh, one: u8, other: u8) -> Fault {
    let rules = drops(&[(one, other, ""), (other, one, "")]);
    Fault::put(&mesh.network.host(one).namespace, &rules)
}

/// Runs a fault for so long at least. Returns what each of these nodes reported meanwhile.
pub(super) fn during<T>(
    mesh: &mut TunnelMesh,
    asked: &[u8],
    time: Duration,
    begin: impl FnOnce(&mut TunnelMesh) -> T,
    end: impl FnOnce(&mut TunnelMesh, T),
) -> Vec<Said> {
    let watches: Vec<Watch> =
        asked.iter().map(|number| Watch::of(mesh.agents.agent(&node(*number)))).collect();
    let logs = |mesh: &TunnelMesh| mesh.agents.logs();
    watches.iter().for_each(|watch| watch.wait_for_none(0, || logs(mesh)));
    let (began, since) = (Instant::now(), now());
    let fault = begin(mesh);
    wait_until(time * 2, "the fault lasts", || began.elapsed() >= time);
    let said: Vec<Said> =
        watches.iter().map(|watch| watch.wait_for_findings(since, || logs(mesh))).collect();
    // A cell that begins after the fault must not have the second of which it is asked.
    wait_until(PATIENCE, "the next second", || said.iter().all(|said| said.at < now()));
    end(mesh, fault);
    let ended = now();
    watches.iter().for_each(|watch| watch.wait_for_none(ended, || logs(mesh)));
    said
}

/// Two agents that the fault did not affect agree on the past.
fn assert_agreed(mesh: &TunnelMesh, said: &Said) {
    ask(mesh, || {
        let pasts = [ASKED, OTHER].map(|number| matrix(mesh, number, said.at));
        let [one, other] = [&pasts[0], &pasts[1]].map(words);
        let agree = one == other && pasts[0]["findings"] == pasts[1]["findings"];
        agree.then_some(()).ok_or_else(|| format!("{one:#?}\n{other:#?}\n{pasts:#?}"))
    });
}

#[test]
fn a_pair_that_was_black_holed_is_remembered_word_for_word() {
    let Some(mut mesh) = mesh() else { return };
    let said = during(&mut mesh, &[ASKED], CUT, |mesh| cut(mesh, 1, 2), |_, fault| drop(fault));
    let text = &said[0].findings[0].text;
    println!("history: a pair black-holed: {text}");
    assert!(text.starts_with("n1 ↔ n2: down (connect_timeout)"), "{said:?}");
    assert_remembered(&mesh, ASKED, &said[0]);
    assert_agreed(&mesh, &said[0]);
    // Both ends know more than the third: when it began and ended.
    for (source, target) in [("n1", "n2"), ("n2", "n1")] {
        let pair = document(&mesh, ASKED, &format!("/api/v1/history/{source}/{target}"));
        assert_eq!((&pair["source"], &pair["target"]), (&source.into(), &target.into()));
        let changes = pair["changes"].as_array().expect("changes");
        let at = |begin: &str| {
            let is = |change: &&serde_json::Value| {
                change["verdict"].as_str().is_some_and(|verdict| verdict.starts_with(begin))
            };
            changes.iter().rfind(is).and_then(|change| change["at"].as_f64())
        };
        let (down, up) = (at("down (connect_timeout"), at("up"));
        assert!(down.is_some() && down < up, "{pair:#}");
    }
    let [named, unnamed] =
        ["n1", "n4"].map(|name| command(&mesh, ASKED, &["--node", name]).contains(text.as_str()));
    assert!(named && !unnamed, "--node chooses");
}

#[test]
fn a_dead_node_is_remembered_word_for_word_by_others_and_by_itself() {
    let Some(mut mesh) = mesh() else { return };
    let link = |mesh: &TunnelMesh, state: &str| {
        mesh.network.switch.ip(&format!("link set p4 {state}\n"));
    };
    let said = during(
        &mut mesh,
        &[ASKED, 4],
        DEAD,
        |mesh| link(mesh, "down"),
        |mesh, ()| link(mesh, "up"),
    );
    let texts: Vec<&str> = said.iter().map(|said| said.findings[0].text.as_str()).collect();
    println!("history: a node without a network: {texts:?}");
    assert!(texts[0].starts_with("n4 is down: none of 4 others reaches it"), "{said:#?}");
    assert!(texts[1].starts_with("n4 is cut off: this agent reaches none of 4"), "{said:#?}");
    assert_remembered(&mesh, ASKED, &said[0]);
    assert_agreed(&mesh, &said[0]);
    // The node that was cut off had no rows of others then, although it can have them now.
    assert_remembered(&mesh, 4, &said[1]);
}

#[test]
fn a_killed_agent_is_remembered_word_for_word() {
    let Some(mut mesh) = mesh() else { return };
    let said = during(
        &mut mesh,
        &[ASKED],
        CUT,
        |mesh| mesh.agents.kill(&node(4)),
        |mesh, pod| mesh.restart(4, &pod),
    );
    let text = &said[0].findings[0].text;
    println!("history: a killed agent: {text}");
    assert!(text.starts_with("n4 is down: none of 4 others reaches it (refused)"), "{said:?}");
    assert_remembered(&mesh, ASKED, &said[0]);
    assert_agreed(&mesh, &said[0]);
    // Without a state directory, it remembers nothing of that.
    let past = matrix(&mesh, ASKED, said[0].at);
    assert_eq!(super::past::row(&past, "n4")["error"], "not_remembered", "{past:#}");
}
