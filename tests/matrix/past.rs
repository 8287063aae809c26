//! The matrix of a past moment and the last day, from real agents.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use wylis_harness::bounds::worst_case;
use wylis_harness::gzip::gunzip;
use wylis_harness::mesh::{Mesh, now};
use wylis_harness::{http, wait_until};

use crate::{DEADLINE, FAST, PATIENCE, SLACK, binary, cell, document, row};

/// For judging the times of a day, after its collection.
const JUDGING_TIME: Duration = Duration::from_secs(1);

/// The path of the matrix of this second.
pub(crate) fn at(seconds: i64) -> String {
    format!("/api/v1/history/{seconds}")
}

/// The texts of the findings, without those that no past matrix has.
fn texts(matrix: &Value) -> Vec<&str> {
    let all = matrix["findings"].as_array().unwrap().iter();
    let all = all.filter(|one| one["kind"] != "missing_row" && one["kind"] != "clock");
    all.map(|one| one["text"].as_str().unwrap()).collect()
}

/// What a matrix says of a pair.
fn verdict(matrix: &Value, source: &str, target: &str) -> [Value; 2] {
    ["verdict", "reason"].map(|field| cell(matrix, source, target)[field].clone())
}

#[test]
fn the_matrix_of_a_moment_ago_says_what_was_said_then_whichever_agent_is_asked() {
    let mut mesh = Mesh::of(5, &binary(), FAST);
    mesh.kill("n5");
    let left = ["n1", "n2", "n3", "n4"];
    left.iter().for_each(|node| mesh.wait_for_verdict(node, "n5", "down"));
    let live = || document(mesh.agent("n2").address, "/api/v1/cluster").0;
    let mut then = live();
    wait_until(PATIENCE, "a matrix with the fault", || {
        then = live();
        left.iter().all(|node| cell(&then, node, "n5")["verdict"] == "down")
    });
    let second = now();
    for asked in ["n2", "n3"] {
        let (past, took) = document(mesh.agent(asked).address, &at(second));
        assert!(took < DEADLINE + SLACK, "{took:?}");
        assert_eq!((&past["node"], &past["nodes"]), (&asked.into(), &then["nodes"]));
        for source in left {
            let row = row(&past, source);
            assert_eq!((&row["error"], &row["through"]), (&Value::Null, &Value::Null), "{past}");
            let [from, long] = ["at", "seconds"].map(|field| row[field].as_f64().unwrap());
            assert!((from..from + long).contains(&(second as f64)), "{second}: {from}, {long} s");
            for target in ["n1", "n2", "n3", "n4", "n5"].iter().filter(|node| **node != source) {
                let [expected, found] = [&then, &past].map(|one| verdict(one, source, target));
                assert_eq!(expected, found, "{source} to {target}: {past}");
            }
        }
        assert_eq!(row(&past, "n5")["error"], "refused", "an agent that is gone tells nothing");
        assert_eq!(texts(&past), texts(&then), "through {asked}");
        let own = row(&past, asked);
        assert_eq!((&past["at"], &past["seconds"]), (&own["at"], &own["seconds"]));
    }
    // Beside it, the day says the same.
    let (day, _) = document(mesh.agent("n3").address, "/api/v1/history/day");
    let words: Vec<&str> =
        day["findings"].as_array().unwrap().iter().filter_map(|one| one["text"].as_str()).collect();
    assert!(texts(&then).iter().all(|text| words.contains(text)), "{then}\n{day}");
    assert_eq!(day["missing"].as_array().unwrap().len(), 1, "{day}");
    assert_eq!(day["missing"][0]["node"], "n5");
}

