//! Surveys of real agents: who may begin one, what it finds, and that every pair is probed again whatever ends it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use wylis_harness::mesh::Net;
use wylis_harness::netns::Namespace;
use wylis_harness::process::{Agent, Settings};
use wylis_harness::{TempDir, http, wait_until};

use super::binary;

/// Longest wait: far above what a survey takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The interval of all agents.
const INTERVAL: Duration = Duration::from_secs(2);
const PATH: &str = "/api/v1/survey";

/// Agents with fixed lists, on loopback addresses.
struct Agents {
    agents: Vec<Option<Agent>>,
    settings: Vec<Settings>,
    _dir: TempDir,
}

impl Agents {
    /// Starts `n1` to `n<size>`, each with these settings, and waits until they are up and have proven themselves.
    fn start(size: u8, more: &[(u8, &str, &str)]) -> Self {
        let (net, dir) = (Net::new(), TempDir::new("survey"));
        let address = |number| SocketAddr::new(net.host(number), 9050);
        let settings = |own: u8| {
            let others = (1..=size).filter(|number| *number != own);
            let peers: Vec<_> =
                others.map(|number| format!("n{number}={}", address(number))).collect();
            let mut environment = vec![
                ("WYLIS_NODE_NAME".to_owned(), format!("n{own}")),
                ("WYLIS_LISTEN".to_owned(), address(own).to_string()),
                ("WYLIS_PEERS".to_owned(), peers.join(",")),
                ("WYLIS_INTERVAL".to_owned(), format!("{}s", INTERVAL.as_secs())),
                ("WYLIS_TIMEOUT".to_owned(), "2s".to_owned()),
                ("WYLIS_DRAIN".to_owned(), "1s".to_owned()),
                ("WYLIS_LOG".to_owned(), "info,wylis::agent::survey=debug".to_owned()),
            ];
            let more = more.iter().filter(|(number, ..)| *number == own);
            environment.extend(more.map(|(_, name, value)| ((*name).into(), (*value).into())));
            Settings {
                binary: binary(),
                environment,
                address: address(own),
                log: dir.path().join(format!("n{own}.log")),
            }
        };
        let settings: Vec<Settings> = (1..=size).map(settings).collect();
        let agents = settings.iter().map(|settings| Some(Agent::start(settings))).collect();
        let agents = Self { agents, settings, _dir: dir };
        for own in 1..=size {
            for other in (1..=size).filter(|other| *other != own) {
                wait_until(PATIENCE, "all pairs are up", || {
                    let peer = agents.peer(own, other);
                    peer["verdict"] == "up" && peer["incoming_requests"].as_u64() > Some(1)
                });
            }
        }
        agents
    }

    fn agent(&self, number: u8) -> &Agent {
        self.agents[usize::from(number) - 1].as_ref().unwrap()
    }

    fn peer(&self, number: u8, other: u8) -> Value {
        self.agent(number).peer(&format!("n{other}"))
    }

    /// Sends a command to an agent; status and answer.
    fn command(&self, number: u8, command: &str) -> (u16, String) {
        let address = self.agent(number).address;
        post(address, &format!("Host: {address}\r\nWylis-Survey: {command}\r\n"))
    }

    /// Begins a survey, once all agents have proven themselves to each other; status and answer.
    fn start_survey(&self, number: u8, command: &str) -> (u16, String) {
        let mut answer = (0, String::new());
        wait_until(PATIENCE, "the tokens are known", || {
            answer = self.command(number, command);
            !answer.1.contains("token")
        });
        answer
    }

    fn survey(&self, number: u8) -> Value {
        let (_, text) = self.agent(number).get(PATH).unwrap_or_default();
        serde_json::from_str::<Value>(&text).unwrap_or_default()["survey"].take()
    }

    fn await_state(&self, number: u8, state: &str) {
        wait_until(PATIENCE, &format!("the survey of n{number} is {state}"), || {
            self.survey(number)["state"] == state
        });
    }

