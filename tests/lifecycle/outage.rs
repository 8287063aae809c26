//! The API server away, peers killed and frozen.

use std::time::Duration;

use wylis_harness::mesh::Mesh;
use wylis_harness::wait_until;

use super::{FAST, binary};

fn successes(mesh: &Mesh, source: &str, target: &str) -> u64 {
    mesh.agent(source).peer(target)["successes"].as_u64().unwrap_or(0)
}

#[test]
fn without_the_api_server_known_peers_are_probed_and_a_restarted_agent_starts_from_the_cache() {
    let mut mesh = Mesh::new(&binary(), FAST);
    let state = mesh.dir().join("state");
    std::fs::create_dir(&state).unwrap();
    let state = state.display().to_string();
    mesh.add_with("n1", &[("WYLIS_STATE_DIR", state.as_str())]);
    mesh.add("n2");
    mesh.wait_for_all_pairs();
    wait_until(Duration::from_secs(20), "the list is cached", || {
        std::fs::read_dir(&state)
            .unwrap()
            .flatten()
            .any(|file| std::fs::read_to_string(file.path()).is_ok_and(|text| text.contains("n2")))
    });
    mesh.api.stop();
    wait_until(Duration::from_secs(30), "the failure is counted", || {
        mesh.agent("n1").metrics().sum("wylis_discovery_failures_total", &[]) >= 2.0
    });
    let before = successes(&mesh, "n1", "n2");
    wait_until(Duration::from_secs(20), "probes continue", || {
        successes(&mesh, "n1", "n2") >= before + 3
    });
    let pod = mesh.kill("n1");
    mesh.restart_in_place_with("n1", &pod, &[("WYLIS_STATE_DIR", state.as_str())]);
    wait_until(Duration::from_secs(20), "it probes the cached peers", || {
        successes(&mesh, "n1", "n2") >= 2
    });
    assert_eq!(mesh.agent("n1").get("/readyz").unwrap().0, 200, "ready with the cached list");
    assert_eq!(mesh.agent("n1").get("/healthz").unwrap().0, 200);
    let refreshes = ["result=\"success\""];
    assert_eq!(mesh.agent("n1").metrics().sum("wylis_discovery_refreshes_total", &refreshes), 0.0);
    mesh.api.restart();
    wait_until(Duration::from_secs(90), "it lists again", || {
        mesh.agent("n1").metrics().sum("wylis_discovery_refreshes_total", &refreshes) > 0.0
    });
    assert_eq!(mesh.sum("wylis_local_errors_total", &[]), 0.0);
}

