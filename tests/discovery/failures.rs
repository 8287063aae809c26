//! Failures between the agent and the API server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, SystemTime};

use wylis::discovery::PeerSource as _;
use wylis_harness::api::{ApiServer, Behaviour, PodTable, write_file};
use wylis_harness::bounds::worst_case;
use wylis_harness::pki::{Authority, Validity, bundle};
use wylis_harness::wait_until;

use crate::fixture::{Fixture, PATIENCE, listed, lock};

/// Asserts that the behaviour fails refreshes for that reason and keeps the set.
fn keeps_the_set(ip: &str, behaviour: Behaviour, reason: &str) {
    let mut fixture = Fixture::new(ip);
    fixture.run_to_first_list();
    fixture.server.always(behaviour);
    fixture.fails_and_recovers(reason, |fixture| fixture.server.always(Behaviour::Proper));
}

#[test]
fn forbidden_names_the_missing_right() {
    let mut fixture = Fixture::new("127.61.1.1");
    fixture.server.always(Behaviour::status(403));
    fixture.fails_from_the_start("forbidden");
    let log = fixture.running().log().join("\n");
    for word in ["WARN", "\"list\"", "\"pods\"", "\"wylis\""] {
        assert!(log.contains(word), "{word} in {log}");
    }
}

#[test]
fn forbidden_keeps_the_set() {
    keeps_the_set("127.61.2.1", Behaviour::status(403), "forbidden");
}

#[test]
fn a_server_error_keeps_the_set() {
    keeps_the_set("127.61.3.1", Behaviour::status(500), "server_error");
}

#[test]
fn an_unexpected_status_keeps_the_set() {
    keeps_the_set("127.61.4.1", Behaviour::status(404), "bad_status");
}

#[test]
fn garbage_keeps_the_set() {
    keeps_the_set("127.61.5.1", Behaviour::garbage(), "bad_body");
}

#[test]
fn a_malformed_head_keeps_the_set() {
    let head = Behaviour::Status(200, vec![("not a name".to_owned(), "x".to_owned())]);
    keeps_the_set("127.61.33.1", head, "bad_body");
}

#[test]
fn another_kind_of_object_keeps_the_set() {
    let status = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"items\":[]}".to_owned();
    keeps_the_set("127.61.6.1", Behaviour::Body(status), "bad_body");
}

#[test]
fn a_truncated_body_keeps_the_set() {
    keeps_the_set("127.61.7.1", Behaviour::Truncated, "bad_body");
}

#[test]
fn an_endless_head_keeps_the_set() {
    keeps_the_set("127.61.8.1", Behaviour::EndlessHead, "too_large");
}

#[test]
fn a_closed_connection_keeps_the_set() {
    keeps_the_set("127.61.9.1", Behaviour::Close, "network");
}

#[test]
fn an_empty_list_keeps_the_set() {
    keeps_the_set("127.61.10.1", Behaviour::EmptyList, "empty");
}

#[test]
fn an_endless_body_is_cut_off() {
    let mut fixture = Fixture::new("127.61.11.1");
    // A debug build on a busy machine takes long for 96 MiB.
    fixture.settings.deadline = 4 * PATIENCE;
    // Many pods, or one that never ends: each has its limit, and both end at about 96 MiB.
    for (behaviour, bound) in
        [(Behaviour::Endless, "5,000 pods"), (Behaviour::EndlessPod, "96 MiB")]
    {
        let before = fixture.server.bytes_sent();
        fixture.server.always(behaviour);
        let list = fixture.source().list(SystemTime::now());
        let error = list.unwrap_err();
        assert_eq!(error.reason().as_str(), "too_large");
        assert!(error.to_string().ends_with(bound), "{error}");
        let sent = fixture.server.bytes_sent() - before;
        assert!(sent < 120 << 20, "{sent}");
    }
}