    /// Waits until the pair rests in silence, as this end sees it: the counters of both stand still.
    fn await_silence(&self, number: u8, other: u8) {
        let name = format!("n{other}");
        wait_until(PATIENCE, "the pair is surveyed", || {
            let now = self.survey(number)["now"].take();
            now.as_array().is_some_and(|now| {
                now.iter().any(|pair| {
                    pair["gap_seconds"].is_number()
                        && (pair["target"] == name.as_str() || pair["source"] == name.as_str())
                })
            })
        });
    }

    /// Successful probes of a peer, and requests received from it.
    fn counts(&self, number: u8, other: u8) -> Option<(u64, u64)> {
        let peer = self.peer(number, other);
        Some((peer["successes"].as_u64()?, peer["incoming_requests"].as_u64()?))
    }

    /// Each pair is probed again within two intervals, both ways.
    fn assert_probed(&self, pairs: &[(u8, u8)]) {
        self.assert_probed_within(INTERVAL * 2, pairs);
    }

    fn assert_probed_within(&self, limit: Duration, pairs: &[(u8, u8)]) {
        let began = Instant::now();
        let probes =
            || pairs.iter().map(|(own, other)| self.counts(*own, *other).map(|counts| counts.0));
        let before: Vec<u64> = probes().map(Option::unwrap_or_default).collect();
        wait_until(PATIENCE, "all pairs are probed", || {
            probes().zip(&before).all(|(now, before)| now > Some(*before))
        });
        let took = began.elapsed();
        // A busy machine takes longer.
        assert!(took < limit + Duration::from_secs(2), "{took:?}\n{}", self.logs());
    }

    fn logs(&self) -> String {
        self.agents.iter().flatten().map(Agent::log).collect()
    }
}

/// Sends a POST with these headers; status and answer.
fn post(address: SocketAddr, headers: &str) -> (u16, String) {
    let text = format!("POST {PATH} HTTP/1.1\r\n{headers}\r\n");
    let response = http::exchange(address, text.as_bytes(), http::DEADLINE).unwrap();
    (response.status, response.text())
}

#[test]
fn a_survey_of_two_has_a_result_for_each_direction_at_both_ends() {
    let agents = Agents::start(2, &[]);
    let metrics = ["wylis_peer_up", "wylis_peer_impaired", "wylis_probe_failures_total"];
    let series = |number: u8| {
        let scrape = agents.agent(number).metrics();
        metrics.map(|name| {
            let mut series: Vec<_> =
                scrape.matching(name, &[]).map(|(name, value)| format!("{name} {value}")).collect();
            series.sort();
            series
        })
    };
    let before = [series(1), series(2)];
    let (status, text) = agents.start_survey(1, "start to=n2 gaps=1,5 budget=240");
    assert_eq!(status, 200, "{text}");
    assert_eq!(agents.command(1, "start all gaps=1 budget=60").0, 409);
    let (status, reason) = agents.command(2, "start all gaps=1 budget=60");
    assert_eq!((status, reason.as_str()), (409, "a survey of n1 goes on\n"));
    // While they rest for 5 s, above two intervals, neither probes the other.
    agents.await_silence(1, 2);
    let mut rested = 0;
    let end = Instant::now() + PATIENCE;
    while agents.survey(1)["state"] == "running" {
        assert!(Instant::now() < end, "{}", agents.logs());
        let (first, second) = (agents.counts(1, 2), agents.counts(2, 1));
        let trial = agents.survey(1)["now"][0].clone();
        std::thread::sleep(Duration::from_millis(2500));
        let same = agents.survey(1)["now"][0] == trial && trial["gap_seconds"] == 5.0;
        if same && (agents.counts(1, 2), agents.counts(2, 1)) == (first, second) {
            rested += 1;
        }
        let verdicts = [agents.peer(1, 2), agents.peer(2, 1)].map(|peer| peer["verdict"].clone());
        assert_eq!(verdicts, ["up", "up"]);
        assert_eq!([series(1), series(2)], before, "{}", agents.logs());
    }
    assert!(rested > 0, "the pair never rested\n{}", agents.logs());
    for number in [1, 2] {
        let survey = agents.survey(number);
        let result = &survey["results"][0];
        assert_eq!(survey["state"], "done", "{survey}");
        assert_eq!((&result["source"], &result["target"]), (&"n1".into(), &"n2".into()));
        for direction in ["outgoing", "incoming"] {
            assert_eq!(result[direction]["result"], "warm", "{survey}\n{}", agents.logs());
        }
    }
    agents.assert_probed(&[(1, 2), (2, 1)]);
}

