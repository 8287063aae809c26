//! The gate's loop: waits, dispatches events to the listener, the clients and the lanes, and applies
//! the steps that clients return. Only this file knows both clients and lanes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::acceptor::Acceptor;
use super::answered::Answered;
use super::backend::{Backend, BackendError};
use super::client::{Client, Step};
use super::counters::{Counters, Rejection};
use super::fairness;
use super::poll::{ClientId, Interest, Poll, Token};
use super::queue::Standing;
use super::request::RequestHead;
use super::row_budget::RowBudgets;
use super::{Fatal, Limits, Setup};
use crate::heartbeat::Heartbeat;
use crate::route::{Lane, Lanes};

/// Bytes of one read: a bulk response of a hundred peers takes a few.
const SCRATCH: usize = 16 * 1024;
/// Lingering connections: refused clients, which are never worth more memory than others.
const MAX_LINGERING: usize = 32;
/// Time after the stop for requests that came before it.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Longest processing time between two waits.
const PROCESSING: Duration = Duration::from_secs(5);
/// The heartbeat's deadline while the gate has none.
const IDLE: Duration = Duration::from_secs(365 * 24 * 3600);
/// A wait that ends this long after its deadline means that the process was suspended or starved.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// Why the gate ends the process.
#[derive(Debug, thiserror::Error)]
enum GateError {
    #[error("{0} lane: {1}")]
    Backend(Lane, BackendError),
    #[error("epoll: {0}")]
    Poll(#[from] Errno),
}

pub(super) struct EventLoop {
    poll: Poll,
    /// `None` after the stop.
    acceptor: Option<Acceptor>,
    /// In the order of their arrival.
    clients: BTreeMap<ClientId, Client>,
    next_id: ClientId,
    /// Connections after their end for the gate.
    answered: Answered,
    /// A connection ended since the listener was last considered.
    place_freed: bool,
    backends: Lanes<Backend>,
    rows: RowBudgets,
    limits: Limits,
    counters: Arc<Counters>,
    heartbeat: Heartbeat,
    fatal: Fatal,
    scratch: Vec<u8>,
    now: Instant,
    /// When the loop ends at the latest, after the stop.
    stop_at: Option<Instant>,
    /// When the reader longest without progress yields, while there is no room for others.
    yields_at: Option<Instant>,
}

impl EventLoop {
    pub(super) fn new(setup: Setup) -> io::Result<Self> {
        let poll = Poll::new(&setup.stop)?;
        let acceptor = Acceptor::new(setup.listener, &poll)?;
        let backend = |lane, stream| Backend::new(lane, stream, setup.limits.backend, &poll);
        let backends = Lanes {
            small: backend(Lane::Small, setup.backends.small)?,
            bulk: backend(Lane::Bulk, setup.backends.bulk)?,
            gathered: backend(Lane::Gathered, setup.backends.gathered)?,
            pair: backend(Lane::Pair, setup.backends.pair)?,
        };
        Ok(Self {
            poll,
            acceptor: Some(acceptor),
            clients: BTreeMap::new(),
            next_id: ClientId::FIRST,
            answered: Answered::new(
                setup.limits.answered,
                Arc::clone(&setup.counters),
                setup.retransmitted,
            ),
            place_freed: false,
            backends,
            rows: RowBudgets::default(),
            limits: setup.limits,
            counters: setup.counters,
            heartbeat: setup.heartbeat,
            fatal: setup.fatal,
            scratch: vec![0; SCRATCH],
            now: Instant::now(),
            stop_at: None,
            yields_at: None,
        })
    }

    /// Runs until the stop, or until a lane fails.
    pub(super) fn run(mut self) {
        let result = self.serve();
        // Incomplete responses must not end with a FIN.
        self.clients.values().for_each(Client::reset_on_close);
        self.clients.clear();
        self.counters.set_connections(0);
        if let Err(error) = result {
            (self.fatal)(&error.to_string());
        }
    }

