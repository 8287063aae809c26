//! Two agents that exchange tokens while a third host sends forged requests to both.

use super::*;
use crate::token::TokenKey;

/// One of the two agents.
struct Agent {
    number: u8,
    /// Its key and its instance change with each life.
    lives: u8,
    /// The pod's UID; `None` in a fixed list.
    uid: Option<u8>,
    fixture: Fixture,
}

/// What may happen, each to agent 0 or 1.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// It probes the other.
    Probe(usize),
    /// Its request arrives, the answer is lost.
    AnswerLost(usize),
    /// Neither arrives.
    Lost(usize),
    /// It receives a forged request, with or without a forged echo, and a goodbye.
    Forged(usize, bool),
    /// Its process restarts in the same pod.
    Restart(usize),
    /// Its pod is replaced, at another address, and the other learns of it.
    Replaced(usize),
}

impl Agent {
    fn new(number: u8, uid: Option<u8>) -> Self {
        let mut agent = Self { number, lives: 0, uid, fixture: Fixture::new([]) };
        agent.restart(uid);
        agent
    }

    /// Starts a new life that has the peer with this UID in its list.
    fn restart(&mut self, other: Option<u8>) {
        self.lives += 1;
        let key = TokenKey::new(&[self.number, self.lives]);
        let source = name(self.number);
        let mut state = MeshState::new(StateSettings { key, source, ..settings() });
        let other = self.peer_of(1 - self.number, other);
        state.peers([other].into_iter().collect(), REFRESH);
        let now = self.fixture.now;
        self.fixture = Fixture { state, now, next: 0, changes: Vec::new() };
    }

    fn peer_of(&self, number: u8, uid: Option<u8>) -> Peer {
        peer(number, uid.map(|uid| format!("uid{uid}")).as_deref())
    }

    /// The instance in its requests and answers.
    fn instance(&self) -> Instance {
        match self.uid {
            Some(uid) => instance(&format!("uid{uid}")),
            None => instance(&format!("random{}", self.lives)),
        }
    }

    fn request(&self, token: Option<PairToken>, goodbye: Option<Duration>) -> KeepAlive {
        KeepAlive {
            node: name(self.number),
            instance: Some(self.instance()),
            interval: Some(Duration::from_secs(10)),
            goodbye,
            token,
            size: None,
        }
    }
}

fn happen(agents: &mut [Agent; 2], event: Event) {
    let [first, second] = agents;
    let (this, other) = match event {
        Event::Probe(0)
        | Event::AnswerLost(0)
        | Event::Lost(0)
        | Event::Forged(0, _)
        | Event::Restart(0)
        | Event::Replaced(0) => (first, second),
        _ => (second, first),
    };
    let at = name(other.number);
    match event {
        Event::Probe(_) | Event::AnswerLost(_) => {
            let report = this.fixture.begin(other.number);
            let token = this.fixture.state.token(&at);
            let request = this.request(token, None);
            other.fixture.state.receive_request(other.fixture.now, Some(&request));
            let key = &other.fixture.state.settings.key;
            let sender = (&request.node, request.instance.as_ref());
            let own = name(other.number);
            let seal = token.and_then(|token| key.seal(&own, sender, token));
            let instance = Some(other.instance());
            let answer = Answer { instance, can_token: true, seal, ..Answer::default() };
            let outcome = match event {
                Event::Probe(_) => answered(answer),
                _ => Outcome::Failure(FailureReason::ResponseTimeout),
            };
            this.fixture.state.report(this.fixture.now, &Report { outcome, ..report });
        }
        Event::Lost(_) => drop(this.fixture.fail(other.number)),
        Event::Forged(_, with_echo) => {
            let forged = TokenKey::new(b"forged").own(&at, None);
            let token = PairToken { own: forged, echo: with_echo.then_some(forged) };
            let request = other.request(Some(token), Some(DRAIN));
            this.fixture.state.receive_request(this.fixture.now, Some(&request));
        }
        Event::Restart(_) => this.restart(other.uid),
        Event::Replaced(_) => {
            this.uid = this.uid.map(|uid| uid + 1);
            this.restart(other.uid);
            let mut listed = other.peer_of(this.number, this.uid);
            listed.address.set_port(9050 + u16::from(this.lives));
            other.fixture.state.peers([listed].into_iter().collect(), REFRESH);
        }
    }
}

/// Whether the next request of agent `from` is proven at the other, and no forged one has moved anything.
fn is_proven(agents: &[Agent; 2], from: usize) -> bool {
    let (this, other) = (&agents[from], &agents[1 - from]);
    let shown = this.fixture.state.token(&name(other.number)).unwrap();
    let sender = this.instance();
    let own = other.fixture.state.settings.key.own(&name(this.number), Some(&sender));
    shown.echo == Some(own)
}

fn converge(agents: &mut [Agent; 2], forged: bool) -> usize {
    for round in 1..10 {
        for agent in [0, 1] {
            if forged {
                happen(agents, Event::Forged(0, round % 2 == 0));
                happen(agents, Event::Forged(1, round % 2 == 0));
            }
            happen(agents, Event::Probe(agent));
        }
        let record = |from: usize, to: u8| {
            agents[from].fixture.state.get(&name(to)).unwrap().claims.has_proven
        };
        if is_proven(agents, 0) && is_proven(agents, 1) && record(0, 1) && record(1, 0) {
            return round;
        }
    }
    panic!("never proven");
}

