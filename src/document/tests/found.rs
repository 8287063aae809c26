//! What experiments found, in rows and peers, written and read back.

use std::time::UNIX_EPOCH;

use super::*;
use crate::experiment::{DeadFlows, Detail, HostState, LargestPacket};

const LARGEST: LargestPacket = LargestPacket { bytes: 1337, is_exact: true };
const AT_LEAST: LargestPacket = LargestPacket { bytes: 524, is_exact: false };
const FLOWS: DeadFlows = DeadFlows { dead: 1, flows: 4 };

/// The snapshot of n1, whose peer n2 has this verdict and everything that can be found.
fn view_of(verdict: Verdict) -> Arc<Snapshot> {
    let mut snapshot = Arc::unwrap_or_clone(view("n1", &[("n2", &[(success(5), 0)])]));
    let record = Arc::make_mut(&mut snapshot.peers[0]);
    record.verdict = verdict;
    let found = &mut record.experiments;
    let at = UNIX_EPOCH + Duration::from_secs(7);
    found.mtu.set(Direction::Outgoing, Some((LARGEST, at)));
    found.mtu.set(Direction::Incoming, Some((AT_LEAST, at)));
    found.host.state = Some(HostState::Silent);
    found.flows.dead = Some(FLOWS);
    Arc::new(snapshot)
}

const REASON: FailureReason = FailureReason::ConnectTimeout;

#[test]
fn a_cell_has_what_belongs_to_its_verdict() {
    for (verdict, fields) in [
        (Verdict::Up, json!({})),
        (Verdict::Down(REASON), json!({"reason": "connect_timeout", "host": "silent"})),
        (Verdict::Flaky(REASON), json!({"reason": "connect_timeout", "dead_flows": 1, "flows": 4})),
        (Verdict::Mtu(Direction::Outgoing), json!({"direction": "outgoing", "mtu_bytes": 1337})),
        (
            Verdict::Mtu(Direction::Incoming),
            json!({"direction": "incoming", "mtu_bytes": 524, "mtu_at_least": true}),
        ),
        (
            Verdict::Mtu(Direction::Both),
            json!({"direction": "both", "mtu_bytes": 524, "mtu_at_least": true}),
        ),
    ] {
        let snapshot = view_of(verdict);
        let document = row_document("n1", &snapshot);
        let row: Value = serde_json::from_slice(&document).unwrap();
        let mut cell = row["cells"][0].as_object().unwrap().clone();
        for usual in ["node", "at", "latency_seconds", "probes"] {
            cell.remove(usual);
        }
        assert_eq!(cell.remove("verdict"), Some(json!(verdict.as_str())));
        assert_eq!(Value::Object(cell), fields, "{verdict}");
        let read = read_row(&name("n1"), &document).unwrap();
        assert_eq!(read.cells[0].1, Cell::of(&snapshot.peers[0], read.at), "{verdict}");
    }
}

