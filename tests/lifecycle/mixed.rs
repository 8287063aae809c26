//! Meshes without Kubernetes, and meshes of several releases.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use wylis_harness::mesh::Net;
use wylis_harness::process::{Agent, Settings};
use wylis_harness::{TempDir, http, wait_until};

use super::binary;

/// Starts an agent with a fixed list, faster than by default. `more` overrides these settings.
pub(crate) fn fixed(
    dir: &TempDir,
    node: &str,
    address: SocketAddr,
    peers: (&str, &str),
    more: &[(&str, &str)],
) -> Agent {
    let pairs = [
        ("WYLIS_NODE_NAME", node),
        ("WYLIS_LISTEN", &address.to_string()),
        (peers.0, peers.1),
        ("WYLIS_INTERVAL", "500ms"),
        ("WYLIS_TIMEOUT", "2s"),
        ("WYLIS_REFRESH_INTERVAL", "1s"),
        ("WYLIS_DRAIN", "1s"),
    ];
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Agent::start(&Settings {
        binary: binary(),
        environment: pairs.iter().chain(more).map(own).collect(),
        address,
        log: dir.path().join(format!("{node}.log")),
    })
}

/// An agent of another release: answers each connection with these bytes. Returns the requests received.
fn other_release(address: SocketAddr, answer: &'static str) -> Arc<Mutex<Vec<String>>> {
    let listener = TcpListener::bind(address).unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            received.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    requests
}

#[test]
fn two_releases_of_the_wire_format_understand_each_other() {
    let (dir, net) = (TempDir::new("releases"), Net::new());
    let at = |last| SocketAddr::new(net.host(last), 9050);
    // The smallest answer of any release, and one with unknown headers.
    other_release(at(2), "HTTP/1.1 204 No Content\r\nWylis-Node: older\r\n\r\n");
    let requests = other_release(
        at(3),
        "HTTP/1.1 204 No Content\r\nServer: x\r\nwylis-node: newer\r\nWylis-Instance: 7\r\n\
         Wylis-Can: goodbye, large=8192, teleport\r\nWylis-Colour: red\r\n\r\n",
    );
    let peers = format!("older={},newer={}", at(2), at(3));
    let mut agent = fixed(&dir, "n1", at(1), ("WYLIS_PEERS", &peers), &[]);
    for node in ["older", "newer"] {
        wait_until(Duration::from_secs(20), node, || {
            agent.peer(node)["successes"].as_u64().unwrap_or(0) >= 2
        });
        assert_eq!(agent.peer(node)["failures"], 0, "{}", agent.log());
    }
    assert_eq!(agent.peer("newer")["instance"], "7");
    let request = requests.lock().unwrap()[0].clone();
    for header in [
        "\r\nHost: ",
        "\r\nWylis-Node: n1\r\n",
        "\r\nWylis-Instance: ",
        "\r\nWylis-Interval: 500\r\n",
        "\r\nWylis-Token: ",
    ] {
        assert!(request.contains(header), "{header:?} in {request}");
    }
    let older = http::get_with(at(1), "/keepalive", &[("Wylis-Node", "older")], http::DEADLINE);
    assert_eq!(older.unwrap().status, 204);
    let headers = [
        ("Wylis-Node", "newer"),
        ("Wylis-Instance", "7"),
        ("Wylis-Interval", "sometimes"),
        ("Wylis-Colour", "red"),
    ];
    let newer = http::get_with(at(1), "/keepalive?size=8192", &headers, http::DEADLINE).unwrap();
    assert_eq!((newer.status, newer.header("Wylis-Node")), (204, Some("n1")));
    for node in ["older", "newer"] {
        wait_until(Duration::from_secs(5), node, || agent.peer(node)["incoming_requests"] == 1);
    }
    agent.terminate();
    assert!(agent.wait(Duration::from_secs(20)).unwrap().success());
    let goodbye = requests.lock().unwrap().last().cloned().unwrap();
    assert!(goodbye.contains("\r\nWylis-Goodbye: 1000\r\n"), "{goodbye}");
}

