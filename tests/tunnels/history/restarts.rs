//! Agents that were restarted since.

use super::faults::{ASKED, CUT, cut, during};
use super::past::{ask, assert_remembered, document, matrix, row};
use super::said::{findings, now};
use super::{PATIENCE, SETTINGS};
use crate::mesh::{TunnelMesh, node};
use crate::network::Topology;

/// Ends an agent as the kubelet does, and starts it again in its pod.
fn restart(mesh: &mut TunnelMesh, number: u8) {
    let name = node(number);
    mesh.agents.agent(&name).terminate();
    let ended = mesh.agents.agent_mut(&name).wait(PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{}", mesh.agents.logs());
    let pod = mesh.agents.kill(&name);
    mesh.restart(number, &pod);
}

#[test]
fn an_agent_that_was_restarted_remembers_with_its_state_directory_alone() {
    // n1 and n3 have a state directory, n2 has none.
    let made = TunnelMesh::with_hosts(Topology::of(4), SETTINGS, |mesh| {
        mesh.remember(1);
        mesh.remember(ASKED);
    });
    let Some(mut mesh) = made else { return };
    let said = during(&mut mesh, &[ASKED], CUT, |mesh| cut(mesh, 1, 2), |_, fault| drop(fault));
    let restarted = now();
    for number in [1, 2, ASKED] {
        restart(&mut mesh, number);
    }
    mesh.agents.wait_for_all_pairs();
    let second = said[0].at;

    // n2 has forgotten its side, and says since when it remembers; n1 has both the fault and what came after.
    let since = |number: u8| document(&mesh, number, "/api/v1/history")["since"].as_u64();
    let [first, second_since, own] = [1, 2, ASKED].map(since);
    assert!(first.is_some_and(|since| since <= second), "{first:?}");
    assert!(own.is_some_and(|since| since <= second), "{own:?}");
    assert!(second_since.is_some_and(|since| since >= restarted), "{second_since:?}");
    let changes = |number: u8| document(&mesh, number, "/api/v1/history")["changes"].to_string();
    assert!(changes(1).contains("down (connect_timeout"), "{}", changes(1));
    assert!(!changes(2).contains("down (connect_timeout"), "{}", changes(2));

    // The third shows what is left: one side of the pair.
    ask(&mesh, || {
        let past = matrix(&mesh, ASKED, second);
        let cell = |source: &str, target: usize| row(&past, source)["cells"][target].clone();
        let texts = findings(&past).unwrap_or_default();
        let is_whole = row(&past, "n2")["error"] == "not_remembered"
            && cell("n1", 1)["verdict"] == "down"
            && cell("n4", 1)["verdict"] == "up"
            && cell("n3", 0)["verdict"] == "up"
            && texts.len() == 1
            && texts[0].text.starts_with("n1 → n2: down (connect_timeout)");
        is_whole.then_some(()).ok_or_else(|| format!("{past:#}"))
    });
    let day = document(&mesh, ASKED, "/api/v1/history/day");
    assert!(day["since"].as_u64().is_some_and(|since| since <= second), "{day:#}");
    let pair = document(&mesh, 4, "/api/v1/history/n1/n2");
    assert!(pair["changes"].to_string().contains("down (connect_timeout"), "{pair:#}");
    let pair = document(&mesh, 4, "/api/v1/history/n2/n1");
    assert!(pair["since"].as_u64().is_some_and(|since| since >= restarted), "{pair:#}");
    assert!(!pair["changes"].to_string().contains("down (connect_timeout"), "{pair:#}");

    // Asked itself, the agent without memory shows the others' and says so of its own.
    ask(&mesh, || {
        let past = document(&mesh, 2, &format!("/api/v1/history/{second}"));
        let is_whole = row(&past, "n2")["error"] == "not_remembered"
            && row(&past, "n1")["cells"][1]["verdict"] == "down"
            && row(&past, "n3")["cells"][0]["verdict"] == "up";
        is_whole.then_some(()).ok_or_else(|| format!("{past:#}"))
    });
}

#[test]
fn a_restart_of_all_agents_with_their_state_directories_loses_nothing() {
    let made = TunnelMesh::with_hosts(Topology::of(4), SETTINGS, |mesh| {
        (1..=4).for_each(|number| mesh.remember(number));
    });
    let Some(mut mesh) = made else { return };
    let said = during(&mut mesh, &[ASKED], CUT, |mesh| cut(mesh, 1, 2), |_, fault| drop(fault));
    (1..=4).for_each(|number| restart(&mut mesh, number));
    mesh.agents.wait_for_all_pairs();
    assert_remembered(&mesh, ASKED, &said[0]);
}
