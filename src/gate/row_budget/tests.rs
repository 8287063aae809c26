use proptest::prelude::*;
use wylis_harness::bounds::worst_case;

use super::*;
use crate::name::NodeName;

fn rows() -> RowBudget {
    RowBudgets::default().rows
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

#[test]
fn a_host_that_floods_takes_no_row_from_collectors() {
    let (mut budget, start) = (rows(), Instant::now());
    let mut flooder = 0;
    for at in 0..60_000_u64 {
        let now = start + Duration::from_millis(at);
        flooder += u32::from(budget.take(ip(0), now));
        // 18 agents, each once in 5 s, all at the same time.
        if at % 5000 == 2500 {
            let served = (1..=18).filter(|agent| budget.take(ip(*agent), now)).count();
            assert_eq!(served, 18, "after {at} ms");
        }
    }
    assert!(flooder <= 60 * ROWS_PER_SECOND - 12 * 18 + ROWS_BURST, "{flooder}");
}

#[test]
fn ten_pages_on_ten_agents_always_get_the_row() {
    for shared in [false, true] {
        let (mut budget, start) = (rows(), Instant::now());
        for round in 0..20 {
            let now = start + Duration::from_secs(5) * round;
            // Addresses may be rewritten to one.
            let served = (0..10).filter(|agent| budget.take(ip(agent * u8::from(!shared)), now));
            assert_eq!(served.count(), 10, "{round}");
        }
    }
}

proptest! {
    #[test]
    fn no_pattern_of_requests_exceeds_burst_and_rate(
        requests in prop::collection::vec((0_u64..700, 0_u8..30), 1..300),
    ) {
        let (mut budget, start) = (rows(), Instant::now());
        let (mut at, mut taken) = (0, 0);
        for (pause, address) in requests {
            at += pause;
            taken += u64::from(budget.take(ip(address), start + Duration::from_millis(at)));
            prop_assert!(taken <= u64::from(ROWS_BURST) + at * u64::from(ROWS_PER_SECOND) / 1000);
            prop_assert!(budget.served.len() <= 40 + 4 * 4, "as many as are sent in {LATELY:?}");
        }
    }
}

/// Routes of the past, each with the number that is answered at once.
fn routes_of_the_past() -> [(Route, u32); 5] {
    let node = NodeName::new("n1").unwrap();
    [
        (Route::PastRow(17), PAST_ROWS_BURST - RESERVED),
        (Route::PastRowOf(17, node.clone()), PAST_ROWS_BURST - RESERVED),
        (Route::Faults, PAST_ROWS_BURST - RESERVED),
        (Route::FaultsOf(node), PAST_ROWS_BURST - RESERVED),
        (Route::PastMatrix(17), PAST_MATRICES_BURST / 2),
    ]
}

#[test]
fn floods_of_the_past_take_no_row_of_now_and_end_at_their_own_bounds() {
    for (route, at_once) in routes_of_the_past() {
        let (mut budgets, now) = (RowBudgets::default(), Instant::now());
        let answered = (0..1000).filter(|_| budgets.take(&route, ip(0), now)).count();
        assert_eq!(u32::try_from(answered).unwrap(), at_once, "{route:?}");
        assert!(budgets.take(&route, ip(1), now), "{route:?}: an address that asks seldom");
        // Any number of addresses in 10 s.
        let all = (0..10_000_u16).filter(|number| {
            let later = now + Duration::from_millis((*number).into());
            let [high, low] = number.to_be_bytes();
            budgets.take(&route, [10, 1, high, low].into(), later)
        });
        let most = match route {
            Route::PastMatrix(_) => {
                worst_case("PAST_MATRICES_BURST") + 10.0 * worst_case("PAST_MATRICES_PER_SECOND")
            }
            _ => worst_case("PAST_ROWS_BURST") + 10.0 * worst_case("PAST_ROWS_PER_SECOND"),
        };
        assert!(f64::from(at_once) + 1.0 + all.count() as f64 <= most, "{route:?}");
        let row = Route::Row;
        let rows = (0..1000).filter(|_| budgets.take(&row, ip(0), now)).count();
        assert_eq!(u32::try_from(rows).unwrap(), ROWS_BURST - RESERVED, "{route:?}");
        let plain = (0..1000).filter(|_| budgets.take(&Route::History, ip(0), now)).count();
        assert_eq!(plain, 1000, "what costs one agent only has no bound");
    }
}

#[test]
fn ten_pages_on_ten_agents_move_through_the_day_and_get_every_row() {
    let start = Instant::now();
    let mut agents: Vec<RowBudgets> = (0..10).map(|_| RowBudgets::default()).collect();
    let (mut matrices, mut asked) = (0, 0);
    // Each page asks ten times a second for half a minute, as fast as none should.
    for tick in 0..300 {
        let now = start + Duration::from_millis(100) * tick;
        for agent in 0..10_u8 {
            asked += 1;
            let place = usize::from(agent);
            if !agents[place].take(&Route::PastMatrix(tick.into()), ip(100 + agent), now) {
                continue;
            }
            matrices += 1;
            let from = ip(agent);
            for (_, owner) in agents.iter_mut().enumerate().filter(|(other, _)| *other != place) {
                assert!(owner.take(&Route::PastRow(tick.into()), from, now), "tick {tick}");
            }
        }
        // And every agent shows the matrix of now.
        if tick % 50 == 0 {
            for agent in 0..10_u8 {
                let others = agents.iter_mut().enumerate();
                for (_, owner) in others.filter(|(other, _)| *other != usize::from(agent)) {
                    assert!(owner.take(&Route::Row, ip(agent), now), "tick {tick}");
                }
            }
        }
    }
    assert!(matrices >= 10 * 4 * 30, "{matrices} of {asked}");
    assert!(matrices <= 10 * (4 * 30 + 20), "{matrices} of {asked}");
}