/// What an HTTP client may wait for, allocate for or loop over.
#[test]
fn no_endless_response_outlives_the_deadline() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const LAST: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n{\"items\":[]}\r\n0\r\n";
    let mut fixture = Fixture::new("127.61.34.1");
    fixture.settings.deadline = Duration::from_secs(1);
    for (what, begin, piece, reasons) in [
        ("a size of a chunk", CHUNKED, "0", ["bad_body", "network"]),
        ("an extension of a chunk", CHUNKED, "1;x=", ["bad_body", "network"]),
        ("chunks of one byte", CHUNKED, "1\r\n \r\n", ["too_large", "bad_body"]),
        ("trailers", LAST, "X: y\r\n", ["network", "bad_body"]),
        ("a trailer", LAST, "X: y", ["network", "bad_body"]),
        ("interim responses", "", "HTTP/1.1 103 Early Hints\r\n\r\n", ["too_large", "bad_body"]),
        ("line ends", "", "\r\n", ["bad_body", "too_large"]),
        ("a status", "HTTP/1.1 200 ", "x", ["bad_body", "too_large"]),
        ("a name", "HTTP/1.1 200 OK\r\n", "x", ["bad_body", "too_large"]),
    ] {
        fixture.server.always(Behaviour::Raw(begin, piece));
        let began = std::time::Instant::now();
        let error = fixture.source().list(SystemTime::now()).unwrap_err();
        let took = began.elapsed();
        println!("{what}: {took:?}, {error}");
        let reason = error.reason().as_str();
        assert!(reasons.contains(&reason) || reason == "timeout", "{what}: {error}");
        assert!(took < PATIENCE / 4, "{what}: {took:?}");
    }
}

#[test]
fn a_dripping_body_ends_at_the_deadline() {
    let mut fixture = Fixture::new("127.61.12.1");
    fixture.settings.deadline = Duration::from_secs(2);
    fixture.run_to_first_list();
    fixture.server.always(Behaviour::Dripping(Duration::from_millis(50)));
    fixture.fails_and_recovers("timeout", |fixture| fixture.server.always(Behaviour::Proper));
    let refreshes = lock(&fixture.running().refreshes);
    let late = refreshes.iter().map(|refresh| refresh.took).max().unwrap();
    // The whole body would take more than ten minutes.
    assert!(late < PATIENCE / 2, "{late:?}");
}

#[test]
fn a_silent_server_ends_at_the_deadline() {
    let mut fixture = Fixture::new("127.61.13.1");
    fixture.settings.deadline = Duration::from_secs(2);
    fixture.run_to_first_list();
    fixture.server.always(Behaviour::Silence(Duration::from_secs(20)));
    fixture.fails_and_recovers("timeout", |fixture| fixture.server.always(Behaviour::Proper));
}

/// Asserts the failure against a server without TLS that sends `answer`.
fn fails_without_tls(ip: &str, answer: &'static [u8], reason: &str) {
    let mut fixture = Fixture::new(ip);
    let listener = TcpListener::bind((ip, 0)).unwrap();
    fixture.settings.port = listener.local_addr().unwrap().port();
    fixture.settings.deadline = Duration::from_secs(2);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(answer).unwrap();
        // Until the client closes.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let result = fixture.source().list(SystemTime::now());
    assert_eq!(result.unwrap_err().reason().as_str(), reason);
    server.join().unwrap();
}

#[test]
fn a_silent_handshake_ends_at_the_deadline() {
    fails_without_tls("127.61.31.1", b"", "timeout");
}

#[test]
fn a_server_without_tls_gets_no_token() {
    fails_without_tls("127.61.32.1", b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls");
}

#[test]
fn an_unreachable_server_keeps_the_set() {
    let mut fixture = Fixture::new("127.61.14.1");
    fixture.run_to_first_list();
    fixture.server.stop();
    fixture.fails_and_recovers("network", |fixture| fixture.server.restart());
}

#[test]
fn a_list_without_the_own_pod_keeps_the_set() {
    let mut fixture = Fixture::new("127.61.15.1");
    fixture.run_to_first_list();
    let own = wylis_harness::api::TestPod::new(
        crate::fixture::OWN_POD,
        crate::fixture::OWN_NODE,
        "10.1.0.1",
    );
    fixture.server.pods().remove(crate::fixture::OWN_POD);
    fixture.fails_and_recovers("without_self", |fixture| fixture.server.pods().put(own));
}

#[test]
fn retry_after_is_honoured() {
    let mut fixture = Fixture::new("127.61.16.1");
    fixture.run_to_first_list();
    fixture.server.next(1, &Behaviour::retry_after(429, 3));
    fixture.fails_and_recovers("throttled", |_| {});
    let times: Vec<_> = fixture.server.log().iter().map(|request| request.at).collect();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest >= Duration::from_secs(3), "{longest:?}");
}