#[test]
fn a_survey_of_three_surveys_each_pair_and_leaves_no_claim() {
    let agents = Agents::start(3, &[]);
    let (status, text) = agents.start_survey(2, "start all gaps=1 budget=240");
    assert_eq!(status, 200, "{text}");
    agents.await_state(2, "done");
    let survey = agents.survey(2);
    let mut pairs: Vec<[String; 2]> = survey["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            for direction in ["outgoing", "incoming"] {
                assert_eq!(result[direction]["result"], "warm", "{survey}\n{}", agents.logs());
            }
            let mut pair = ["source", "target"].map(|end| result[end].as_str().unwrap().to_owned());
            pair.sort();
            pair
        })
        .collect();
    pairs.sort();
    assert_eq!(pairs, [["n1", "n2"], ["n1", "n3"], ["n2", "n3"]]);
    agents.assert_probed(&[(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)]);
    // Another one may begin, on another node.
    assert_eq!(agents.command(3, "start to=n1 gaps=1 budget=60").0, 200);
    assert_eq!(agents.command(1, "stop").0, 409, "not its own");
    assert_eq!(agents.command(3, "stop").0, 200);
    agents.await_state(3, "stopped");
    agents.assert_probed(&[(1, 3), (3, 1)]);
}

#[test]
fn commands_that_are_not_proven_are_refused() {
    let agents = Agents::start(2, &[]);
    let address = agents.agent(1).address;
    let of = |headers: &str| post(address, &format!("Host: {address}\r\n{headers}"));
    assert_eq!(of("").0, 400, "no command");
    for malformed in ["", "dance", "rest", "rest for=x", "begin gap=-1 direction=incoming"] {
        assert_eq!(of(&format!("Wylis-Survey: {malformed}\r\n")).0, 400, "{malformed}");
    }
    let instance = agents.agent(2).peers()["instance"].as_str().unwrap().to_owned();
    let peer = format!("Wylis-Node: n2\r\nWylis-Instance: {instance}\r\n");
    let commands =
        ["claim for=60", "pair target=n1 gaps=1 budget=60", "rest for=60", "report", "end"];
    for command in commands.into_iter().chain(["begin gap=1 direction=outgoing"]) {
        for token in ["", "Wylis-Token: abcdefghij\r\n", "Wylis-Token: abcdefghij.abcdefghij\r\n"] {
            for sender in ["", &peer] {
                let answer = of(&format!("Wylis-Survey: {command}\r\n{sender}{token}"));
                assert_eq!(answer.0, 403, "{command} {sender} {token}: {}", answer.1);
            }
        }
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"] {
        let answer = post(address, &format!("Host: {host}\r\nWylis-Survey: stop\r\n"));
        assert_eq!(answer.0, 403, "{host}: {}", answer.1);
    }
    assert_eq!(agents.survey(1)["state"], "none");
    agents.assert_probed(&[(1, 2), (2, 1)]);
}

#[test]
fn one_agent_that_forbids_surveys_refuses_them_for_the_mesh() {
    let agents = Agents::start(3, &[(3, "WYLIS_SURVEY", "off")]);
    let (status, reason) = agents.command(3, "start all gaps=1 budget=60");
    assert_eq!((status, reason.contains("WYLIS_SURVEY=off")), (403, true), "{reason}");
    let (status, reason) = agents.start_survey(1, "start to=n2 gaps=1 budget=60");
    assert_eq!((status, reason.contains("WYLIS_SURVEY=off")), (409, true), "{reason}");
    assert!(reason.starts_with("n3 refuses"), "{reason}");
    assert_eq!(agents.survey(1)["state"], "refused");
    // The claim of the second was ended.
    assert_eq!(agents.command(2, "stop").1, "no survey goes on\n");
}