    fn serve(&mut self) -> Result<(), GateError> {
        let mut tokens = Vec::new();
        while !self.stop_at.is_some_and(|at| self.clients.is_empty() || at <= self.now) {
            let deadline = self.next_deadline();
            self.heartbeat.expect_by(deadline.map_or(self.now + IDLE, |at| at + PROCESSING));
            self.poll.wait(self.now, deadline, &mut tokens)?;
            self.now = Instant::now();
            self.heartbeat.expect_by(self.now + PROCESSING);
            for token in &tokens {
                match *token {
                    Token::Listener => {}
                    Token::Stop => self.stop()?,
                    Token::Lane(lane) => self.receive(lane)?,
                    Token::Client(id) => self.client_ready(id)?,
                }
            }
            // Last, so that no connection is evicted whose head has arrived.
            if tokens.contains(&Token::Listener) {
                self.accept()?;
            } else if let Some(acceptor) = &mut self.acceptor {
                acceptor.batch = 1;
            }
            if let Some(deadline) = deadline.filter(|deadline| *deadline <= self.now) {
                self.expire(self.now.duration_since(deadline) > OVERSLEPT)?;
            }
            self.balance()?;
            if std::mem::take(&mut self.place_freed) && self.clients.len() < self.limits.connections
            {
                self.watch_listener(true)?;
            }
            self.counters.set_connections(self.clients.len());
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let clients = self.clients.values().map(|client| client.deadline);
        let backends = self.backends.iter();
        let backends = backends.flat_map(|backend| [backend.deadline(), backend.judged_at()]);
        let backends = backends.flatten().chain(self.yields_at);
        let retry = self.acceptor.as_ref().and_then(|acceptor| acceptor.retry_at);
        let answered = self.answered.deadline();
        clients.chain(backends).chain(retry).chain(answered).chain(self.stop_at).min()
    }

    /// Handles passed deadlines. If the loop overslept, the server's timeout starts again: it may not
    /// have run either.
    fn expire(&mut self, overslept: bool) -> Result<(), GateError> {
        let overdue = self.clients.iter().filter(|(_, client)| client.deadline <= self.now);
        let overdue: Vec<_> = overdue.map(|(id, client)| (*id, client.overdue())).collect();
        for (id, step) in overdue {
            self.apply(id, step)?;
        }
        self.answered.sweep(self.now);
        let retry = self.acceptor.as_ref().and_then(|acceptor| acceptor.retry_at);
        if retry.is_some_and(|at| at <= self.now) {
            self.watch_listener(true)?;
        }
        for lane in Lane::ALL {
            let backend = self.backends.get_mut(lane);
            if overslept {
                backend.restart_timeout(self.now);
            }
            if backend.deadline().is_some_and(|at| at <= self.now) {
                return Err(GateError::Backend(lane, BackendError::Overdue));
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), GateError> {
        let batch = self.acceptor.as_ref().map_or(0, |acceptor| acceptor.batch);
        for _ in 0..batch {
            if self.clients.len() >= self.limits.connections && !self.evict()? {
                // All are being answered, which ends soon; others wait in the backlog.
                return self.watch_listener(false);
            }
            let Some(acceptor) = &mut self.acceptor else { return Ok(()) };
            match acceptor.accept(self.now) {
                Ok(Some((socket, address))) => self.admit(socket, address)?,
                Ok(None) => {}
                Err(Errno::AGAIN) => {
                    acceptor.batch = 1;
                    return Ok(());
                }
                // Most likely no descriptor is left: frees one.
                Err(error) => {
                    if !self.answered.release()
                        && !self.evict()?
                        && let Some(acceptor) = &mut self.acceptor
                    {
                        self.counters.reject(Rejection::NoDescriptors);
                        acceptor.pause(error, &self.poll, self.now)?;
                    }
                    return Ok(());
                }
            }
        }
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.grow_batch();
        }
        Ok(())
    }

    fn admit(&mut self, socket: OwnedFd, address: IpAddr) -> Result<(), GateError> {
        let id = self.next_id;
        self.next_id = id.next();
        let deadline = self.now + self.limits.head;
        self.clients.insert(id, Client::new(socket, address, deadline));
        // The request mostly comes with the handshake.
        self.client_ready(id)
    }

    /// Makes room by resetting a lingering connection, else the one with the oldest incomplete
    /// head; `false` if all connections are being answered.
    fn evict(&mut self) -> Result<bool, GateError> {
        let (id, rejection) = if let Some(id) = self.excess_lingering() {
            (id, None)
        } else if let Some(id) = self.oldest(Client::is_reading_head) {
            (id, Some(Rejection::Evicted))
        } else {
            return Ok(false);
        };
        self.apply(id, Step::Reset(rejection))?;
        Ok(true)
    }

    /// The lingering connection to reset: of the address with the most of them, the oldest.
    fn excess_lingering(&self) -> Option<ClientId> {
        let lingering = self.clients.iter().filter(|(_, client)| client.is_lingering());
        let lingering: Vec<_> = lingering.collect();
        let of = |address| lingering.iter().filter(|(_, other)| other.address == address).count();
        let worst = lingering.iter().min_by_key(|(_, client)| Reverse(of(client.address)));
        worst.map(|(id, _)| **id)
    }

    fn oldest(&self, matches: impl Fn(&Client) -> bool) -> Option<ClientId> {
        self.clients.iter().find(|(_, client)| matches(client)).map(|(id, _)| *id)
    }

    fn watch_listener(&mut self, watched: bool) -> Result<(), GateError> {
        let Some(acceptor) = &mut self.acceptor else { return Ok(()) };
        Ok(acceptor.watch(watched, &self.poll)?)
    }

    /// Answers what has arrived; the kernel refuses new connections.
    fn stop(&mut self) -> Result<(), GateError> {
        self.poll.remove_stop()?;
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.batch = self.limits.connections;
        }
        self.accept()?;
        self.acceptor = None;
        while let Some(id) = self.oldest(Client::is_reading_head) {
            self.apply(id, Step::Close(None))?;
        }
        self.stop_at = Some(self.now + STOP_GRACE);
        Ok(())
    }

    fn client_ready(&mut self, id: ClientId) -> Result<(), GateError> {
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        let step = client.ready(&mut self.scratch, self.now);
        self.apply(id, step)
    }

    /// Applies a step to its connection.
    fn apply(&mut self, id: ClientId, step: Step) -> Result<(), GateError> {
        match step {
            Step::Watch(interest) => self.watch(id, interest),
            Step::Forward(request) => self.forward(id, request),
            Step::Refuse(rejection) => self.refuse(id, rejection),
            Step::Resume => self.watch(id, Interest::Nothing),
            Step::Buffer => self.watch(id, Interest::Write),
            Step::Linger => {
                self.watch(id, Interest::Read)?;
                let lingering = self.clients.values().filter(|client| client.is_lingering());
                if lingering.count() > MAX_LINGERING
                    && let Some(excess) = self.excess_lingering()
                {
                    return self.apply(excess, Step::Reset(None));
                }
                Ok(())
            }
            Step::Close(rejection) => self.close(id, rejection),
            Step::Reset(rejection) => {
                if let Some(client) = self.remove(id, rejection)? {
                    client.reset_on_close();
                }
                Ok(())
            }
        }
    }

    fn watch(&mut self, id: ClientId, interest: Interest) -> Result<(), GateError> {
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        let token = Token::Client(id);
        let result = match client.watched {
            Some(before) if before == interest => return Ok(()),
            // Most clients are answered at once, and never registered.
            None if interest == Interest::Nothing => return Ok(()),
            None => self.poll.add(&client.socket, token, interest),
            Some(_) => self.poll.modify(&client.socket, token, interest),
        };
        client.watched = Some(interest);
        match result {
            Ok(()) => Ok(()),
            // The kernel lacks memory or watches: this connection ends, not the process.
            Err(_) => self.apply(id, Step::Reset(Some(Rejection::Overload))),
        }
    }

    fn forward(&mut self, id: ClientId, mut request: RequestHead) -> Result<(), GateError> {
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        let route = request.route();
        client.wait(&route, &request, &self.limits, self.now);
        let address = client.address;
        request.add_client(&route, address);
        if !self.rows.take(&route, address, self.now) {
            return self.refuse(id, Rejection::Overload);
        }
        self.watch(id, Interest::Nothing)?;
        let excess = self.backends.get_mut(route.lane()).enqueue(id, address, request);
        if let Some(excess) = excess {
            self.refuse(excess, Rejection::Overload)?;
        }
        self.send_next(route.lane())
    }

    fn refuse(&mut self, id: ClientId, rejection: Rejection) -> Result<(), GateError> {
        self.counters.reject(rejection);
        self.abandon(id)?;
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        let step = client.refuse(rejection, &self.limits, self.now);
        self.apply(id, step)
    }

    fn close(&mut self, id: ClientId, rejection: Option<Rejection>) -> Result<(), GateError> {
        if rejection.is_none() {
            self.note(id, Standing::Read);
        }
        let Some(mut client) = self.remove(id, rejection)? else { return Ok(()) };
        self.answered.make_room(self.now);
        // Fails only on a socket that is not watched.
        if client.watched.is_some() && self.poll.remove(&client.socket).is_err() {
            return Ok(());
        }
        let sent_to = (client.address, client.sender.take());
        if let Some((socket, bytes)) = client.finish() {
            self.answered.push(socket, sent_to, bytes, self.now);
        }
        Ok(())
    }

    fn remove(
        &mut self,
        id: ClientId,
        rejection: Option<Rejection>,
    ) -> Result<Option<Client>, GateError> {
        if let Some(rejection) = rejection {
            self.counters.reject(rejection);
        }
        if rejection == Some(Rejection::Timeout) {
            self.note(id, Standing::Stalled);
        }
        self.abandon(id)?;
        let client = self.clients.remove(&id);
        self.place_freed |= client.is_some();
        Ok(client)
    }

    /// Drops the request of a client from its lane.
    fn abandon(&mut self, id: ClientId) -> Result<(), GateError> {
        let Some(client) = self.clients.get(&id) else { return Ok(()) };
        Ok(self.backends.get_mut(client.lane).abandon(id, &self.poll, self.now)?)
    }

    /// Remembers how the response to this client ended, if it was one of the server.
    fn note(&mut self, id: ClientId, standing: Standing) {
        let served = |client: &&Client| client.is_served() && client.lane != Lane::Small;
        if let Some(client) = self.clients.get(&id).filter(served) {
            self.backends.get_mut(client.lane).note(client.address, standing);
        }
    }

    /// Pauses and resumes the lanes, and resets readers that hold up others.
    fn balance(&mut self) -> Result<(), GateError> {
        self.yields_at = None;
        for lane in [Lane::Bulk, Lane::Gathered, Lane::Pair] {
            self.send_next(lane)?;
            if self.backends.get_mut(lane).is_idle_and_contended() {
                self.make_room()?;
            }
            let Some(id) = self.backends.get_mut(lane).client() else { continue };
            let Some(client) = self.clients.get(&id) else { continue };
            let (allocated, taken) = (client.unsent.allocated(), client.taken);
            let no_room = allocated > 0 && fairness::is_full(self.shared());
            let backend = self.backends.get_mut(lane);
            let contended = backend.is_contended() || backend.is_unpaused();
            let too_much = fairness::is_too_much(allocated, backend.is_paused(), contended);
            let paused = too_much || no_room;
            let yields = if backend.is_unpaused() {
                paused
            } else {
                backend.set_paused(paused, &self.poll, self.now)?;
                backend.has_stalled(taken, self.now) && too_much
            };
            if yields {
                self.apply(id, Step::Reset(Some(Rejection::Timeout)))?;
            } else if no_room {
                self.make_room()?;
            }
        }
        Ok(())
    }

    /// What all responses that are not read as they come occupy.
    fn shared(&self) -> usize {
        self.clients.values().map(|client| fairness::share(client.unsent.allocated())).sum()
    }

    /// Resets the reader longest without progress, once it has waited long enough.
    fn make_room(&mut self) -> Result<(), GateError> {
        let readers = self.clients.iter().filter(|(_, client)| !client.unsent.is_empty());
        let oldest = readers.min_by_key(|(_, client)| client.progress);
        let Some((id, client)) = oldest else { return Ok(()) };
        let (id, at) = (*id, fairness::yields_at(client.progress).max(self.now));
        // The first of all lanes; if it is due, what waited goes on at once.
        self.yields_at = Some(self.yields_at.map_or(at, |other| other.min(at)));
        if at > self.now {
            return Ok(());
        }
        self.apply(id, Step::Reset(Some(Rejection::Timeout)))
    }

    /// Begins the next response of a lane, once there is room: all but its end may fit the kernel, and free
    /// the lane for another one.
    fn send_next(&mut self, lane: Lane) -> Result<(), GateError> {
        let waiting = self.backends.get_mut(lane).is_idle_and_contended();
        if waiting && lane != Lane::Small && fairness::is_full(self.shared()) {
            return Ok(());
        }
        let sent = self.backends.get_mut(lane).send_next(self.now);
        sent.map_err(|error| GateError::Backend(lane, error))
    }

    fn receive(&mut self, lane: Lane) -> Result<(), GateError> {
        let part = self.backends.get_mut(lane).receive(&mut self.scratch, self.now);
        let part = part.map_err(|error| GateError::Backend(lane, error))?;
        if let Some(part) = part
            && let Some(client) = self.clients.get_mut(&part.client)
        {
            if part.first {
                self.counters.count_response(client.label, part.code);
                client.deadline = self.now
                    + match lane {
                        Lane::Small => self.limits.small_response,
                        Lane::Bulk | Lane::Gathered | Lane::Pair => self.limits.bulk_response,
                    };
            }
            let mut step = client.respond(&part.bytes, part.complete, self.now);
            // The kernel takes a small response, unless it lacks memory.
            let buffered = lane == Lane::Small && !client.unsent.is_empty();
            if buffered && fairness::is_full(self.shared()) {
                step = Step::Reset(Some(Rejection::Overload));
            }
            self.apply(part.client, step)?;
        }
        self.send_next(lane)
    }
}
