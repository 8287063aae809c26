//! What retransmits, handshakes and exchanges of the recent probes tell of the path.

use super::flaky::Numbers;
use super::*;

fn millis(millis: f64) -> Duration {
    Duration::from_secs_f64(millis / 1000.0)
}

/// Milliseconds of handshake and exchange, retransmitted SYNs, and retransmits of the request.
type Exchange = (f64, f64, u32, u32);

impl Fixture {
    fn exchange(&mut self, (connect, response, syns, requests): Exchange) -> Verdict {
        let (connect, response) = (millis(connect), millis(response));
        let timings = Timings { connect, response, total: connect + response };
        let outcome = Outcome::Success { timings, answer: Answer::default() };
        let kernel = KernelView {
            retransmits: syns + requests,
            syn_retransmits: syns,
            connect: Some(connect),
            rtt: Some(connect),
            ..KernelView::default()
        };
        let report = Report { outcome, kernel: Some(kernel), ..self.begin(1) };
        self.pass(Duration::from_secs(10));
        self.state.report(self.now, &report);
        self.verdict(1)
    }

    /// Fails with a timeout of 5 s, after a handshake of that many milliseconds.
    fn time_out_after(&mut self, connect: Option<f64>) -> Verdict {
        let connect = connect.map(millis);
        let reason = match connect {
            Some(_) => FailureReason::ResponseTimeout,
            None => FailureReason::ConnectTimeout,
        };
        let kernel = Some(KernelView { connect, ..KernelView::default() });
        let report = Report { outcome: Outcome::Failure(reason), kernel, ..self.begin(1) };
        self.pass(Duration::from_secs(5));
        self.state.report(self.now, &Report { ended: self.now.instant, ..report });
        self.verdict(1)
    }
}

/// Records of peers whose last success had these round-trip times.
pub(crate) fn peers_at(rtts: [Duration; 2]) -> Vec<Arc<PeerRecord>> {
    let records = rtts.map(|rtt| {
        let mut fixture = fixture();
        fixture.exchange((rtt.as_secs_f64() * 1e3, rtt.as_secs_f64() * 1e3, 0, 0));
        fixture.state.snapshot(fixture.now).peers
    });
    records.concat()
}

fn fixture() -> Fixture {
    Fixture::new([peer(1, None)])
}

const FAST: Exchange = (20.0, 21.0, 0, 0);
const SLOW: Exchange = (1200.0, 1201.0, 1, 0);

#[test]
fn a_retransmit_counts_only_if_a_segment_was_lost() {
    let repeat = |what: &[Exchange]| what.repeat(20);
    let then = |first: Exchange, second: Exchange| [vec![first; 20], vec![second; 20]].concat();
    for (what, exchanges, lossy) in [
        ("1.2 s", repeat(&[SLOW]), false),
        ("2.2 s, timers of 1, 2, 3 s", repeat(&[(2200.0, 2205.0, 2, 0)]), false),
        ("2.2 s, timers of 1, 3, 7 s", repeat(&[(2200.0, 2205.0, 1, 0)]), false),
        ("4 s, timer of 3 s for the request", repeat(&[(4000.0, 4005.0, 2, 1)]), false),
        ("around 1 s", repeat(&[(900.0, 1050.0, 0, 0), (1100.0, 910.0, 1, 0)]), false),
        ("a path that becomes slow", then(FAST, SLOW), false),
        ("a path that is no longer slow", then(SLOW, FAST), false),
        ("a cold path", repeat(&[(1020.0, 21.0, 1, 0)]), true),
        ("a lost SYN now and then", repeat(&[FAST, FAST, FAST, (1020.0, 21.0, 1, 0)]), true),
        ("a lost request", repeat(&[FAST, FAST, (20.0, 241.0, 0, 1)]), true),
        ("a lost request at 150 ms", repeat(&[(150.0, 600.0, 0, 1)]), true),
        ("a lost SYN at 0.9 s", repeat(&[(1900.0, 901.0, 1, 0)]), true),
        ("a lost SYN at 1.2 s", repeat(&[SLOW, SLOW, (2200.0, 1201.0, 2, 0)]), true),
        ("a lost SYN of a busy agent", repeat(&[FAST, (1020.0, 500.0, 1, 0), FAST]), true),
        ("a lost SYN and a lost answer", repeat(&[FAST, (1020.0, 230.0, 1, 0)]), true),
    ] {
        let mut fixture = fixture();
        let verdicts: Vec<_> = exchanges.iter().map(|one| fixture.exchange(*one)).collect();
        assert_eq!(verdicts.contains(&Verdict::Lossy), lossy, "{what}: {verdicts:?}");
        let record = fixture.record();
        assert_eq!(record.lossy_probes() > 0, lossy, "{what}");
        assert!(lossy || record.retransmits == 0, "{what}: {}", record.retransmits);
        assert_eq!(record.retransmits_per_probe() > Some(0.0), lossy, "{what}");
    }
}

/// One probe of a path with this round trip, as the kernel makes it; `None` after 5 s.
fn simulate(numbers: &mut Numbers, round_trip: f64, lost_per_thousand: u64) -> Option<Exchange> {
    let mut lost = || numbers.below(1000) < lost_per_thousand;
    // A SYN each second (tcp_syn_linear_timeouts), each answered by one SYN-ACK.
    let answered = (0..5_u32).find(|_| !lost() && !lost())?;
    let jitter = 1.0 + f64::from(u32::try_from(numbers.below(300)).unwrap()) / 1000.0;
    let connect = f64::from(answered) * 1000.0 + round_trip * jitter;
    let syns = (1..5).filter(|timer| f64::from(*timer) * 1000.0 < connect).count();
    let mut lost = || numbers.below(1000) < lost_per_thousand;
    let timer = (3.0 * round_trip).max(round_trip + 200.0);
    let (mut requests, mut sent) = (0, 0.0);
    while lost() {
        sent += timer * f64::from(1 << requests);
        requests += 1;
        if sent > 5000.0 {
            return None;
        }
    }
    let jitter = 1.0 + f64::from(u32::try_from(numbers.below(300)).unwrap()) / 1000.0;
    let response = sent + round_trip * jitter + 1.0;
    let exchange = (connect, response, u32::try_from(syns).unwrap(), requests);
    (connect + response < 5000.0).then_some(exchange)
}