/// Kills one end of a pair that rests, and starts it again.
fn kill_in_silence(killed: u8, term: bool) {
    let mut agents = Agents::start(3, &[]);
    let other = 3 - killed;
    let (status, text) = agents.start_survey(1, "start to=n2 gaps=60 budget=600");
    assert_eq!(status, 200, "{text}");
    wait_until(PATIENCE, "silence", || {
        let before = agents.counts(other, killed);
        std::thread::sleep(INTERVAL + INTERVAL / 2);
        agents.survey(1)["now"][0]["gap_seconds"] == 60.0 && before == agents.counts(other, killed)
    });
    let at = usize::from(killed) - 1;
    let mut agent = agents.agents[at].take().unwrap();
    if term {
        agent.terminate();
        agent.wait(PATIENCE).unwrap();
    }
    drop(agent);
    agents.agents[at] = Some(Agent::start(&agents.settings[at]));
    // Although the other end would have rested for a minute more.
    agents.assert_probed(&[(other, killed), (killed, other)]);
    wait_until(PATIENCE, "up", || agents.peer(other, killed)["verdict"] == "up");
}

#[test]
fn whatever_kills_an_end_of_a_pair_it_is_probed_again_at_once() {
    // The surveyor or its peer, by SIGKILL or SIGTERM.
    std::thread::scope(|scope| {
        for (killed, term) in [(1, false), (2, false), (1, true), (2, true)] {
            scope.spawn(move || kill_in_silence(killed, term));
        }
    });
}

/// Kills the coordinator while two others rest. Its claim holds for three minutes more, and the rest for 80 s.
fn kill_coordinator(comes_back: bool) {
    let mut agents = Agents::start(4, &[]);
    let (status, text) = agents.start_survey(4, "start all gaps=60 budget=600");
    assert_eq!(status, 200, "{text}");
    let mut pair = (0, 0);
    let number = |name: &Value| name.as_str().and_then(|name| name[1..].parse::<u8>().ok());
    wait_until(PATIENCE, "two others rest", || {
        let now = agents.survey(4)["now"].take();
        pair = now
            .as_array()
            .into_iter()
            .flatten()
            .filter(|pair| pair["gap_seconds"] == 60.0)
            .filter_map(|pair| number(&pair["source"]).zip(number(&pair["target"])))
            .find(|(source, target)| *source != 4 && *target != 4)
            .unwrap_or_default();
        let rests = |own, other| agents.peer(own, other)["surveyed"] == true;
        pair != (0, 0) && rests(pair.0, pair.1) && rests(pair.1, pair.0)
    });
    drop(agents.agents[3].take());
    if comes_back {
        agents.agents[3] = Some(Agent::start(&agents.settings[3]));
    }
    // Three probes of it fail, or it shows a new token after two.
    let limit = INTERVAL * 4 + Duration::from_secs(4);
    agents.assert_probed_within(limit, &[pair, (pair.1, pair.0)]);
    agents.await_state(pair.0, "stopped");
}

#[test]
fn two_others_that_rest_are_probed_again_when_the_coordinator_is_killed() {
    std::thread::scope(|scope| {
        for comes_back in [false, true] {
            scope.spawn(move || kill_coordinator(comes_back));
        }
    });
}

