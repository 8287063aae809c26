//! When a peer counts as silent.

use super::*;
use crate::state::rhythm::MAX_STRETCH;
use crate::wire;
use wylis_harness::bounds::worst_case;

const SECOND: Duration = Duration::from_secs(1);

/// Sends a request of peer 1, with or without proof, that announces this interval.
fn announce(fixture: &mut Fixture, interval: Duration, is_proof: bool) {
    let sender = instance("a");
    let own = fixture.state.settings.key.own(&name(1), Some(&sender));
    let token = PairToken { own: Token::read("ofthesende").unwrap(), echo: Some(own) };
    let request = KeepAlive {
        node: name(1),
        instance: Some(sender),
        interval: Some(interval),
        goodbye: None,
        token: is_proof.then_some(token),
        size: None,
    };
    fixture.state.receive_request(fixture.now, Some(&request));
}

/// The seconds of ten minutes in which peer 1 is one-way. It sends each ten seconds until `stops`; each
/// second a forged request may announce an interval.
fn one_way(
    proven: bool,
    announced: u64,
    forged: &dyn Fn(u64) -> Option<Duration>,
    stops: u64,
) -> Vec<u64> {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.probe(1, capable("a"), 0);
    let mut seconds = Vec::new();
    for second in 0..600 {
        if second % 10 == 0 && second < stops {
            announce(&mut fixture, Duration::from_secs(announced), proven);
        }
        if second > 30
            && let Some(interval) = forged(second)
        {
            announce(&mut fixture, interval, false);
        }
        fixture.pass(SECOND);
        if fixture.verdict(1) == Verdict::OneWay {
            seconds.push(second);
        }
    }
    seconds
}

#[test]
fn a_forged_short_interval_makes_no_peer_one_way() {
    let short = |_| Some(wire::MIN_INTERVAL);
    // Three quick ones, then none until the peer's own.
    let burst = |second: u64| (second % 10 < 3).then_some(wire::MIN_INTERVAL);
    for proven in [true, false] {
        assert_eq!(one_way(proven, 10, &short, 600), [0_u64; 0], "proven: {proven}");
        assert_eq!(one_way(proven, 10, &burst, 600), [0_u64; 0], "proven: {proven}");
    }
}

#[test]
fn a_forged_long_interval_does_not_hide_a_one_way_path() {
    let long = |second: u64| (second == 90).then_some(wire::MAX_INTERVAL);
    let first = |proven| one_way(proven, 10, &long, 100)[0];
    assert_eq!(first(true), 90 + 35, "as without it");
    let unproven = (first(false) - 90) as f64;
    let intervals = (unproven - 5.0) / 3.0 / 10.0;
    assert!(intervals <= worst_case("MAX_STRETCH"), "{intervals}");
    assert_eq!(MAX_STRETCH, 4);
}

#[test]
fn forged_requests_do_not_hide_a_one_way_path_of_a_peer_with_tokens() {
    let always = |_| Some(Duration::from_secs(10));
    assert_eq!(one_way(true, 10, &always, 100)[0], 90 + 35);
}

#[test]
fn silence_is_never_judged_by_less_than_the_spacing_that_was_seen() {
    // It announces a second, and sends each ten.
    for proven in [true, false] {
        assert_eq!(one_way(proven, 1, &|_| None, 600), [0_u64; 0], "proven: {proven}");
    }
}

#[test]
fn an_outage_or_a_doubled_request_does_not_stretch_the_silence() {
    for at in [[0, 10, 20, 320, 330], [0, 10, 20, 20, 30]] {
        let mut fixture = Fixture::new([peer(1, Some("a"))]);
        fixture.probe(1, capable("a"), 0);
        for (from, to) in at.iter().zip(&at[1..]) {
            announce(&mut fixture, 10 * SECOND, true);
            fixture.pass(SECOND * (to - from));
        }
        announce(&mut fixture, 10 * SECOND, true);
        fixture.pass(35 * SECOND);
        assert_eq!(fixture.verdict(1), Verdict::Up, "{at:?}");
        fixture.pass(SECOND);
        assert_eq!(fixture.verdict(1), Verdict::OneWay, "{at:?}");
    }
}

#[test]
fn mixed_settings_during_a_change_of_the_interval_make_no_peer_one_way() {
    // This agent's interval is 10 s; the peer announces another one and keeps it.
    for (interval, proven) in [(1, true), (1, false), (60, true), (60, false), (600, false)] {
        let mut fixture = Fixture::new([peer(1, Some("a"))]);
        fixture.probe(1, capable("a"), 0);
        for second in 0..3000 {
            if second % interval == 0 {
                announce(&mut fixture, SECOND * u32::try_from(interval).unwrap(), proven);
            }
            fixture.pass(SECOND);
            assert_eq!(fixture.verdict(1), Verdict::Up, "{interval} s after {second} s: {proven}");
        }
    }
}

#[test]
fn a_new_instance_with_a_longer_interval_is_not_silent() {
    let mut fixture = Fixture::new([peer(1, None)]);
    let request = |sender: &str, seconds: u64| KeepAlive {
        node: name(1),
        instance: Some(instance(sender)),
        interval: Some(Duration::from_secs(seconds)),
        goodbye: None,
        token: None,
        size: None,
    };
    let Outcome::Success { timings, answer } = success() else { unreachable!() };
    let answer = Answer { instance: Some(instance("a")), ..answer };
    fixture.probe(1, Outcome::Success { timings, answer }, 0);
    fixture.state.receive_request(fixture.now, Some(&request("a", 1)));
    fixture.state.receive_request(fixture.now, Some(&request("b", 60)));
    fixture.pass(Duration::from_secs(59));
    assert_eq!(fixture.verdict(1), Verdict::Up);
}

#[test]
fn a_forged_request_cannot_shorten_a_peers_interval() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.probe(1, success(), 0);
    fixture.receive(1, "a", None);
    let forged = KeepAlive {
        node: name(1),
        instance: Some(instance("forged")),
        interval: Some(Duration::ZERO),
        goodbye: None,
        token: None,
        size: None,
    };
    fixture.state.receive_request(fixture.now, Some(&forged));
    fixture.pass(Duration::from_secs(10));
    assert_eq!(fixture.verdict(1), Verdict::Up);
}

#[test]
fn silence_counts_only_while_the_agent_listens() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe(1, success(), 0);
    fixture.receive(1, "a", None);
    fixture.now.instant += Duration::from_secs(3600);
    fixture.state.restart_listening(fixture.now.instant);
    fixture.pass(Duration::from_secs(34));
    assert_eq!(fixture.verdict(1), Verdict::Up);
    fixture.pass(Duration::from_secs(2));
    assert_eq!(fixture.verdict(1), Verdict::OneWay, "silent since the agent listens again");
}
