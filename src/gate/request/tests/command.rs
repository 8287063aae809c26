//! The one POST that is admitted.

use wylis_harness::bounds::worst_case;

use super::*;

/// A command as it is forwarded, from a client of this address.
fn forwarded(text: &str) -> String {
    let mut request = read(text.as_bytes()).unwrap().expect(text);
    let route = request.route();
    request.add_client(&route, "127.0.0.1".parse().unwrap());
    request.render(9)
}

#[test]
fn a_post_is_a_command_of_the_survey_or_nothing() {
    let of =
        |path: &str, more: &str| format!("POST {path} HTTP/1.1\r\nHost: [::1]:9\r\n{more}\r\n");
    let command = "Wylis-Survey: start to=b,c gaps=10,30.5 budget=7200\r\n";
    for empty in ["", "Content-Length: 0\r\n"] {
        let text = forwarded(&of("/api/v1/survey?x", &format!("{command}{empty}")));
        assert_eq!(
            text,
            format!(
                "POST /api/v1/survey HTTP/1.1\r\nHost: wylis\r\n{command}Wylis-Client: 127.0.0.1\r\n\
                 Wylis-Sequence: 9\r\n\r\n"
            )
        );
    }
    for path in
        ["/", "/keepalive", "/api/v1/survey/", "/api/v1/surve", "/API/v1/survey", "*", "/%00"]
    {
        assert_eq!(refused(&of(path, command)), Rejection::Method, "{path}");
    }
    for body in ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n", "Expect: x\r\n"] {
        assert_eq!(refused(&of("/api/v1/survey", body)), Rejection::Body, "{body}");
    }
    let sent = format!("{}b", of("/api/v1/survey", ""));
    assert_eq!(refused(&sent), Rejection::Body);
    for other in ["PUT", "DELETE", "OPTIONS", "PATCH", "post"] {
        let text = format!("{other} /api/v1/survey HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(refused(&text), Rejection::Method, "{other}");
    }
    let get = of("/api/v1/survey", command).replace("POST", "GET");
    assert!(!forwarded(&get).contains("Survey"), "of a POST alone");
}

#[test]
fn the_client_of_a_command_is_passed_only_with_a_host_that_no_page_can_forge() {
    let passes = |host: &str| {
        let text = format!("POST /api/v1/survey HTTP/1.1\r\nHost: {host}\r\n\r\n");
        forwarded(&text).contains("Wylis-Client")
    };
    for own in [
        "127.0.0.1",
        "10.0.0.1:9050",
        "localhost",
        "LocalHost:80",
        "[::1]",
        "[fd00::1]:9050",
        "127.0.0.1:",
    ] {
        assert!(passes(own), "{own}");
    }
    for foreign in [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:9050",
        "evil.example:127.0.0.1",
        "localhost:9050:x",
        "localhost@evil.example",
        "evil.example, localhost",
        "[::1]x",
        "[::1",
        "[evil.example]",
        "::1",
        "0x7f.1",
        "[::1]:x",
        "wylis",
    ] {
        assert!(!passes(foreign), "{foreign}");
    }
}

#[test]
fn the_bounds_of_a_command_are_exact() {
    let of = |method: &str, length: usize, name: &str| {
        let value = "x".repeat(length);
        format!("{method} /api/v1/survey HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n")
    };
    let longest = wire::MAX_SURVEY;
    assert!(longest as f64 <= worst_case("MAX_SURVEY"));
    let passed = |text: &str| passes(text).contains("xxx");
    assert!(passed(&of("POST", longest, "wylis-SURVEY")));
    assert!(!passed(&of("POST", longest + 1, "Wylis-Survey")), "dropped");
    assert!(!passed(&of("POST", longest, "Wylis-Node")), "of this header alone");
    let mut reader = HeadReader::default();
    for method in ["GET", "POST"] {
        reader = HeadReader::default();
        let text = of(method, 60_000, "Wylis-Survey");
        let (start, _) = text.split_at(59_000);
        assert_eq!(reader.read(start.as_bytes()), Ok(None));
        let max = if method == "POST" { MAX_COMMAND_LINE } else { MAX_HEADER_LINE };
        assert_eq!(reader.line.len(), max + 1, "{method}");
    }
    drop(reader);
}