#[test]
fn rows_of_a_pair_that_rests_come_through_a_third_node() {
    let agents = Agents::start(3, &[]);
    let (status, text) = agents.start_survey(1, "start to=n2 gaps=60 budget=600");
    assert_eq!(status, 200, "{text}");
    let get = |number: u8, path: &str| agents.agent(number).get(path).unwrap_or_default();
    // The document of the third node is refused first, as soon as the pair rests.
    wait_until(PATIENCE, "the pair rests", || get(1, "/api/v1/row/n2").0 == 503);
    wait_until(PATIENCE, "silence", || agents.survey(1)["now"][0]["gap_seconds"] == 60.0);
    assert_eq!(get(2, "/api/v1/row/n1").0, 503, "at the other end too");
    assert_eq!(get(3, "/api/v1/row/n1").0, 200, "a node that rests with no other");
    let pair = get(1, "/api/v1/cluster/n2/n3").1;
    assert!(pair.contains("\"error\":\"surveyed\""), "{pair}");
    let row = |number: u8, of: &str| {
        let matrix: Value = serde_json::from_str(&get(number, "/api/v1/cluster").1).unwrap();
        let rows = matrix["rows"].as_array().unwrap();
        assert_eq!(matrix["findings"], serde_json::json!([]), "{matrix}");
        rows.iter().find(|row| row["node"] == of).unwrap().clone()
    };
    wait_until(PATIENCE, "the row comes through the third node", || {
        row(1, "n2")["through"] == "n3" && row(2, "n1")["through"] == "n3"
    });
    for (number, other) in [(1, 2), (2, 1)] {
        let before = agents.counts(number, other);
        assert!(row(3, &format!("n{number}"))["through"].is_null());
        assert_eq!(agents.counts(number, other), before, "all of that sent nothing");
    }
    assert_eq!(agents.command(1, "stop").0, 200);
    agents.assert_probed(&[(1, 2), (2, 1)]);
    wait_until(PATIENCE, "the row comes from its own node", || row(1, "n2")["through"].is_null());
}

#[test]
fn a_stop_ends_the_silence_of_both_ends() {
    let agents = Agents::start(2, &[]);
    assert_eq!(agents.start_survey(2, "start to=n1 gaps=60 budget=600").0, 200);
    agents.await_silence(2, 1);
    assert_eq!(agents.command(2, "stop").0, 200);
    agents.assert_probed(&[(1, 2), (2, 1)]);
    agents.await_state(2, "stopped");
}

#[test]
fn no_other_host_can_begin_or_stop_a_survey() {
    let (Some(pod), Some(client)) = (Namespace::new("survey1"), Namespace::new("survey2")) else {
        return;
    };
    pod.ip(&format!("link add eth0 type veth peer name eth0 netns {}\n", client.name()));
    for (namespace, last) in [(&pod, 1), (&client, 2)] {
        namespace.ip(&format!("addr add 198.18.0.{last}/24 dev eth0\nlink set eth0 up\n"));
    }
    let dir = TempDir::new("survey-pod");
    let environment = [("WYLIS_NODE_NAME", "n1"), ("WYLIS_PEERS", "n2=198.18.0.2:9050")];
    let agent = Agent::start_in(
        &pod,
        &Settings {
            binary: binary(),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            address: "127.0.0.1:9050".parse().unwrap(),
            log: dir.path().join("n1.log"),
        },
    );
    wait_until(PATIENCE, "ready", || agent.get("/readyz").is_some_and(|(status, _)| status == 200));
    let from = |namespace: &Namespace, address: Ipv4Addr, command: &str| {
        let (inside, text) = (
            namespace.entrance(),
            format!("POST {PATH} HTTP/1.1\r\nHost: {address}\r\nWylis-Survey: {command}\r\n\r\n"),
        );
        let stream = inside.within(|| std::net::TcpStream::connect((address, 9050))).unwrap();
        http::exchange_over(stream, text.as_bytes(), http::DEADLINE).unwrap().status
    };
    let pods = Ipv4Addr::new(198, 18, 0, 1);
    for command in ["start all gaps=1 budget=60", "stop"] {
        assert_eq!(from(&client, pods, command), 403, "another host: {command}");
        assert_eq!(from(&pod, pods, command), 403, "by the pod's address: {command}");
        // There is no peer to survey: none is known yet, or none is up.
        let status = from(&pod, Ipv4Addr::LOCALHOST, command);
        assert!([409, 503].contains(&status), "this host: {command}: {status}");
    }
}
