//! Tests that wait for WireGuard's own timers; run by `make tunnels-long`.

use std::time::Duration;

use super::door::{PATIENCE, Run, at_once, faulty, side_by_side};
use super::faults::{self, Fault};
use super::network::{Topology, able};
use super::workload::{Link, Tally};

/// Older than any usable session (REJECT_AFTER_TIME, 180 s).
const EXPIRED: Duration = Duration::from_secs(185);
const CONNECTIONS: u32 = 3;

/// One connection of each pair after each expiry of its session; the first packet of every handshake is
/// lost.
fn sessions_expire(agents: bool) -> Option<(Run, f64)> {
    let (faults, mesh) = faulty(Topology::of(3), &faults::lost_handshake(), agents)?;
    let lost = || faults.iter().map(|fault: &Fault| fault.packets("lost")).sum();
    let failures = || mesh.agents.sum("wylis_probe_failures_total", &[]);
    let (before, failed_before) = (lost(), failures());
    let links = [(1, 2), (2, 3), (3, 1)]
        .map(|(source, target)| ((source, target), Link::new(&mesh.network, source, target)));
    let mut pairs = links.each_ref().map(|(pair, _)| (*pair, Tally::default()));
    for round in 0..CONNECTIONS {
        if round > 0 {
            std::thread::sleep(EXPIRED);
        }
        let took = at_once(links.each_ref(), |(_, link)| link.connect(PATIENCE));
        pairs.iter_mut().zip(took).for_each(|((_, tally), took)| tally.add(took));
    }
    Some((Run { pairs: pairs.into(), drops: (before, lost()) }, failures() - failed_before))
}

#[test]
#[ignore = "takes seven minutes: make tunnels-long"]
fn long_sessions_are_renewed_before_they_expire() {
    if !able() {
        return;
    }
    let Some([(control, _), (treated, failures)]) =
        side_by_side([Box::new(|| sessions_expire(false)), Box::new(|| sessions_expire(true))])
    else {
        return;
    };
    println!(
        "door, WireGuard's timers, every handshake loses its first packet, without Wylis: {}, {} \
         handshake packets dropped; with Wylis: {}, {} dropped before, {} afterwards, {failures} \
         probes failed",
        control.total(),
        control.drops.1,
        treated.total(),
        treated.drops.0,
        treated.drops.1 - treated.drops.0
    );
    let all = CONNECTIONS * 3;
    assert_eq!((control.total().connections, control.total().slow), (all, all), "{control:?}");
    assert_eq!(control.drops.1, u64::from(all), "one for each connection");
    let total = treated.total();
    assert_eq!((total.connections, total.slow, total.failed), (all, 0, 0), "{treated:?}");
    let renewals = treated.drops.1 - treated.drops.0;
    assert!(renewals >= 6, "each of three sessions was renewed at 120, 240 and 360 s: {treated:?}");
    assert_eq!(failures, 0.0, "a renewal failed a probe");
}