/// The value of a header in a request.
pub(crate) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = request.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn only_a_goodbye_that_shows_the_token_pauses_a_peer() {
    let (dir, net) = (TempDir::new("tokens"), Net::new());
    let at = |last| SocketAddr::new(net.host(last), 9050);
    let requests = other_release(
        at(2),
        "HTTP/1.1 204 No Content\r\nWylis-Node: n2\r\nWylis-Instance: 7\r\n\
         Wylis-Can: goodbye,token\r\n\r\n",
    );
    let agent = fixed(&dir, "n1", at(1), ("WYLIS_PEERS", &format!("n2={}", at(2))), &[]);
    let successes = || agent.peer("n2")["successes"].as_u64().unwrap_or(0);
    wait_until(Duration::from_secs(20), "probes", || successes() >= 3);
    let shown = requests.lock().unwrap().last().cloned().unwrap();
    let token = header(&shown, "Wylis-Token").unwrap().to_owned();
    assert!(!token.contains('.'), "nothing is known of n2: {token}");
    let send = |token: &str, goodbye: &str| {
        let headers = [
            ("Wylis-Node", "n2"),
            ("Wylis-Instance", "7"),
            ("Wylis-Token", token),
            ("Wylis-Goodbye", goodbye),
        ];
        let answer = http::get_with(at(1), "/keepalive", &headers, http::DEADLINE).unwrap();
        assert_eq!(answer.status, 204);
        answer.header("Wylis-Token").map(str::to_owned)
    };
    // Without, with a wrong one, and as a host that heard a token of its own from the agent.
    let sealed = send("mineminemi", "60000").unwrap();
    for wrong in ["mineminemi.mineminemi", &format!("mineminemi.{sealed}")] {
        assert_eq!(send(wrong, "60000").as_ref(), Some(&sealed));
    }
    let before = successes();
    wait_until(Duration::from_secs(20), "probes continue", || successes() >= before + 3);
    assert!(!agent.log().contains("draining"), "{}", agent.log());
    assert_eq!(send(&format!("mineminemi.{token}"), "60000"), None, "no seal for a proven one");
    // It stays, as the next answers show.
    wait_until(Duration::from_secs(20), "it pauses n2, and resumes", || {
        agent.log().contains("is draining, was up") && agent.log().contains("is up, was draining")
    });
    assert_eq!(agent.peer("n2")["failures"], 0, "{}", agent.log());
}

#[test]
fn a_file_of_peers_is_read_again_when_it_changes() {
    let (dir, net) = (TempDir::new("file"), Net::new());
    let at = |last| SocketAddr::new(net.host(last), 9050);
    let file = dir.path().join("peers");
    let entry = |number: u8| format!("n{number}={}\n", at(number));
    std::fs::write(&file, format!("# all of them\n{}{}", entry(1), entry(2))).unwrap();
    let file_name = file.display().to_string();
    let agents: Vec<Agent> = (1..=3)
        .map(|n| fixed(&dir, &format!("n{n}"), at(n), ("WYLIS_PEERS_FILE", &file_name), &[]))
        .collect();
    wait_until(Duration::from_secs(20), "n1 probes n2", || {
        agents[0].peer("n2")["successes"].as_u64().unwrap_or(0) > 0
    });
    assert!(agents[0].peer("n3").is_null() && agents[0].peer("n1").is_null());
    std::fs::write(&file, entry(1) + &entry(2) + &entry(3)).unwrap();
    wait_until(Duration::from_secs(20), "n1 probes n3", || {
        agents[0].peer("n3")["successes"].as_u64().unwrap_or(0) > 0
    });
    std::fs::write(&file, "n2 = nonsense\n").unwrap();
    wait_until(Duration::from_secs(20), "the failure is counted", || {
        agents[0].metrics().sum("wylis_discovery_failures_total", &[]) > 0.0
    });
    assert_eq!(agents[0].peer("n2")["verdict"], "up", "the last good list stays");
}

/// A port of both families and the socket that reserves it. The socket is bound and does not listen: the
/// kernel gives the port to no other process, and the agent, with SO_REUSEADDR too, can share it (socket(7)).
fn reserved_port() -> (u16, Socket) {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (address.port(), socket)
}

#[test]
fn ipv6_peers_are_probed_and_both_families_are_served() {
    if TcpListener::bind("[::1]:0").is_err() {
        wylis_harness::skip("no IPv6 loopback");
        return;
    }
    let dir = TempDir::new("ipv6");
    // IPv6 has one loopback address: the ports differ.
    let ((one, _one), (two, _two)) = (reserved_port(), reserved_port());
    let at = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let (v6, v4) = (format!("n2=[::1]:{two}"), format!("n1=127.0.0.1:{one}"));
    let first = fixed(&dir, "n1", at(one), ("WYLIS_PEERS", &v6), &[]);
    let second = fixed(&dir, "n2", at(two), ("WYLIS_PEERS", &v4), &[]);
    for (agent, peer) in [(&first, "n2"), (&second, "n1")] {
        wait_until(Duration::from_secs(20), peer, || {
            agent.peer(peer)["successes"].as_u64().unwrap_or(0) > 1
        });
        assert_eq!(agent.peer(peer)["consecutive_failures"], 0, "{}", agent.log());
    }
}
