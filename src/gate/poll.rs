//! epoll and what wakes it, without `unsafe`: the one place that waits. Decides nothing.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use crate::shutdown::StopToken;

/// Events taken at once: a burst costs few calls, and none waits behind hundreds.
const EVENTS: usize = 64;
/// The names of what is no connection; ids never have the topmost bit.
pub(super) const LISTENER: u64 = u64::MAX;
pub(super) const STOP: u64 = u64::MAX - 1;
pub(super) const SMALL: u64 = u64::MAX - 2;
pub(super) const BULK: u64 = u64::MAX - 3;
pub(super) const GATHERED: u64 = u64::MAX - 4;

/// What a descriptor is watched for. Hang-ups and errors always come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// Only that it broke.
    Nothing,
    /// Something to read.
    Read,
    /// Place to write.
    Write,
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Nothing => epoll::EventFlags::empty(),
            Self::Read => epoll::EventFlags::IN,
            Self::Write => epoll::EventFlags::OUT,
        }
    }
}

/// The descriptors watched, level-triggered.
pub(super) struct Poll {
    epoll: OwnedFd,
    // Readable for ever after the stop.
    stop: Arc<OwnedFd>,
}

impl Poll {
    /// Watches the stop token, and nothing else yet.
    pub(super) fn new(stop: &StopToken) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wakes = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let poll = Self { epoll, stop: Arc::clone(&wakes) };
        poll.add(&poll.stop, STOP, Interest::Read)?;
        stop.on_stop(move || {
            // It can fail only when it is readable already.
            let _ = rustix::io::write(&*wakes, &1_u64.to_ne_bytes());
        });
        Ok(poll)
    }

    pub(super) fn add(&self, fd: impl AsFd, name: u64, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(name), interest.flags())
    }

    pub(super) fn modify(&self, fd: impl AsFd, name: u64, interest: Interest) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(name), interest.flags())
    }

    pub(super) fn forget(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.epoll, fd)
    }

    /// No longer hears the stop, which would be readable for ever.
    pub(super) fn forget_stop(&self) -> Result<(), Errno> {
        self.forget(&self.stop)
    }

    /// Waits until the deadline, or without one; puts the names of what happened into `names`.
    pub(super) fn wait(
        &self,
        now: Instant,
        deadline: Option<Instant>,
        names: &mut Vec<u64>,
    ) -> Result<(), Errno> {
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(now);
            // epoll_wait counts milliseconds: up, or we would wake before the deadline.
            let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
            // Our deadlines are seconds away: an hour is a bound that always converts.
            Timespec::try_from(left.min(Duration::from_secs(3600))).unwrap_or_default()
        });
        names.clear();
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((happened, _)) => names.extend(happened.iter().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