#[test]
fn a_cell_outside_its_bounds_makes_the_row_malformed() {
    let cell = |fields: &str| {
        let cell = format!(r#"{{"node":"n1",{fields}}}"#);
        let row = format!(r#"{{"version":1,"node":"n2","at":1,"cells":[{cell}]}}"#);
        read_row(&name("n2"), row.as_bytes()).map(|row| row.cells[0].1)
    };
    let mtu = r#""verdict":"mtu","direction":"outgoing""#;
    let flaky = r#""verdict":"flaky","reason":"refused""#;
    let down = r#""verdict":"down","reason":"refused""#;
    for (verdict, bad) in [
        (mtu, r#""mtu_bytes":67"#),
        (mtu, r#""mtu_bytes":65536"#),
        (mtu, r#""mtu_bytes":-1"#),
        (mtu, r#""mtu_bytes":1337,"mtu_at_least":1"#),
        (flaky, r#""dead_flows":1"#),
        (flaky, r#""flows":4"#),
        (flaky, r#""dead_flows":0,"flows":4"#),
        (flaky, r#""dead_flows":5,"flows":4"#),
        (flaky, r#""dead_flows":1,"flows":256"#),
        (down, r#""host":"bored""#),
        (down, r#""host":1"#),
        (down, r#""surveyed":"yes""#),
        // Of another verdict too.
        (down, r#""mtu_bytes":67"#),
    ] {
        let read = cell(&format!("{verdict},{bad}"));
        assert_eq!(read, Err(ReadError::Malformed), "{verdict} {bad}");
    }
    let detail = |fields: String| cell(&fields).unwrap().detail();
    assert_eq!(detail(format!("{mtu},\"mtu_bytes\":1337")), Some(Detail::Largest(LARGEST)));
    assert_eq!(detail(format!("{down},\"mtu_bytes\":1337")), None, "another verdict's");
    // An agent of an earlier release sends none of it.
    let old = cell(mtu).unwrap();
    assert_eq!((old.detail(), old.is_surveyed()), (None, false));
    assert!(cell(r#""verdict":"up","surveyed":true"#).unwrap().is_surveyed());
}

#[test]
fn a_peer_has_all_that_was_found() {
    let line = |verdict| {
        let snapshot = view_of(verdict);
        let instance = Instance::new("i").unwrap();
        let document = text(peers_json(&name("n1"), &instance, &snapshot));
        let peers: Value = serde_json::from_slice(&document).unwrap();
        let line = Peers::read(&document).unwrap().lines.remove(0);
        (peers["peers"][0].clone(), line.detail)
    };
    let (peer, detail) = line(Verdict::Down(REASON));
    assert_eq!(
        peer["mtu"],
        json!({"outgoing": {"bytes": 1337, "exact": true, "at": 7.0},
            "incoming": {"bytes": 524, "exact": false, "at": 7.0}})
    );
    assert_eq!(peer["host"], json!({"state": "silent", "address": null, "at": null}));
    assert_eq!(peer["flows"], json!({"dead": 1, "tried": 4, "at": null}));
    assert_eq!(peer["surveyed"], false);
    assert_eq!(detail, Some(Detail::Host(HostState::Silent)));
    for (verdict, detail) in [
        (Verdict::Up, None),
        (Verdict::Flaky(REASON), Some(Detail::Flows(FLOWS))),
        (Verdict::Mtu(Direction::Outgoing), Some(Detail::Largest(LARGEST))),
        (Verdict::Mtu(Direction::Incoming), Some(Detail::Largest(AT_LEAST))),
        (Verdict::Mtu(Direction::Both), Some(Detail::Largest(AT_LEAST))),
    ] {
        assert_eq!(line(verdict).1, detail, "{verdict}");
    }
    let nothing = view("n1", &[("n2", &[])]);
    let document = text(peers_json(&name("n1"), &Instance::new("i").unwrap(), &nothing));
    let peers: Value = serde_json::from_slice(&document).unwrap();
    let peer = &peers["peers"][0];
    assert_eq!(peer["mtu"], json!({"outgoing": null, "incoming": null}));
    assert_eq!((&peer["host"], &peer["flows"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_peer_outside_its_bounds_is_malformed() {
    let read = |fields: &str| {
        let peer = format!(r#"{{"node":"n2","verdict":"up","recent":[],{fields}}}"#);
        let document = format!(r#"{{"version":1,"node":"n1","at":1,"peers":[{peer}]}}"#);
        Peers::read(document.as_bytes()).map(|peers| peers.lines[0].is_surveyed)
    };
    for bad in [
        r#""mtu":{"outgoing":{"exact":true}}"#,
        r#""mtu":{"incoming":{"bytes":65536,"exact":true}}"#,
        r#""mtu":[1]"#,
        r#""host":{}"#,
        r#""host":{"state":"bored"}"#,
        r#""flows":{"dead":5,"tried":4}"#,
        r#""surveyed":1"#,
    ] {
        assert_eq!(read(bad), Err(ReadError::Malformed), "{bad}");
    }
    let good = r#""mtu":{"outgoing":null,"later":1},"host":null,"flows":{"dead":0,"tried":4}"#;
    assert_eq!(read(good), Ok(false));
    assert_eq!(read(r#""surveyed":true"#), Ok(true));
}