#[test]
fn two_agents_prove_themselves_within_three_probes_and_again_after_any_restart() {
    use Event::{AnswerLost, Forged, Lost, Probe, Replaced, Restart};
    let table: [&[Event]; 9] = [
        &[],
        &[Restart(0)],
        &[Restart(0), Restart(1)],
        &[Probe(0), Restart(0), Lost(0), Lost(1)],
        &[Replaced(0)],
        &[Replaced(0), Replaced(1)],
        &[AnswerLost(0), AnswerLost(1)],
        &[Forged(0, true), Restart(0), Forged(0, true), Forged(1, false)],
        &[Restart(1), AnswerLost(1), Restart(1), AnswerLost(1), Forged(0, false)],
    ];
    for forged in [false, true] {
        for uid in [Some(1), None] {
            for events in table {
                let mut agents = [Agent::new(0, uid), Agent::new(1, uid)];
                let first = converge(&mut agents, forged);
                events.iter().for_each(|event| happen(&mut agents, *event));
                let again = converge(&mut agents, forged);
                assert!(first <= 3 && again <= 3, "{first}, {again} after {events:?}, {uid:?}");
            }
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let agent = || 0..2_usize;
    let event = prop_oneof![
        6 => agent().prop_map(Event::Probe),
        1 => agent().prop_map(Event::AnswerLost),
        1 => agent().prop_map(Event::Lost),
        4 => (agent(), any::<bool>()).prop_map(|(agent, echo)| Event::Forged(agent, echo)),
        1 => agent().prop_map(Event::Restart),
        1 => agent().prop_map(Event::Replaced),
    ];
    proptest::collection::vec(event, 0..60)
}

proptest! {
    #[test]
    fn no_order_of_events_and_no_forged_request_keeps_two_agents_from_proving_themselves(
        events in events(), uid in proptest::option::of(Just(1_u8)),
    ) {
        let mut agents = [Agent::new(0, uid), Agent::new(1, uid)];
        for event in events {
            let proven = [is_proven(&agents, 0), is_proven(&agents, 1)];
            happen(&mut agents, event);
            if let Event::Forged(..) = event {
                prop_assert_eq!([is_proven(&agents, 0), is_proven(&agents, 1)], proven);
                for agent in &agents {
                    let record = agent.fixture.state.get(&name(1 - agent.number)).unwrap();
                    prop_assert!(record.verdict != Verdict::Draining);
                }
            }
        }
        prop_assert!(converge(&mut agents, true) <= 3);
    }
}

#[test]
fn a_token_shown_at_an_old_address_proves_nothing_for_the_successor() {
    let mut agents = [Agent::new(0, Some(1)), Agent::new(1, Some(1))];
    converge(&mut agents, false);
    let known = agents[1].fixture.state.token(&name(0)).unwrap();
    happen(&mut agents, Event::Replaced(1));
    // A host that received the probes of agent 0 at the old address.
    let echo = known.echo;
    let request = agents[1].request(Some(PairToken { own: known.own, echo }), Some(DRAIN));
    let now = agents[0].fixture.now;
    let changes = agents[0].fixture.state.receive_request(now, Some(&request));
    assert!(!changes.contains(&Change::Pause(name(1))), "{changes:?}");
}

#[test]
fn an_older_release_at_the_same_address_needs_no_token() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.probe(1, capable("a"), 0);
    fixture.receive_proof(1, "a", None);
    for _ in 0..20 {
        fixture.probe(
            1,
            answered(Answer { instance: Some(instance("a")), ..Answer::default() }),
            0,
        );
        fixture.receive(1, "a", None);
        fixture.pass(settings().interval);
        assert_eq!(fixture.verdict(1), Verdict::Up);
    }
}

#[test]
fn no_agent_is_one_way_while_a_restarted_one_proves_itself_again() {
    const INTERVAL: u64 = 10;
    type First = fn(usize) -> Event;
    // The first probe of the new life arrives, or only its request does, or nothing.
    let firsts: [First; 3] = [Event::Probe, Event::AnswerLost, Event::Lost];
    let restarts = (0..INTERVAL)
        .step_by(3)
        .flat_map(|phase| (0..2 * INTERVAL).step_by(3).map(move |restart| (phase, restart)));
    for ((phase, restart), uid) in restarts.flat_map(|at| [(at, Some(1)), (at, None)]) {
        for first in firsts {
            let mut agents = [Agent::new(0, uid), Agent::new(1, uid)];
            let mut next: First = Event::Probe;
            for second in 0..20 * INTERVAL {
                if second % INTERVAL == 0 {
                    happen(&mut agents, Event::Probe(0));
                }
                if second % INTERVAL == phase {
                    happen(&mut agents, next(1));
                    next = Event::Probe;
                }
                if second == 10 * INTERVAL + restart {
                    happen(&mut agents, Event::Restart(1));
                    next = first;
                }
                for agent in &mut agents {
                    agent.fixture.pass(Duration::from_secs(1));
                    let verdict = agent.fixture.verdict(1 - agent.number);
                    let lost = first(1);
                    assert_ne!(
                        verdict,
                        Verdict::OneWay,
                        "{phase}, {restart}, {uid:?}, {lost:?}, {second} s"
                    );
                }
            }
            assert!(is_proven(&agents, 0) && is_proven(&agents, 1));
        }
    }
}