#[test]
fn an_agent_without_a_list_is_healthy_and_not_ready() {
    let mut mesh = Mesh::new(&binary(), FAST);
    mesh.api.stop();
    mesh.add("n1");
    wait_until(Duration::from_secs(10), "it serves", || mesh.agent("n1").get("/healthz").is_some());
    assert_eq!(mesh.agent("n1").get("/healthz").unwrap().0, 200);
    let (status, text) = mesh.agent("n1").get("/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(text.contains("no peer list"), "{text}");
}

#[test]
fn a_killed_peer_is_refused_a_frozen_one_times_out_and_other_pairs_stay_up() {
    let mut mesh = Mesh::of(4, &binary(), FAST);
    mesh.kill("n3");
    mesh.agent("n4").signal(libc::SIGSTOP);
    for source in ["n1", "n2"] {
        mesh.wait_for_verdict(source, "n3", "down");
        mesh.wait_for_verdict(source, "n4", "down");
        assert_eq!(mesh.agent(source).peer("n3")["reason"], "refused");
        assert_eq!(mesh.agent(source).peer("n4")["reason"], "response_timeout");
    }
    for (source, target) in [("n1", "n2"), ("n2", "n1")] {
        let peer = mesh.agent(source).peer(target);
        assert_eq!((&peer["verdict"], &peer["failures"]), (&"up".into(), &0.into()), "{peer}");
    }
    mesh.agent("n4").signal(libc::SIGCONT);
    mesh.wait_for_verdict("n1", "n4", "up");
}

#[test]
fn a_stalled_peer_does_not_delay_others() {
    let mesh = Mesh::of(4, &binary(), FAST);
    mesh.agent("n4").signal(libc::SIGSTOP);
    mesh.wait_for_verdict("n1", "n4", "down");
    let before = successes(&mesh, "n1", "n2");
    wait_until(Duration::from_secs(60), "ten more probes of n2", || {
        successes(&mesh, "n1", "n2") >= before + 10
    });
    let metrics = mesh.agent("n1").metrics();
    assert!(metrics.sum("wylis_probes_skipped_total", &[]) > 0.0, "slots of n4 are skipped");
    assert_eq!(metrics.sum("wylis_probe_failures_total", &["target_node=\"n2\""]), 0.0);
    mesh.agent("n4").signal(libc::SIGCONT);
}

#[test]
fn no_log_level_shows_the_token() {
    // The most verbose level: trace is compiled out.
    let settings = [("WYLIS_LOG", "debug"), ("WYLIS_REFRESH_INTERVAL", "1s")];
    let mut mesh = Mesh::of(2, &binary(), &settings);
    let count =
        |mesh: &Mesh, name: &str, label: &str| mesh.agent("n1").metrics().sum(name, &[label]);
    let accepted = "wylis_discovery_refreshes_total";
    wait_until(Duration::from_secs(30), "the token is accepted", || {
        count(&mesh, accepted, "result=\"success\"") >= 2.0
    });
    mesh.api.set_tokens(&["another"]);
    wait_until(Duration::from_secs(30), "the token is refused", || {
        count(&mesh, "wylis_discovery_failures_total", "reason=\"unauthorized\"") > 0.0
    });
    mesh.kill("n1");
    let logs = mesh.logs();
    let logged = logs.contains("ureq::run] Request {") && logs.contains("{ status: 401");
    assert!(logged, "requests and answers are logged:\n{logs}");
    assert!(!logs.contains(wylis_harness::mesh::TOKEN), "{logs}");
}

#[test]
fn an_agent_that_was_frozen_itself_reports_no_peer() {
    let mesh = Mesh::of(4, &binary(), FAST);
    let before = mesh.agent("n1").peer("n2")["incoming_requests"].as_u64();
    wait_until(Duration::from_secs(10), "n1 is probed by the others", || {
        mesh.agent("n1").peer("n2")["incoming_requests"].as_u64() > before
    });
    mesh.agent("n1").signal(libc::SIGSTOP);
    // Long enough for three announced intervals and 5 s, and for every probe in flight.
    mesh.wait_for_verdict("n2", "n1", "down");
    std::thread::sleep(Duration::from_secs(6));
    mesh.agent("n1").signal(libc::SIGCONT);
    for target in ["n2", "n3", "n4"] {
        let before = successes(&mesh, "n1", target);
        wait_until(Duration::from_secs(20), "probes continue", || {
            successes(&mesh, "n1", target) >= before + 2
        });
        let peer = mesh.agent("n1").peer(target);
        assert_eq!((&peer["verdict"], &peer["failures"]), (&"up".into(), &0.into()), "{peer}");
    }
    let log = mesh.agent("n1").log();
    assert!(!log.contains("one-way") && log.contains("was suspended"), "{log}");
}

#[test]
fn a_dead_peer_goes_down_without_a_one_way_verdict() {
    let mut mesh =
        Mesh::of(3, &binary(), &[("WYLIS_INTERVAL", "2s"), ("WYLIS_FAILURE_THRESHOLD", "10")]);
    mesh.kill("n3");
    mesh.wait_for_verdict("n1", "n3", "down");
    assert!(!mesh.agent("n1").log().contains("one-way"), "{}", mesh.agent("n1").log());
}