#[test]
fn a_time_out_of_range_has_the_range_and_a_word_is_no_time() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let address = mesh.agent("n1").address;
    let range = |path: &str| {
        let response = http::get(address, path).unwrap();
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.header("Content-Type"), Some("text/plain; charset=utf-8"));
        let text = response.text();
        let rest = text.strip_prefix("no history of that time: it reaches from ").expect(&text);
        let (from, rest) = rest.split_once(" to ").unwrap();
        let to = rest.strip_suffix(" (Unix seconds)\n").unwrap();
        [from, to].map(|number| number.parse::<i64>().unwrap())
    };
    for second in [now() + 100, now() - 2 * 86_400, 1] {
        let [from, to] = range(&at(second));
        assert!((now() - 5..=now()).contains(&to), "{to}");
        assert!((to - 86_400 - 300..=to - 86_400).contains(&from) && from % 300 == 0, "{from}");
        // What it says is so.
        for second in [from, to] {
            let (matrix, _) = document(address, &at(second));
            assert_eq!(matrix["nodes"].as_array().unwrap().len(), 2);
        }
    }
    // No agent was there: each row says so, and the matrix is of five minutes.
    let (before, _) = document(address, &at(now() - 40_000));
    for node in ["n1", "n2"] {
        assert_eq!(row(&before, node)["error"], "not_remembered", "{before}");
    }
    assert_eq!((&before["seconds"], &before["findings"]), (&300.into(), &Value::Array(vec![])));
    assert_eq!(before["at"].as_f64().unwrap() % 300.0, 0.0);
    let [from, to] = range(&format!("/api/v1/past/row/{}", now() - 40_000));
    assert!((to - 600..=to).contains(&from), "since this agent remembers: {from}");
    for path in ["night", "-1", "n1/n9", "n1/n1", "n1/n2/n1"] {
        let response = http::get(address, &format!("/api/v1/history/{path}")).unwrap();
        assert_eq!((response.status, response.text().as_str()), (404, "not found\n"), "{path}");
    }
    for path in ["peers/n1", "peers/n9", "row/17/n9", "faults/n9", "row"] {
        let response = http::get(address, &format!("/api/v1/past/{path}")).unwrap();
        assert_eq!((response.status, response.text().as_str()), (404, "not found\n"), "{path}");
    }
}

#[test]
fn a_frozen_peer_costs_the_past_no_more_than_the_deadline_and_its_own_part() {
    let mesh = Mesh::of(4, &binary(), FAST);
    let (address, second) = (mesh.agent("n1").address, now());
    mesh.agent("n4").signal(libc::SIGSTOP);
    let (past, took) = document(address, &at(second));
    assert!(took < DEADLINE + SLACK, "{took:?}");
    assert_eq!(row(&past, "n4")["error"], "response_timeout");
    assert_eq!(verdict(&past, "n2", "n4")[0], "up", "{past}");
    let (day, took) = document(address, "/api/v1/history/day");
    assert!(took < DEADLINE + JUDGING_TIME + SLACK, "{took:?}");
    let missing = day["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 1, "{day}");
    assert_eq!(
        (&missing[0]["node"], &missing[0]["error"]),
        (&"n4".into(), &"response_timeout".into())
    );
    for (pair, error) in [("n4/n1", Some("response_timeout")), ("n2/n4", None)] {
        let (pair, took) = document(address, &format!("/api/v1/history/{pair}"));
        assert!(took < DEADLINE + SLACK, "{took:?}");
        assert_eq!(pair["error"].as_str(), error, "{pair}");
    }
    mesh.agent("n4").signal(libc::SIGCONT);
}

/// All that answers a HEAD.
fn head(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(http::DEADLINE)).unwrap();
    write!(stream, "HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn each_answer_of_the_past_is_compressed_where_asked_for_and_a_head_has_its_length() {
    let mesh = Mesh::of(8, &binary(), FAST);
    let (address, second) = (mesh.agent("n1").address, now());
    for path in [
        "history".to_owned(),
        "history/day".to_owned(),
        format!("history/{second}"),
        "history/n1/n2".to_owned(),
        "history/n2/n3".to_owned(),
        format!("past/row/{second}"),
        format!("past/row/{second}/n2"),
        "past/faults".to_owned(),
        "past/faults/n2".to_owned(),
        "past/peers/n2".to_owned(),
    ] {
        let path = format!("/api/v1/{path}");
        let (plain, _) = document(address, &path);
        let asking = [("Accept-Encoding", "gzip")];
        let gzip = http::get_with(address, &path, &asking, http::DEADLINE).unwrap();
        assert_eq!(gzip.header("Vary"), Some("Accept-Encoding"), "{path}");
        assert_eq!(gzip.header("Content-Type"), Some("application/json"), "{path}");
        let is_long = plain.to_string().len() > 1100;
        let is_compressed = gzip.header("Content-Encoding") == Some("gzip");
        assert!(is_compressed || !is_long, "{path}: {} bytes", gzip.body.len());
        let body = if is_compressed { gunzip(&gzip.body) } else { gzip.body };
        let other: Value = serde_json::from_slice(&body).unwrap();
        let fields = |one: &Value| one.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields(&plain), fields(&other), "{path}");
        assert_eq!(plain["version"], 1, "{path}");
        let head = head(address, &path);
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{path}: {head}");
        assert!(head.contains("\r\nContent-Length: ") && !head.contains(": 0\r\n"), "{head}");
        let post = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        let post = http::exchange(address, post.as_bytes(), http::DEADLINE).unwrap();
        assert_eq!(post.status, 405, "{path}");
    }
}

