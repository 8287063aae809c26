use super::*;
use crate::peer::Peer;
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
        address: "10.0.0.2:9050".parse().unwrap(),
        other_addresses: Vec::new(),
        host: None,
        instance: Some(instance(of)),
        ready: None,
    };
    state.peers([peer].into_iter().collect(), INTERVAL);
    let snapshot = Arc::new(state.snapshot(Moment::now()));
    let take = Box::new(move || Some(Arc::clone(&snapshot)));
    let own = (name("n1"), instance("i"));
    Arc::new(Survey::new(own, key.clone(), true, take, Box::new(|| ())))
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
