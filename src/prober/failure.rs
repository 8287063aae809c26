//! What an error of the operating system means for a probe: pure, one table.
//!
//! It only names; it neither waits nor retries. The question behind every line is whose fault it
//! is: the peer's and the path's, or our own host's.

use std::io;

use libc as os;

use crate::probe::{FailureReason, LocalError, Outcome};

/// Who could have caused an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// socket(2), its options and connect(2) itself: our own kernel speaks.
    Open,
    /// The pending connect's result: the peer or a router has spoken, or nobody has.
    Connect,
    /// Sending the request and reading the answer.
    Exchange,
}

/// Names an error that happened in `step`.
pub(super) fn classify(step: Step, error: &io::Error) -> Outcome {
    let late = match step {
        Step::Open | Step::Connect => FailureReason::ConnectTimeout,
        Step::Exchange => FailureReason::ResponseTimeout,
    };
    let Some(code) = error.raw_os_error() else {
        // Our own deadline has no code of the system's.
        return match error.kind() {
            io::ErrorKind::TimedOut => Outcome::Failure(late),
            _ => Outcome::Local(LocalError::Other),
        };
    };
    match code {
        os::ETIMEDOUT => Outcome::Failure(late),
        // A port unreachable of ICMP says the same as a reset (icmp_err_convert, net/ipv4/icmp.c).
        os::ECONNREFUSED => Outcome::Failure(FailureReason::Refused),
        // EPIPE: a reset after the peer's FIN, or nothing left to write to.
        os::ECONNRESET | os::EPIPE => Outcome::Failure(FailureReason::Reset),
        _ if unreachable(step, code) => Outcome::Failure(FailureReason::Unreachable),
        os::EMFILE | os::ENFILE => Outcome::Local(LocalError::NoDescriptors),
        os::EADDRNOTAVAIL => Outcome::Local(LocalError::NoPorts),
        os::ENOBUFS | os::ENOMEM => Outcome::Local(LocalError::NoMemory),
        os::EPERM | os::EACCES => Outcome::Local(LocalError::Denied),
        _ => Outcome::Local(LocalError::Other),
    }
}

/// Whether the code says that there is no way: a router by ICMP (icmp_err_convert in
/// net/ipv4/icmp.c, icmpv6_err_convert in net/ipv6/icmp.c), or our own routing table.
fn unreachable(step: Step, code: i32) -> bool {
    match code {
        os::EHOSTUNREACH | os::ENETUNREACH | os::EHOSTDOWN | os::ENETDOWN | os::ENONET => true,
        // Protocol unreachable, fragmentation needed, source route failed, parameter problem.
        os::ENOPROTOOPT | os::EMSGSIZE | os::EOPNOTSUPP | os::EPROTO => step != Step::Open,
        // ICMPv6 "administratively prohibited" arrives as EACCES; from connect(2) itself it is a
        // policy of our own host.
        os::EACCES => step == Step::Connect,
        // A blackhole route (fib_props, net/ipv4/fib_semantics.c); Calico sets them for the free
        // addresses of a node's own block. Our address is never malformed.
        os::EINVAL => step == Step::Open,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(step: Step, code: i32) -> Outcome {
        classify(step, &io::Error::from_raw_os_error(code))
    }

    #[test]
    fn running_out_of_time_is_named_after_the_step() {
        for (step, reason) in [
            (Step::Open, FailureReason::ConnectTimeout),
            (Step::Connect, FailureReason::ConnectTimeout),
            (Step::Exchange, FailureReason::ResponseTimeout),
        ] {
            assert_eq!(of(step, os::ETIMEDOUT), Outcome::Failure(reason));
            let own = io::Error::from(io::ErrorKind::TimedOut);
            assert_eq!(classify(step, &own), Outcome::Failure(reason));
        }
    }

    #[test]
    fn the_peer_and_the_path_are_blamed_for_what_they_said() {
        use FailureReason::{Refused, Reset, Unreachable};
        for (code, reason) in [
            (os::ECONNREFUSED, Refused),
            (os::ECONNRESET, Reset),
            (os::EPIPE, Reset),
            (os::EHOSTUNREACH, Unreachable),
            (os::ENETUNREACH, Unreachable),
            (os::EHOSTDOWN, Unreachable),
            (os::ENONET, Unreachable),
            (os::ENOPROTOOPT, Unreachable),
            (os::EMSGSIZE, Unreachable),
            (os::EOPNOTSUPP, Unreachable),
            (os::EPROTO, Unreachable),
            (os::EACCES, Unreachable),
        ] {
            assert_eq!(of(Step::Connect, code), Outcome::Failure(reason), "errno {code}");
        }
        assert_eq!(of(Step::Open, os::ENETUNREACH), Outcome::Failure(Unreachable));
        assert_eq!(of(Step::Open, os::EINVAL), Outcome::Failure(Unreachable));
        assert_eq!(of(Step::Exchange, os::EHOSTUNREACH), Outcome::Failure(Unreachable));
    }

    #[test]
    fn our_own_host_is_blamed_for_the_rest() {
        use LocalError::{Denied, NoDescriptors, NoMemory, NoPorts, Other};
        for (code, local) in [
            (os::EMFILE, NoDescriptors),
            (os::ENFILE, NoDescriptors),
            (os::EADDRNOTAVAIL, NoPorts),
            (os::ENOBUFS, NoMemory),
            (os::ENOMEM, NoMemory),
            (os::EPERM, Denied),
            (os::EACCES, Denied),
            (os::EAFNOSUPPORT, Other),
            (os::ENOPROTOOPT, Other),
        ] {
            assert_eq!(of(Step::Open, code), Outcome::Local(local), "errno {code}");
        }
        assert_eq!(of(Step::Exchange, os::EINVAL), Outcome::Local(Other));
        assert_eq!(classify(Step::Connect, &io::Error::other("?")), Outcome::Local(Other));
    }

    #[test]
    fn no_other_code_of_the_system_blames_the_peer() {
        let always = [
            os::ETIMEDOUT,
            os::ECONNREFUSED,
            os::ECONNRESET,
            os::EPIPE,
            os::EHOSTUNREACH,
            os::ENETUNREACH,
            os::EHOSTDOWN,
            os::ENETDOWN,
            os::ENONET,
        ];
        let by_icmp = [os::ENOPROTOOPT, os::EMSGSIZE, os::EOPNOTSUPP, os::EPROTO];
        for (step, more) in [
            (Step::Open, &[os::EINVAL][..]),
            (Step::Connect, &[&by_icmp[..], &[os::EACCES]].concat()),
            (Step::Exchange, &by_icmp),
        ] {
            // Linux knows 133; the others stand for those to come.
            for code in -1..200 {
                let blamed = matches!(of(step, code), Outcome::Failure(_));
                let expected = always.contains(&code) || more.contains(&code);
                assert_eq!(blamed, expected, "errno {code} in {step:?}");
            }
        }
    }
}
