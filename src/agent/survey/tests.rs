use std::net::{SocketAddr, TcpListener};

use super::*;
use crate::peer::Peer;
use crate::probe::{Answer, Outcome, ProbeKind, Report, Timings};
use crate::state::{MeshState, Moment, StateSettings};
use crate::token::PairToken;

const INTERVAL: Duration = Duration::from_secs(10);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn instance(text: &str) -> Instance {
    Instance::new(text).unwrap()
}

/// The survey of `n1`, with the peer `n2` of an instance.
fn survey(key: &TokenKey, of: &str) -> Arc<Survey> {
    survey_of(key, of, None)
}

/// The same, with a peer that is up at this address.
fn survey_of(key: &TokenKey, of: &str, up: Option<SocketAddr>) -> Arc<Survey> {
    survey_at(key, of, up, None)
}

/// The same of an agent that listens on this address.
fn survey_at(
    key: &TokenKey,
    of: &str,
    up: Option<SocketAddr>,
    listen: Option<IpAddr>,
) -> Arc<Survey> {
    let mut state = MeshState::new(StateSettings {
        failure_threshold: 3,
        interval: INTERVAL,
        large_interval: Duration::ZERO,
        host_port: None,
        source: name("n1"),
        drain: INTERVAL,
        bounds: [1.0].into(),
        key: key.clone(),
    });
    let peer = Peer {
        node: name("n2"),
        address: up.unwrap_or("10.0.0.2:9050".parse().unwrap()),
        other_addresses: Vec::new(),
        host: None,
        instance: Some(instance(of)),
        ready: None,
    };
    state.peers([peer].into_iter().collect(), INTERVAL);
    let now = Moment::now();
    if up.is_some() {
        let timings = Timings { connect: INTERVAL, response: INTERVAL, total: INTERVAL };
        state.begin(&name("n2"), 1);
        state.report(
            now,
            &Report {
                id: 1,
                node: name("n2"),
                due: now.instant,
                started: now.instant,
                ended: now.instant,
                kind: ProbeKind::Blank,
                outcome: Outcome::Success { timings, answer: Answer::default() },
                kernel: None,
            },
        );
    }
    let snapshot = Arc::new(state.snapshot(Moment::now()));
    let take = Box::new(move || Some(Arc::clone(&snapshot)));
    let own = (name("n1"), instance("i"));
    Arc::new(Survey::new(own, key.clone(), (true, listen), take, Box::new(|| ())))
}

#[test]
fn only_the_present_instance_of_a_peer_may_command() {
    let key = TokenKey::new(b"key");
    let survey = survey(&key, "new");
    // Each has a token that was true once.
    let status = |node: &str, of: &str| {
        let (node, of) = (name(node), Some(instance(of)));
        let echo = Some(key.own(&node, of.as_ref()));
        let token = Some(PairToken { own: Token::read("abcdefghij").unwrap(), echo });
        let named =
            KeepAlive { node, instance: of, interval: None, goodbye: None, token, size: None };
        survey.command("claim for=60", &Sender { named: Some(named), client: None }).0
    };
    assert_eq!(status("n9", "new"), 403, "it has left the list");
    assert_eq!(status("n2", "old"), 403, "another runs by now");
    assert_eq!(status("n1", "i"), 403, "this node");
    assert!(survey.lock().grants.holder(Instant::now()).is_none());
    assert_eq!(status("n2", "new"), 200);
}

#[test]
fn a_refused_start_leaves_the_results_of_the_last_survey() {
    let survey = survey(&TokenKey::new(b"key"), "i");
    let person = Sender { named: None, client: Some("127.0.0.1".parse().unwrap()) };
    let start = || survey.command("start to=n9 gaps=1 budget=60", &person).0;
    assert_eq!(start(), 409);
    assert_eq!(survey.lock().status.state, State::Refused);
    survey.update(|inner| {
        inner.status = Status::begun(&name("n1"), None);
        inner.status.add(&name("n1"), &name("n2"), PairResult::NOT_SURVEYED);
        inner.status.end(State::Done, None);
    });
    assert_eq!(start(), 409);
    let status = survey.lock().status.clone();
    assert_eq!((status.state, status.results.len()), (State::Done, 1));
}

#[test]
fn a_budget_below_one_trial_is_refused() {
    let survey = survey(&TokenKey::new(b"key"), "i");
    let person = Sender { named: None, client: Some("127.0.0.1".parse().unwrap()) };
    let start = |budget: u32| {
        let command = format!("start to=n9 gaps=1.5,5 budget={budget}");
        let (status, reason) = survey.command(&command, &person);
        (status, String::from_utf8(reason).unwrap())
    };
    let short = "budget is too short for one trial of the first gap, 21.5 s\n".to_owned();
    assert_eq!(start(21), (409, short));
    assert_eq!(start(22), (409, "n9 is no peer of n1\n".to_owned()));
}

#[test]
fn only_the_own_host_may_begin_or_end_a_survey() {
    for (listen, client, expected) in [
        (None, "127.0.0.1", 409),
        (None, "::ffff:127.0.0.1", 409),
        (None, "10.99.0.1", 403),
        (Some("0.0.0.0"), "0.0.0.0", 403),
        (Some("::"), "::", 403),
        (Some("10.99.0.1"), "10.99.0.1", 409),
        (Some("10.99.0.1"), "::ffff:10.99.0.1", 409),
        (Some("10.99.0.1"), "127.0.0.1", 409),
        (Some("10.99.0.1"), "10.99.0.2", 403),
        (Some("fd00::1"), "fd00::1", 409),
        (Some("fd00::1"), "fd00::2", 403),
    ] {
        let listen = listen.map(|address| address.parse().unwrap());
        let survey = survey_at(&TokenKey::new(b"key"), "i", None, listen);
        let person = Sender { named: None, client: Some(client.parse().unwrap()) };
        assert_eq!(survey.command("stop", &person).0, expected, "{listen:?} {client}");
    }
}

#[test]
fn a_start_before_the_peers_are_known_is_to_be_repeated() {
    let survey = survey(&TokenKey::new(b"key"), "i");
    let person = Sender { named: None, client: Some("::1".parse().unwrap()) };
    let (status, reason) = survey.command("start all gaps=1 budget=60", &person);
    let reason = String::from_utf8(reason).unwrap();
    assert_eq!(
        (status, reason.contains("the token of n2 is not known yet")),
        (503, true),
        "{reason}"
    );
    assert!(!survey.lock().grants.has_own());
}

#[test]
fn no_claim_is_renewed_while_its_node_rests_with_this_agent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let survey = survey_of(&TokenKey::new(b"key"), "i", Some(listener.local_addr().unwrap()));
    listener.set_nonblocking(true).unwrap();
    let claimed = [name("n2")];
    // From the moment at which it is to rest, also before the silence.
    survey.reads.set_resting(Some(name("n2")));
    survey.renew(&claimed);
    assert!(listener.accept().is_err(), "a connection to a peer that rests");
    survey.reads.set_resting(None);
    std::thread::scope(|scope| {
        scope.spawn(|| survey.renew(&claimed));
        let end = Instant::now() + COMMAND_TIMEOUT;
        let client = loop {
            match listener.accept() {
                Ok((client, _)) => break client,
                Err(_) => assert!(Instant::now() < end, "no connection"),
            }
            std::thread::yield_now();
        };
        // Until it is answered, the peer is not quiet.
        assert!(survey.reads.is_reading(&name("n2")));
        drop(client);
    });
    assert!(!survey.reads.is_reading(&name("n2")));
}
