//! Classifies errors of the operating system: pure, one table.
//!
//! The question behind every line is the origin of the error: the peer or the path, or this host.

use std::io;

use libc as os;

use crate::probe::{FailureReason, LocalError, Outcome};

/// The step of a probe in which an error occurs, which limits its possible origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// socket(2), its options and connect(2) itself: the error comes from this kernel.
    Open,
    /// The result of the pending connect: from the peer, a router, or a timeout.
    Connect,
    /// Sending the request and reading the answer.
    Exchange,
}

/// Classifies an error that occurred in `step`.
pub(super) fn classify(step: Step, error: &io::Error) -> Outcome {
    let timeout = match step {
        Step::Open | Step::Connect => FailureReason::ConnectTimeout,
        Step::Exchange => FailureReason::ResponseTimeout,
    };
    let Some(code) = error.raw_os_error() else {
        // The probe's own deadline has no errno.
        return match error.kind() {
            io::ErrorKind::TimedOut => Outcome::Failure(timeout),
            _ => Outcome::Local(LocalError::Other),
        };
    };
    match code {
        os::ETIMEDOUT => Outcome::Failure(timeout),
        // An ICMP port unreachable means the same as a reset (icmp_err_convert, net/ipv4/icmp.c).
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

/// Whether connect(2) found no route in this host's table. A route that refuses its target (unreachable,
/// blackhole) has another errno.
pub(super) fn is_missing_route(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(os::ENETUNREACH | os::ENETDOWN))
}

/// Whether the errno means that there is no route: reported by a router through ICMP
/// (icmp_err_convert in net/ipv4/icmp.c, icmpv6_err_convert in net/ipv6/icmp.c), or by this host's
/// routing table.
fn unreachable(step: Step, code: i32) -> bool {
    match code {
        os::EHOSTUNREACH | os::ENETUNREACH | os::EHOSTDOWN | os::ENETDOWN | os::ENONET => true,
        // Protocol unreachable, fragmentation needed, source route failed, parameter problem.
        os::ENOPROTOOPT | os::EMSGSIZE | os::EOPNOTSUPP | os::EPROTO => step != Step::Open,
        // ICMPv6 "administratively prohibited" arrives as EACCES; from connect(2) itself it is a
        // policy of this host.
        os::EACCES => step == Step::Connect,
        // A blackhole route (fib_props, net/ipv4/fib_semantics.c); Calico sets them for the free
        // addresses of a node's own block. The target address is never malformed.
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
    fn a_timeout_is_named_after_its_step() {
        for (step, reason) in [
            (Step::Open, FailureReason::ConnectTimeout),
            (Step::Connect, FailureReason::ConnectTimeout),
            (Step::Exchange, FailureReason::ResponseTimeout),
        ] {
            assert_eq!(of(step, os::ETIMEDOUT), Outcome::Failure(reason));
            let deadline = io::Error::from(io::ErrorKind::TimedOut);
            assert_eq!(classify(step, &deadline), Outcome::Failure(reason));
        }
    }

    #[test]
    fn errors_from_the_peer_or_the_path_are_failures() {
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
    fn errors_of_this_host_are_local() {
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
    fn no_other_errno_is_a_failure_of_the_peer() {
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
            // Linux has 133; the others stand for future ones.
            for code in -1..200 {
                let is_failure = matches!(of(step, code), Outcome::Failure(_));
                let expected = always.contains(&code) || more.contains(&code);
                assert_eq!(is_failure, expected, "errno {code} in {step:?}");
            }
        }
    }
}
