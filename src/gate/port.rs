//! The gate's loop: waits, accepts, dispatches, and ends what is overdue.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::client::{Client, State};
use super::lane::{Broken, LaneState};
use super::poll::{BULK, GATHERED, Interest, LISTENER, Poll, SMALL, STOP};
use super::slots::{Id, Slots};
use super::{Counters, Fatal, Limits, Rejection, Setup};
use crate::heartbeat::Heartbeat;
use crate::route::Lane;

/// One read: a bulk answer of a hundred peers in a few.
const SCRATCH: usize = 16 * 1024;
/// Connections accepted in one go during a burst, before others are looked at.
const MAX_BATCH: usize = 32;
/// Until `accept` is tried again without a descriptor: unseen beside a lost packet, and no load.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Without a shortage for so long, it is over; one that comes and goes is told once.
const PLENTY: Duration = Duration::from_secs(10);
/// For what was asked before the stop.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Longest time between two waits, all work done in between included.
const PROCESSING: Duration = Duration::from_secs(5);
/// A promise for the time without a deadline.
const IDLE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Woken so much later than the deadline, we were not running: suspended, or starved.
const SLEPT: Duration = Duration::from_secs(1);

/// All of the gate's state, owned by its thread.
pub(super) struct Port {
    listener: Option<TcpListener>,
    /// Whether the listener is watched.
    accepting: bool,
    /// When to accept again, without a descriptor to do it now.
    accept_at: Option<Instant>,
    /// When descriptors were last short, until they have not been for a while.
    scarce: Option<Instant>,
    batch: usize,
    pub(super) poll: Poll,
    pub(super) clients: Slots<Client>,
    pub(super) lingering: usize,
    /// A connection has ended since the listener was last looked at.
    pub(super) place_free: bool,
    pub(super) small: LaneState,
    pub(super) bulk: LaneState,
    pub(super) gathered: LaneState,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    heartbeat: Heartbeat,
    fatal: Fatal,
    pub(super) scratch: Vec<u8>,
    pub(super) sequence: u64,
    born: u64,
    /// No deadline lies before this one.
    nearest: Option<Instant>,
    pub(super) now: Instant,
    stopping: Option<Instant>,
}

impl Port {
    pub(super) fn new(setup: Setup) -> io::Result<Self> {
        let poll = Poll::new(&setup.stop)?;
        setup.listener.set_nonblocking(true)?;
        poll.add(&setup.listener, LISTENER, Interest::Read)?;
        let backends = &setup.backends;
        for (stream, name) in
            [(&backends.small, SMALL), (&backends.bulk, BULK), (&backends.gathered, GATHERED)]
        {
            stream.set_nonblocking(true)?;
            poll.add(stream, name, Interest::Read)?;
        }
        Ok(Self {
            listener: Some(setup.listener),
            accepting: true,
            accept_at: None,
            scarce: None,
            batch: 1,
            poll,
            clients: Slots::new(),
            lingering: 0,
            place_free: false,
            small: LaneState::new(setup.backends.small),
            bulk: LaneState::new(setup.backends.bulk),
            gathered: LaneState::new(setup.backends.gathered),
            limits: setup.limits,
            counters: setup.counters,
            heartbeat: setup.heartbeat,
            fatal: setup.fatal,
            scratch: vec![0; SCRATCH],
            sequence: 0,
            born: 0,
            nearest: None,
            now: Instant::now(),
            stopping: None,
        })
    }

    /// Runs until the stop, or until a lane is lost.
    pub(super) fn run(mut self) {
        let ended = self.serve();
        // What is not whole by now must not pass for it, so there is no FIN.
        let left: Vec<Id> = self.clients.iter().map(|(id, _)| id).collect();
        for id in left {
            self.break_off(id);
        }
        self.counters.set_connections(0);
        if let Err(broken) = ended {
            (self.fatal)(&broken.to_string());
        }
    }

    fn serve(&mut self) -> Result<(), Broken> {
        let mut names = Vec::new();
        loop {
            let awake = self.nearest.map_or(self.now + IDLE, |nearest| nearest + PROCESSING);
            self.heartbeat.expect_by(awake);
            self.poll.wait(self.now, self.nearest, &mut names).map_err(Broken::Poll)?;
            self.now = Instant::now();
            self.heartbeat.expect_by(self.now + PROCESSING);
            let mut newcomers = false;
            for name in &names {
                match *name {
                    LISTENER => newcomers = true,
                    STOP => self.stop()?,
                    SMALL => self.lane_readable(Lane::Small)?,
                    BULK => self.lane_readable(Lane::Bulk)?,
                    GATHERED => self.lane_readable(Lane::Gathered)?,
                    id => self.client_event(Id::from_u64(id))?,
                }
            }
            // Last, so that nobody is evicted whose head is there to be read.
            if newcomers {
                self.accept()?;
            } else {
                self.batch = 1;
            }
            self.expire()?;
            if std::mem::take(&mut self.place_free) {
                self.accept_again()?;
            }
            self.counters.set_connections(self.clients.live());
            if self.stopping.is_some_and(|end| self.clients.live() == 0 || end <= self.now) {
                return Ok(());
            }
        }
    }

