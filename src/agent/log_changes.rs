//! The log lines of changes.

use crate::experiment::Detail;
use crate::name::NodeName;
use crate::state::{Incoming, Verdict};

pub(super) fn log_incoming(node: &NodeName, verdict: Verdict, incoming: Incoming) {
    let verdict = verdict.as_str();
    match incoming {
        Incoming::Requests => {
            log::warn!("peer {node:?} is {verdict}, but its requests arrive");
        }
        Incoming::Syns => log::warn!(
            "peer {node:?} is {verdict}, but its SYNs arrive: the path to it is broken, the reverse path \
             works"
        ),
        Incoming::Nothing => {}
    }
}

/// Each of these places in the code may write so many lines: the first verdicts of a large mesh must not
/// use up those of an outage.
pub(super) fn log_verdict(
    node: &NodeName,
    from: Verdict,
    to: Verdict,
    (failed, probes): (usize, usize),
    detail: Option<Detail>,
) {
    match to {
        Verdict::Flaky(reason) => {
            log::warn!("peer {node:?} is flaky ({reason}, {failed} of {probes}), was {from}");
        }
        Verdict::Down(_) | Verdict::OneWay | Verdict::Lossy | Verdict::Mtu(_) => {
            log::warn!("peer {node:?} is {}, was {from}", to.with(detail));
        }
        Verdict::Up if from == Verdict::Unknown => log::info!("peer {node:?} is {to}, was {from}"),
        Verdict::Up => log::info!("peer {node:?} is {to}, was {from}"),
        Verdict::Draining | Verdict::Unknown => log::info!("peer {node:?} is {to}, was {from}"),
    }
}