#[test]
fn a_redirect_is_not_followed_and_the_token_stays() {
    let mut fixture = Fixture::new("127.61.17.1");
    let thief = "127.61.17.2:0".parse().unwrap();
    let identity = fixture.ca.issue(&["127.61.17.2"], Validity::Now);
    let thief = ApiServer::start(thief, &identity, &PodTable::new());
    fixture.run_to_first_list();
    let url = format!("https://{}/api/v1/namespaces/wylis/pods", thief.address());
    fixture.server.always(Behaviour::Redirect(url));
    fixture.fails_and_recovers("redirect", |fixture| fixture.server.always(Behaviour::Proper));
    assert_eq!((thief.connections(), thief.requests()), (0, 0));
}

#[test]
fn one_401_is_retried_at_once() {
    let fixture = Fixture::new("127.61.18.1");
    fixture.server.next(1, &Behaviour::status(401));
    assert_eq!(listed(&mut fixture.source()).len(), 2);
    assert_eq!(fixture.server.requests(), 3, "the table twice, the pods once");
}

#[test]
fn a_rejected_token_keeps_the_set() {
    let mut fixture = Fixture::new("127.61.19.1");
    fixture.run_to_first_list();
    fixture.server.set_tokens(&[]);
    fixture
        .fails_and_recovers("unauthorized", |fixture| fixture.server.set_tokens(&[&fixture.token]));
}

#[test]
fn a_rotated_token_is_read_again() {
    let fixture = Fixture::new("127.61.20.1");
    let mut source = fixture.source();
    assert_eq!(listed(&mut source).len(), 2);
    let next = format!("{}-rotated", fixture.token);
    fixture.server.set_tokens(&[&next]);
    write_file(fixture.dir.path(), "token", &format!("{next}\n"));
    assert!(source.list(SystemTime::now()).unwrap().is_none(), "the same peers");
    let last = fixture.server.log().pop().unwrap();
    assert_eq!(last.authorization, Some(format!("Bearer {next}")));
    assert_eq!(fixture.server.requests(), 3, "no 401 in between");
}

#[test]
fn a_missing_or_unusable_file_has_its_reason() {
    let fixture = Fixture::new("127.61.21.1");
    let mut source = fixture.source();
    let mut failed = || source.list(SystemTime::now()).unwrap_err();
    for text in [
        "",
        "\n",
        " \t\r\n",
        "t0k3n\r\nX-Evil: 1",
        "t0k3n-\u{e4}",
        "t0k3n-\u{7f}",
        "t0k3n\0",
        "t0k3n t0k3n",
        "t0k3n\tt0k3n",
        &"t0k3n".repeat(4000),
    ] {
        write_file(fixture.dir.path(), "token", text);
        let error = failed();
        assert_eq!(error.reason().as_str(), "credentials", "{error}");
        assert!(!format!("{error} {error:?}").contains("t0k3n"), "{error:?}");
    }
    std::fs::remove_file(fixture.dir.path().join("token")).unwrap();
    assert_eq!(failed().reason().as_str(), "credentials");
    write_file(fixture.dir.path(), "token", &fixture.token);
    write_file(fixture.dir.path(), "ca.crt", "no certificate here");
    assert_eq!(failed().reason().as_str(), "credentials");
    assert_eq!(fixture.server.connections(), 0);
}

/// A token that is no regular file, or a huge one, costs one refresh: the agent neither waits nor reads it.
#[test]
fn a_token_that_never_ends_is_refused_at_once() {
    let fixture = Fixture::new("127.61.34.1");
    let path = fixture.dir.path().join("token");
    let replace: [&dyn Fn(); 4] = [
        &|| std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
        &|| assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
        &|| std::fs::create_dir(&path).unwrap(),
        &|| std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap(),
    ];
    for (number, replace) in replace.iter().enumerate() {
        std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).unwrap();
        replace();
        let mut source = fixture.source();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(source.list(SystemTime::now())));
        let result = receiver.recv_timeout(PATIENCE / 4);
        let error = result.unwrap_or_else(|_| panic!("case {number} blocks")).unwrap_err();
        assert_eq!(error.reason().as_str(), "credentials", "case {number}: {error}");
    }
    assert_eq!(fixture.server.connections(), 0);
}

