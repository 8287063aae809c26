//! The cached list while the API server is away at start.

use std::path::Path;
use std::time::{Duration, SystemTime};

use wylis::discovery::{AddressRule, Origin, PeerCache};
use wylis::name::NodeName;
use wylis_harness::{TempDir, wait_until};

use crate::fixture::{Fixture, INTERVAL, OWN_NODE, PATIENCE, PEER_PORT, lock};

const FILE: &str = "peers.json";

fn cache(dir: &Path) -> PeerCache {
    let rule = AddressRule::pods(None, ("10.96.0.1", 443), PEER_PORT);
    PeerCache::new(dir, NodeName::new(OWN_NODE).unwrap(), "wylis/app", rule)
}

/// A state directory after a run with two peers.
fn after_a_run(ip: &str) -> (TempDir, Fixture) {
    let state = TempDir::new("state");
    let mut fixture = Fixture::new(ip);
    fixture.run_with(INTERVAL, Some(cache(state.path())));
    fixture.running().await_outcome(0, "ok");
    wait_until(PATIENCE, "the list is cached", || state.path().join(FILE).exists());
    fixture.running.take().unwrap().end();
    (state, fixture)
}

#[test]
fn cached_peers_stay_in_use_while_the_api_server_is_away() {
    let (state, mut fixture) = after_a_run("127.63.1.1");
    fixture.server.stop();
    fixture.run_with(INTERVAL, Some(cache(state.path())));
    fixture.running().await_outcome(0, "network");
    assert_eq!(fixture.running().nodes(), ["node-a", "node-b"]);
    {
        let refreshes = lock(&fixture.running().refreshes);
        assert_eq!(refreshes[0].origin, Origin::Cache);
        let set = refreshes[0].result.as_ref().unwrap();
        assert!(set.iter().all(|peer| peer.ready.is_none() && peer.instance.is_some()));
        let others = refreshes.iter().skip(1);
        assert!(others.clone().count() > 0);
        assert!(others.into_iter().all(|r| r.origin == Origin::Fresh && r.result.is_err()));
    }
    let seen = fixture.running().count();
    fixture.server.pods().remove("wylis-b");
    fixture.server.restart();
    fixture.running().await_outcome(seen, "ok");
    assert_eq!(fixture.running().nodes(), ["node-a"]);
    wait_until(PATIENCE, "the new list is cached", || {
        !std::fs::read_to_string(state.path().join(FILE)).unwrap().contains("node-b")
    });
}

/// Asserts that a changed file is not used, and that the log has the reason.
fn is_ignored(ip: &str, change: impl FnOnce(&Path), reason: &str) {
    let (state, mut fixture) = after_a_run(ip);
    change(&state.path().join(FILE));
    fixture.server.stop();
    fixture.run_with(INTERVAL, Some(cache(state.path())));
    fixture.running().await_outcome(0, "network");
    assert_eq!(fixture.running().set(), None);
    let log = fixture.running().log();
    assert!(log.iter().any(|line| line.starts_with("WARN") && line.contains(reason)), "{log:#?}");
    let seen = fixture.running().count();
    fixture.server.restart();
    fixture.running().await_outcome(seen, "ok");
    assert_eq!(fixture.running().nodes(), ["node-a", "node-b"]);
}

#[test]
fn a_damaged_cache_is_logged_and_ignored() {
    let cut = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, &text[..text.len() / 2]).unwrap();
    };
    is_ignored("127.63.2.1", cut, "is not used: damaged");
}

#[test]
fn an_old_cache_is_logged_and_ignored() {
    let age = |path: &Path| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let old = since - Duration::from_secs(25 * 3600);
        let mut stored: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        stored["saved"] = old.as_secs().into();
        std::fs::write(path, stored.to_string()).unwrap();
    };
    is_ignored("127.63.3.1", age, "is not used: 25 hours old");
}

#[test]
fn the_cache_of_another_node_is_logged_and_ignored() {
    let rename = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, text.replace("\"node-me\"", "\"node-you\"")).unwrap();
    };
    is_ignored("127.63.4.1", rename, "is not used: written by another node");
}
