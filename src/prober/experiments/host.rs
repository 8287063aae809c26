//! Any sign of life of a host.

use std::net::SocketAddr;
use std::time::Duration;

use super::connect::{Ending, connect_all};

/// Longest wait: a SYN is sent again after 1 s, and once more after 2 or 3 s.
const WAIT: Duration = Duration::from_millis(2500);

/// Whether each host answers a SYN to a port that is expected to be closed; `None` if this host did not ask.
///
/// A reset or a SYN-ACK is a sign of life, and so is an ICMP error that the host itself sent, as its firewall may do.
/// One of another sender is none: a router that finds no host, or this node. A firewall on the way that resets in the
/// name of the host cannot be told from it.
#[must_use]
pub fn hosts_answer(addresses: &[SocketAddr]) -> Vec<Option<bool>> {
    let targets = addresses.iter().map(|address| (*address, None));
    let endings = connect_all(targets, WAIT).into_iter().zip(addresses);
    endings.map(|((_, ending), address)| is_sign_of_life(ending, *address)).collect()
}

fn is_sign_of_life(ending: Ending, host: SocketAddr) -> Option<bool> {
    match ending {
        Ending::Connected(_) => Some(true),
        Ending::Failed { sender: Some(sender), .. } => Some(sender == host.ip().to_canonical()),
        Ending::Failed { refused, sender: None } => Some(refused),
        Ending::TimedOut => Some(false),
        Ending::NotSent => None,
    }
}