/// Ends a flood, also when its test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks from another address than all others.
fn get_from(from: IpAddr, to: SocketAddr, path: &str) -> std::io::Result<http::Response> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&to.into())?;
    let request = http::request(to, path, &[]);
    http::exchange_over(TcpStream::from(socket), request.as_bytes(), http::DEADLINE)
}

#[test]
fn a_flood_of_past_seconds_starves_neither_the_matrix_of_now_nor_probes() {
    const FLOOD: Duration = Duration::from_secs(7);
    /// As long as an address is remembered that got an answer, and some more.
    const RARELY: Duration = Duration::from_millis(4500);
    let mesh = Mesh::of(4, &binary(), FAST);
    let address = mesh.agent("n1").address;
    let (began, stop) = (Instant::now(), AtomicBool::new(false));
    let [answered, refused] = [AtomicU32::new(0), AtomicU32::new(0)];
    let next = AtomicU32::new(0);
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Another five minutes each time, so that none is cached.
                    let back = i64::from(next.fetch_add(1, Ordering::Relaxed) % 280) * 300;
                    let from = [127, 200, 200, 200].into();
                    let Ok(response) = get_from(from, address, &at(now() - back)) else { continue };
                    match response.status {
                        200 => answered.fetch_add(1, Ordering::Relaxed),
                        status => {
                            assert_eq!((status, response.header("Retry-After")), (503, Some("1")));
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
        let _stop = Stop(&stop);
        let mut asked = None;
        while began.elapsed() < FLOOD {
            let (matrix, took) = document(address, "/api/v1/cluster");
            slowest = slowest.max(took);
            for node in ["n1", "n2", "n3", "n4"] {
                let row = row(&matrix, node);
                assert_eq!((&row["error"], &row["age_seconds"]), (&Value::Null, &Value::Null));
            }
            // A page that has not asked for 4 s.
            if asked.is_none_or(|at: Instant| at.elapsed() > RARELY) {
                let (past, _) = document(address, &at(now()));
                assert_eq!(row(&past, "n3")["error"], Value::Null, "{past}");
                asked = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let [answered, refused] = [answered, refused].map(AtomicU32::into_inner);
    println!("{answered} of {} past matrices; the matrix took {slowest:?}", answered + refused);
    let seconds = began.elapsed().as_secs_f64();
    let most = worst_case("PAST_MATRICES_BURST") + seconds * worst_case("PAST_MATRICES_PER_SECOND");
    assert!(refused > 100 && answered >= 10, "{refused}");
    assert!(f64::from(answered) <= most, "{answered} in {seconds} s");
    assert!(slowest < DEADLINE + SLACK, "{slowest:?}");
    assert_eq!(mesh.sum("wylis_probe_failures_total", &[]), 0.0);
    assert_eq!(mesh.sum("wylis_local_errors_total", &[]), 0.0);
    assert!(mesh.agent("n1").status("Threads") < 40);
}
