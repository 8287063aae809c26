//! epoll and an eventfd, without `unsafe`: the only place where the gate blocks.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use crate::route::Lane;
use crate::shutdown::StopToken;

/// Events taken at once: a burst costs few system calls, and no event waits behind hundreds.
const MAX_EVENTS: usize = 64;
/// An upper bound that always converts to a `timespec`; real deadlines are seconds away.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// The token of the first lane; the listener and the stop come before.
const FIRST_LANE: u64 = 2;

/// The number of a client connection. Never reused, so that a late event or response finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientId(u64);

impl ClientId {
    /// The number of the first connection.
    pub(super) const FIRST: Self = Self(FIRST_LANE + Lane::ALL.len() as u64);

    /// The number of the connection after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The source of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Listener,
    Stop,
    Lane(Lane),
    Client(ClientId),
}

impl Token {
    fn encode(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Listener => 0,
            Self::Stop => 1,
            Self::Lane(lane) => FIRST_LANE + lane as u64,
            Self::Client(ClientId(number)) => number,
        })
    }

    fn decode(data: epoll::EventData) -> Self {
        let lane = |number| Lane::ALL.into_iter().find(|lane| FIRST_LANE + *lane as u64 == number);
        match data.u64() {
            0 => Self::Listener,
            1 => Self::Stop,
            number => lane(number).map_or(Self::Client(ClientId(number)), Self::Lane),
        }
    }
}

/// What a descriptor is watched for. Hang-ups and errors are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    Nothing,
    Read,
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

/// The watched descriptors, level-triggered. Closing a descriptor removes it.
pub(super) struct Poll {
    epoll: OwnedFd,
    stop: Arc<OwnedFd>,
}

impl Poll {
    /// Watches the stop token and nothing else yet.
    pub(super) fn new(stop: &StopToken) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let poll = Self { epoll, stop: Arc::clone(&event) };
        poll.add(&poll.stop, Token::Stop, Interest::Read)?;
        stop.on_stop(move || {
            // Fails only if the eventfd is readable already.
            let _ = rustix::io::write(&*event, &1_u64.to_ne_bytes());
        });
        Ok(poll)
    }

    pub(super) fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, token.encode(), interest.flags())
    }

    pub(super) fn modify(
        &self,
        fd: impl AsFd,
        token: Token,
        interest: Interest,
    ) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, token.encode(), interest.flags())
    }

    /// Removes a descriptor that stays open.
    pub(super) fn remove(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.epoll, fd)
    }

    /// Removes the stop, whose eventfd stays readable.
    pub(super) fn remove_stop(&self) -> Result<(), Errno> {
        epoll::delete(&self.epoll, &self.stop)
    }

    /// Waits until an event or the deadline; replaces `tokens` by the sources of the events.
    pub(super) fn wait(
        &self,
        now: Instant,
        deadline: Option<Instant>,
        tokens: &mut Vec<Token>,
    ) -> Result<(), Errno> {
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(now);
            // The kernel may count in milliseconds: round up, or the wait ends before the deadline.
            let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
            Timespec::try_from(left.min(MAX_WAIT)).unwrap_or_default()
        });
        tokens.clear();
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); MAX_EVENTS];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => tokens.extend(events.iter().map(|event| Token::decode(event.data))),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_decodes_to_itself_and_no_client_shares_one() {
        let clients = [ClientId::FIRST, ClientId::FIRST.next(), ClientId(u64::MAX)];
        let lanes = Lane::ALL.map(Token::Lane);
        let tokens = [Token::Listener, Token::Stop].into_iter().chain(lanes);
        for token in tokens.chain(clients.map(Token::Client)) {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