#[test]
fn the_longest_token_fits_and_a_longer_one_is_refused() {
    let fixture = Fixture::new("127.61.22.1");
    let longest = 12 * 1024_u32;
    assert!(f64::from(longest) <= worst_case("MAX_TOKEN"));
    for (length, fits) in [(longest - 1, true), (longest, true), (longest + 1, false)] {
        let missing = usize::try_from(length).unwrap() - fixture.token.len();
        let long = format!("{}{}", fixture.token, "x".repeat(missing));
        fixture.server.set_tokens(&[&long]);
        write_file(fixture.dir.path(), "token", &long);
        let list = fixture.source().list(SystemTime::now());
        let reason = list.map(|_| ()).map_err(|error| error.reason().as_str());
        assert_eq!(reason, if fits { Ok(()) } else { Err("credentials") }, "{length}");
    }
}

#[test]
fn both_authorities_of_a_bundle_are_trusted() {
    let fixture = Fixture::new("127.61.23.1");
    let other = Authority::new("kubernetes");
    for authorities in [[&other, &fixture.ca], [&fixture.ca, &other]] {
        write_file(fixture.dir.path(), "ca.crt", &bundle(&authorities));
        assert_eq!(listed(&mut fixture.source()).len(), 2);
    }
}

#[test]
fn a_new_authority_is_trusted_once_its_file_changes() {
    let mut fixture = Fixture::new("127.61.24.1");
    fixture.run_to_first_list();
    let next = Authority::new("kubernetes");
    fixture.server.set_identity(&next.issue(&["127.61.24.1"], Validity::Now));
    fixture
        .fails_and_recovers("tls", |fixture| write_file(fixture.dir.path(), "ca.crt", &next.pem()));
}

#[test]
fn an_unknown_authority_is_refused() {
    let mut fixture = Fixture::new("127.61.25.1");
    write_file(fixture.dir.path(), "ca.crt", &Authority::new("kubernetes").pem());
    fixture.fails_from_the_start("tls");
    assert_eq!(fixture.server.requests(), 0, "no token is sent");
}

#[test]
fn an_expired_certificate_is_refused() {
    let mut fixture = Fixture::with_certificate("127.61.26.1", &["127.61.26.1"], Validity::Expired);
    fixture.fails_from_the_start("tls");
}

#[test]
fn a_certificate_that_is_not_valid_yet_hints_at_the_clock() {
    let mut fixture = Fixture::with_certificate("127.61.27.1", &["127.61.27.1"], Validity::NotYet);
    fixture.fails_from_the_start("certificate_not_yet_valid");
    assert!(fixture.running().log().iter().any(|line| line.contains("clock")));
}

#[test]
fn a_certificate_without_the_address_is_refused() {
    for names in [&["kubernetes.default.svc", "127.61.28.2"][..], &[]] {
        let mut fixture = Fixture::with_certificate("127.61.28.1", names, Validity::Now);
        fixture.fails_from_the_start("tls");
        assert_eq!(fixture.server.requests(), 0);
    }
}

#[test]
fn a_failure_and_the_recovery_are_logged_once() {
    let mut fixture = Fixture::new("127.61.29.1");
    fixture.run_to_first_list();
    fixture.server.next(3, &Behaviour::status(500));
    fixture.running().await_outcome(0, "server_error");
    let seen = fixture.running().count();
    fixture.running().await_outcome(seen, "ok");
    let log = fixture.running().log();
    let count = |level: &str, word: &str| {
        log.iter().filter(|line| line.starts_with(level) && line.contains(word)).count()
    };
    assert_eq!(count("WARN", "discovery fails, the last 2 peers stay in use"), 1, "{log:#?}");
    assert_eq!(count("DEBUG", "discovery still fails"), 2, "{log:#?}");
    assert_eq!(count("INFO", "discovery works again after 3 failures in a row"), 1, "{log:#?}");
    assert_eq!(count("INFO", "peers: 2, 2 joined, 0 left"), 1, "{log:#?}");
}

#[test]
fn every_connection_is_closed_after_its_list() {
    let fixture = Fixture::new("127.61.30.1");
    let mut source = fixture.source();
    for ready in [false, true, false] {
        fixture.server.pods().set_ready("wylis-a", ready);
        assert_eq!(listed(&mut source).len(), 2);
        wait_until(PATIENCE, "the connections are closed", || {
            fixture.server.open_connections() == 0
        });
    }
    assert_eq!(fixture.server.connections(), 6);
}
