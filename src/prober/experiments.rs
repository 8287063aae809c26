//! Makes experiments, one after the other, on a thread of its own that ends when idle.
//!
//! Experiments are slow: a search for an MTU takes ten connections and up to ten seconds. So they never use a
//! worker of the pool, and few wait.

mod connect;
mod flows;
mod host;
mod mtu;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::experiment::{Experiment, ExperimentReport, Found};
use crate::name::NodeName;
pub use flows::{FlowTrial, repeat_flows, try_flows};
pub use host::hosts_answer;
pub use mtu::largest_packet;

/// Most experiments that wait.
pub const MAX_EXPERIMENTS: usize = 32;
/// Most of them that are slow: all but the questions to hosts, which so find room. Few, because one that has waited
/// long is aimed where the peer was.
const MAX_SLOW: usize = 4;

/// Makes experiments. Dropping it drops those that wait.
#[derive(Clone)]
pub struct Experimenter(Arc<Inner>);

struct Inner {
    report: Box<dyn Fn(ExperimentReport) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(NodeName, Experiment)>,
    running: bool,
    /// The last ones were hosts.
    asked: bool,
}

impl Experimenter {
    /// Without a thread. `report` is called once for each accepted experiment, on the thread `experiment`.
    #[must_use]
    pub fn new(report: impl Fn(ExperimentReport) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { report: Box::new(report), state: Mutex::default() }))
    }

    /// Queues an experiment, and never blocks. `false`: too many wait, or no thread can be started.
    #[must_use]
    pub fn submit(&self, node: NodeName, experiment: Experiment) -> bool {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slow = state.waiting.iter().filter(|(_, waiting)| waiting.is_slow()).count();
        if state.waiting.len() >= MAX_EXPERIMENTS || experiment.is_slow() && slow >= MAX_SLOW {
            return false;
        }
        state.waiting.push_back((node, experiment));
        if state.running {
            return true;
        }
        let inner = Arc::clone(&self.0);
        let thread = thread::Builder::new()
            .name("experiment".to_owned())
            .stack_size(super::WORKER_STACK)
            .spawn(move || inner.run());
        state.running = thread.is_ok();
        if !state.running {
            state.waiting.clear();
        }
        state.running
    }

    /// Drops those that wait.
    pub fn cancel(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.clear();
    }
}

impl Inner {
    /// What is made next: all hosts that wait, together, so that an outage of many does not take minutes, and one
    /// slow experiment, in turns. Empty at the end.
    fn next(&self) -> Vec<(NodeName, Experiment)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut slow, mut hosts): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|(_, next)| next.is_slow());
        // Hosts that never answer would keep a large mesh from all else.
        state.asked = !hosts.is_empty() && (slow.is_empty() || !state.asked);
        let next = if state.asked {
            Vec::from(std::mem::take(&mut hosts))
        } else {
            slow.pop_front().into_iter().collect()
        };
        hosts.extend(slow);
        state.waiting = hosts;
        state.running = !next.is_empty();
        next
    }

    fn run(&self) {
        loop {
            let next = self.next();
            if next.is_empty() {
                return;
            }
            let found = perform(&next);
            let ended = Instant::now();
            for ((node, experiment), found) in next.into_iter().zip(found) {
                let address = experiment.address();
                (self.report)(ExperimentReport { node, address, ended, found });
            }
        }
    }
}

/// Makes one experiment, or asks several hosts.
fn perform(next: &[(NodeName, Experiment)]) -> Vec<Found> {
    let one = match next {
        [(_, Experiment::Mtu { address, direction })] => {
            Found::Mtu(*direction, largest_packet(*address, *direction))
        }
        [(_, Experiment::Flows { address, failed, passed })] => {
            Found::Flows(repeat_flows(*address, failed, passed))
        }
        hosts => {
            let addresses: Vec<_> = hosts.iter().map(|(_, host)| host.address()).collect();
            return hosts_answer(&addresses).into_iter().map(Found::Host).collect();
        }
    };
    vec![one]
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::probe::Direction;

    fn host(address: SocketAddr) -> (NodeName, Experiment) {
        (NodeName::new("n1").unwrap(), Experiment::Host { address })
    }

    #[test]
    fn experiments_beyond_the_bound_are_refused() {
        let report = |_: ExperimentReport| unreachable!("none runs");
        let all = Experimenter::new(report);
        // As if its thread were busy.
        all.0.state.lock().unwrap().running = true;
        let (node, experiment) = host("127.64.5.1:1".parse().unwrap());
        let accepted = (0..100).filter(|_| all.submit(node.clone(), experiment.clone())).count();
        assert_eq!(accepted, MAX_EXPERIMENTS);
        assert!(accepted as f64 <= wylis_harness::bounds::worst_case("MAX_EXPERIMENTS"));
        all.cancel();
        assert!(all.submit(node, experiment));
    }

    #[test]
    fn slow_experiments_leave_room_for_hosts() {
        let all = Experimenter::new(|_| unreachable!("none runs"));
        all.0.state.lock().unwrap().running = true;
        let (node, host) = host("127.64.5.4:1".parse().unwrap());
        let search = Experiment::Mtu { address: host.address(), direction: Direction::Outgoing };
        let accepted = (0..100).filter(|_| all.submit(node.clone(), search.clone())).count();
        assert_eq!(accepted, MAX_SLOW);
        assert!(accepted as f64 <= wylis_harness::bounds::worst_case("MAX_SLOW"));
        assert!(all.submit(node.clone(), host));
        assert!(!all.submit(node, search));
    }

    #[test]
    fn hosts_go_first_and_together() {
        let all = Experimenter::new(|_| {});
        all.0.state.lock().unwrap().running = true;
        let address = "127.64.5.2:1".parse().unwrap();
        let flows = Experiment::Flows { address, failed: vec![], passed: vec![] };
        for experiment in [flows.clone(), host(address).1, flows.clone(), host(address).1] {
            assert!(all.submit(host(address).0, experiment));
        }
        let next = || all.0.next().into_iter().map(|(_, next)| next).collect::<Vec<_>>();
        assert_eq!(next(), [host(address).1, host(address).1]);
        assert_eq!((next(), next()), (vec![flows.clone()], vec![flows.clone()]));
        assert!(all.0.state.lock().unwrap().running, "it may come for more");
        // Hosts that never answer keep it busy in a large mesh.
        let next_is_slow = |all: &Experimenter| all.0.next().iter().any(|(_, next)| next.is_slow());
        for _ in 0..3 {
            assert!(all.submit(host(address).0, host(address).1));
            assert!(all.submit(host(address).0, flows.clone()));
            assert!(!next_is_slow(&all));
            assert!(all.submit(host(address).0, host(address).1));
            assert!(next_is_slow(&all), "in turns");
        }
        assert!(!next_is_slow(&all));
        assert!(next().is_empty() && !all.0.state.lock().unwrap().running);
    }

    #[test]
    fn each_host_is_reported_and_the_thread_ends() {
        let (sender, reports) = channel();
        let all = Experimenter::new(move |report| sender.send(report).unwrap());
        let open = TcpListener::bind("127.64.5.3:0").unwrap();
        let address = open.local_addr().unwrap();
        let closed = SocketAddr::new(address.ip(), 1);
        for address in [address, closed] {
            let (node, experiment) = host(address);
            assert!(all.submit(node, experiment));
        }
        for expected in [address, closed] {
            let report = reports.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!((report.address, report.found), (expected, Found::Host(Some(true))));
        }
        let ended = || !all.0.state.lock().unwrap().running;
        wylis_harness::wait_until(Duration::from_secs(10), "the thread ends", ended);
    }
}