    /// Something must happen at `deadline`.
    pub(super) fn due(&mut self, deadline: Instant) {
        self.nearest = Some(self.nearest.map_or(deadline, |nearest| nearest.min(deadline)));
    }

    fn accept(&mut self) -> Result<(), Broken> {
        for _ in 0..self.batch {
            if self.clients.live() >= self.limits.connections && !self.evict()? {
                // All are being answered, which ends soon: the backlog holds the others.
                return self.watch_listener(false);
            }
            let Some(listener) = &self.listener else { return Ok(()) };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match accept_with(listener, flags) {
                Ok(socket) => {
                    self.accept_at = None;
                    if self.scarce.is_some_and(|last| self.now.duration_since(last) > PLENTY) {
                        self.scarce = None;
                        log::info!("the public port: new connections no longer wait");
                    }
                    self.born += 1;
                    let deadline = self.now + self.limits.head;
                    let client = Client::new(socket, deadline, self.born);
                    let id = self.clients.insert(client);
                    self.due(deadline);
                    // The request mostly comes with the handshake.
                    self.read_head(id)?;
                }
                Err(Errno::AGAIN) => {
                    self.batch = 1;
                    return Ok(());
                }
                Err(error) if is_of_the_connection(error) => {}
                Err(error) => return self.cannot_accept(error),
            }
        }
        // The next event comes at once if there are more: then more are taken.
        self.batch = (self.batch * 2).min(MAX_BATCH);
        Ok(())
    }

    /// Ends the connection that deserves its place least; `false` when all are being answered.
    fn evict(&mut self) -> Result<bool, Broken> {
        if let Some(id) = self.oldest(|state| matches!(state, State::Lingering { .. })) {
            self.reset(id)?;
            return Ok(true);
        }
        let Some(id) = self.oldest(|state| state == State::Head) else { return Ok(false) };
        self.counters.reject(Rejection::Evicted);
        self.reset(id)?;
        Ok(true)
    }

    /// No descriptor, mostly: takes one from an idle client, or waits for a while. Whoever comes
    /// waits in the backlog, which is better for a peer than a reset.
    fn cannot_accept(&mut self, error: Errno) -> Result<(), Broken> {
        if self.evict()? {
            return Ok(());
        }
        if self.scarce.replace(self.now).is_none() {
            log::warn!("the public port: new connections wait: accept: {error}");
        }
        self.counters.reject(Rejection::NoDescriptors);
        let again = self.now + ACCEPT_PAUSE;
        self.accept_at = Some(again);
        self.due(again);
        self.watch_listener(false)
    }

    fn accept_again(&mut self) -> Result<(), Broken> {
        let may = self.clients.live() < self.limits.connections;
        if may { self.watch_listener(true) } else { Ok(()) }
    }

    fn watch_listener(&mut self, accepting: bool) -> Result<(), Broken> {
        let Some(listener) = &self.listener else { return Ok(()) };
        if self.accepting == accepting {
            return Ok(());
        }
        self.accepting = accepting;
        let interest = if accepting { Interest::Read } else { Interest::Nothing };
        self.poll.modify(listener, LISTENER, interest).map_err(Broken::Poll)
    }

    /// Answers what has come; whoever comes now is refused by the kernel.
    fn stop(&mut self) -> Result<(), Broken> {
        self.poll.forget_stop().map_err(Broken::Poll)?;
        self.batch = self.limits.connections;
        self.accept()?;
        self.listener = None;
        while let Some(id) = self.oldest(|state| state == State::Head) {
            self.close(id)?;
        }
        let end = self.now + STOP_GRACE;
        self.stopping = Some(end);
        self.due(end);
        Ok(())
    }

    /// Ends what is overdue, and finds the next deadline.
    fn expire(&mut self) -> Result<(), Broken> {
        let Some(nearest) = self.nearest.filter(|nearest| *nearest <= self.now) else {
            if self.clients.live() == 0 && self.is_at_rest() {
                self.nearest = None;
            }
            return Ok(());
        };
        let slept_long = self.now.duration_since(nearest) > SLEPT;
        self.nearest = None;
        let overdue: Vec<Id> = self
            .clients
            .iter()
            .filter(|(_, client)| client.deadline <= self.now)
            .map(|(id, _)| id)
            .collect();
        for id in overdue {
            self.client_overdue(id)?;
        }
        if self.accept_at.is_some_and(|at| at <= self.now) {
            self.watch_listener(true)?;
        }
        let next = self.clients.iter().map(|(_, client)| client.deadline).min();
        let retry = self.accept_at.filter(|at| *at > self.now);
        for deadline in [next, retry, self.stopping].into_iter().flatten() {
            self.due(deadline);
        }
        self.check_lanes(slept_long)
    }

    /// Nothing has a deadline.
    fn is_at_rest(&self) -> bool {
        let lanes = [&self.small, &self.bulk, &self.gathered];
        self.accept_at.is_none()
            && self.stopping.is_none()
            && lanes.iter().all(|lane| lane.exchange.is_none())
    }
}

/// The connection is gone before it was taken, which is its own or the network's fault (accept(2)).
fn is_of_the_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::TIMEDOUT
            | Errno::PERM
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
    )
}