#[test]
fn no_round_trip_makes_a_path_lossy_and_losses_do_at_every_round_trip() {
    for round_trip in [0.3, 20.0, 150.0, 400.0, 700.0, 900.0, 1200.0, 1700.0] {
        let mut numbers = Numbers(1);
        let mut fixture = fixture();
        for _ in 0..1000 {
            let exchange = simulate(&mut numbers, round_trip, 0).unwrap();
            assert_eq!(fixture.exchange(exchange), Verdict::Up, "{round_trip} ms: {exchange:?}");
        }
        if round_trip > 1200.0 {
            continue;
        }
        let mut told = 0;
        for seed in 0..100 {
            let (mut numbers, mut fixture) = (Numbers(seed), self::fixture());
            let is_told = |verdict| matches!(verdict, Verdict::Lossy | Verdict::Flaky(_));
            told += usize::from((0..40).any(|_| {
                is_told(match simulate(&mut numbers, round_trip, 100) {
                    Some(exchange) => fixture.exchange(exchange),
                    None => fixture.time_out_after(None),
                })
            }));
        }
        println!("{round_trip} ms, 10 % lost: {told} of 100 told within 40 slots");
        assert!(told >= 95, "{round_trip} ms: {told} of 100 told");
    }
}

/// Ten hours of twenty healthy pairs, on paths that lose 0.1 % of the packets.
#[test]
fn chance_makes_hardly_any_path_lossy() {
    let (mut numbers, mut fixture) = (Numbers(3), fixture());
    let (mut episodes, mut before) = (0, Verdict::Up);
    for _ in 0..10 * 20 * 360 {
        let is_lost = numbers.below(200) == 0;
        let verdict = fixture.exchange(if is_lost { (1020.0, 21.0, 1, 0) } else { FAST });
        episodes += usize::from(verdict == Verdict::Lossy && before != verdict);
        before = verdict;
    }
    println!("lossy {episodes} times in 10 hours of 20 pairs");
    assert!(episodes <= 5, "{episodes}");
}

#[test]
fn a_peer_is_slow_if_it_is_down_because_two_round_trips_exceed_the_timeout() {
    for (connects, slow) in [
        (vec![Some(4000.0); 3], Some(4000.0)),
        (vec![Some(2600.0), Some(2700.0), Some(2600.0)], Some(2600.0)),
        (vec![None, Some(4000.0), Some(4100.0)], Some(4000.0)),
        // The path became slow during the first one.
        (vec![Some(2200.0), Some(4000.0), Some(4000.0), Some(4000.0)], Some(4000.0)),
        // A frozen peer, and one with losses.
        (vec![Some(0.3); 3], None),
        (vec![Some(3020.0), Some(20.0), Some(3020.0)], None),
        (vec![None, None, Some(3020.0)], None),
    ] {
        let mut fixture = fixture();
        fixture.exchange(FAST);
        assert_eq!(fixture.record().expected_round_trip(), Some(millis(20.0)));
        for connect in &connects {
            fixture.time_out_after(*connect);
        }
        assert_eq!(fixture.verdict(1), Verdict::Down(FailureReason::ResponseTimeout));
        let record = fixture.record();
        assert_eq!(record.is_slower_than_timeout(), slow.is_some(), "{connects:?}");
        let expected = slow.map_or(millis(20.0), millis);
        assert_eq!(record.expected_round_trip(), Some(expected), "{connects:?}");
    }
}

#[test]
fn a_round_trip_is_forgotten_with_the_last_recent_success() {
    let mut fixture = fixture();
    fixture.exchange(FAST);
    for _ in 0..RECENT - 1 {
        fixture.time_out_after(None);
    }
    assert_eq!(fixture.record().recent_rtt(), Some(millis(20.0)));
    fixture.time_out_after(None);
    let record = fixture.record();
    assert_eq!((record.recent_rtt(), record.rtt()), (None, Some(millis(20.0))));
}

#[test]
fn something_answers_handshakes_if_each_is_far_faster_than_every_response() {
    for (what, exchanges, intercepted) in [
        ("a satellite", vec![(0.5, 600.0, 0, 0); 10], true),
        ("too few probes", vec![(0.5, 600.0, 0, 0); 9], false),
        ("a small board", vec![(0.3, 5.0, 0, 0); 20], false),
        ("a very slow agent nearby", vec![(0.3, 19.0, 0, 0); 20], false),
        ("a far agent", vec![(150.0, 171.0, 0, 0); 20], false),
        ("a busy agent", [vec![(0.3, 80.0, 0, 0); 19], vec![(0.3, 1.0, 0, 0)]].concat(), false),
        ("a proxy with losses", [(0.5, 600.0, 1, 0), (0.6, 610.0, 0, 1)].repeat(10), true),
    ] {
        let mut fixture = fixture();
        for exchange in exchanges {
            fixture.exchange(exchange);
        }
        let record = fixture.record();
        assert_eq!(record.is_intercepted(), intercepted, "{what}");
        assert_eq!(record.rtt().is_none(), intercepted, "{what}: no round trip is claimed");
        assert_eq!((record.verdict, record.lossy_probes()), (Verdict::Up, 0), "{what}");
    }
}
