//! A mesh in which one agent is of an earlier release, without the routes of the past.

use super::faults::{ASKED, CUT, cut, during};
use super::past::{ask, command, document, matrix, row, run_from};
use super::said::findings;
use super::{PATIENCE, SETTINGS};
use crate::faults::Fault;
use crate::mesh::{TunnelMesh, node};
use crate::network::Topology;
use crate::proxy::{Act, Front, NAT};
use wylis_harness::wait_until;

#[test]
fn an_agent_of_an_earlier_release_is_a_gap() {
    let Some(mut mesh) = TunnelMesh::with_hosts(Topology::of(4), SETTINGS, |_| ()) else { return };
    let _nat = Fault::put(&mesh.pods[&4].namespace, NAT);
    let front = Front::of(&mesh.pods[&4], 4, Act::Older);
    let older = mesh.agents.agent("n4").address;
    let status = |path: &str| {
        let response =
            mesh.pods[&1].namespace.entrance().within(|| wylis_harness::http::get(older, path));
        response.map(|response| response.status).unwrap_or_default()
    };
    wait_until(PATIENCE, "connections to n4 pass through the proxy", || {
        status("/api/v1/history") == 404 && status("/api/v1/row") == 200
    });
    let said = during(&mut mesh, &[ASKED], CUT, |mesh| cut(mesh, 1, 2), |_, fault| drop(fault));
    let text = &said[0].findings[0].text;
    println!("history: with an earlier release: {text}");

    // What the others remember is whole: n4 has no part in it.
    let past = ask(&mesh, || {
        let past = matrix(&mesh, ASKED, said[0].at);
        let same = findings(&past).is_some_and(|findings| findings == said[0].findings);
        same.then_some(past.clone()).ok_or_else(|| format!("{text}\n{past:#}"))
    });
    assert_eq!(row(&past, "n4")["error"], "not_remembered", "{past:#}");
    assert_eq!(row(&past, "n1")["cells"][3]["verdict"], "up", "{past:#}");
    let day = document(&mesh, ASKED, "/api/v1/history/day");
    let missing = serde_json::json!([{"node": "n4", "error": "not_remembered"}]);
    assert_eq!(day["missing"], missing, "{day:#}");
    assert!(day["findings"].to_string().contains(text.as_str()), "{day:#}");
    let shown = command(&mesh, ASKED, &[]);
    assert!(shown.contains(text.as_str()) && shown.contains("n4"), "{shown}");
    let pair = document(&mesh, ASKED, "/api/v1/history/n4/n1");
    assert_eq!(pair["error"], "not_remembered", "{pair:#}");

    // Asked itself, the command says why there is nothing.
    let (code, text) = run_from(&mesh, (&mesh.pods[&1].namespace, 4), &[]);
    assert!(code != Some(0) && text.contains("an older release"), "{code:?}: {text}");
    // No probe of it fails.
    let failures = mesh.agents.agent(&node(1)).peer("n4")["failures"].clone();
    assert_eq!(failures, 0, "{}", mesh.agents.logs());
    drop(front);
}
