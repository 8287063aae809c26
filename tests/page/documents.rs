//! The page with documents that no agent would send: large, hostile, late, malformed, or missing.

use std::time::Duration;

use serde_json::{Value, json};
use wylis_harness::browser::{Browser, key};
use wylis_harness::wait_until;

use super::stand_in::{AT, StandIn, down, matrix, names};

/// Far above what the page needs, even on a busy machine.
const SOON: Duration = Duration::from_secs(90);

/// A browser that shows the page with this matrix.
fn shown(matrix: &Value) -> Option<(StandIn, Browser)> {
    let browser = Browser::start()?;
    let agent = StandIn::start(matrix);
    browser.go(&agent.url());
    browser.wait_for(SOON, "document.querySelector('[role=gridcell]')");
    Some((agent, browser))
}

/// The texts of all elements that a selector finds.
fn texts(browser: &Browser, selector: &str) -> Vec<String> {
    let script =
        "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)";
    let found = browser.run_with(script, &json!([selector]));
    serde_json::from_value(found).unwrap()
}

fn text(browser: &Browser, selector: &str) -> String {
    texts(browser, selector).concat()
}

/// The accessible name of the focused element.
fn focused(browser: &Browser) -> String {
    browser.run("return document.activeElement.getAttribute('aria-label')").to_string()
}

#[test]
fn hostile_names_and_reasons_are_shown_as_text() {
    const SCRIPT: &str = "<script>document.title='taken'</script>";
    const IMAGE: &str = "<img src=x onerror=\"document.title='taken'\">";
    let nodes = ["a".to_owned(), SCRIPT.to_owned(), IMAGE.to_owned()];
    let mut hostile = matrix(&nodes, |source, target| {
        (source == 0).then(|| match target {
            1 => json!({"verdict": IMAGE, "reason": SCRIPT, "latency_seconds": IMAGE, "at": SCRIPT,
                "mtu_bytes": IMAGE, "mtu_at_least": SCRIPT, "host": IMAGE, "surveyed": SCRIPT}),
            _ => json!({"verdict": "constructor", "reason": "__proto__", "probes": IMAGE, "failures": SCRIPT,
                "dead_flows": {"a": 1}, "flows": [IMAGE], "host": "constructor"}),
        })
    });
    hostile["findings"] = json!([
        {"grave": true, "text": IMAGE, "pairs": [[0, 1], ["__proto__", 9e9], IMAGE, null]},
        {"grave": SCRIPT, "text": SCRIPT, "pairs": {"0": [0, 1]}, "kind": IMAGE},
        {"text": {"toString": IMAGE}}, {"text": 7}, null, 7, [SCRIPT], {},
        {"text": "x".repeat(1_000_000)},
    ]);
    hostile["node"] = json!(IMAGE);
    hostile["rows"][2] = json!({"node": IMAGE, "error": IMAGE});
    let Some((agent, browser)) = shown(&hostile) else { return };
    let peer = json!({"node": SCRIPT, "verdict": IMAGE, "reason": SCRIPT, "address": IMAGE,
        "failures_by_reason": {IMAGE: SCRIPT}, "recent": [{"reason": IMAGE}, {"total_seconds": SCRIPT}],
        "last_failure": {"phase": IMAGE, "reason": SCRIPT, "at": AT}, "large": {"last": {"reason": IMAGE}},
        "ready": SCRIPT, "rtt_seconds": IMAGE, "path_mtu_bytes": SCRIPT, "successes": IMAGE,
        "mtu": {"outgoing": {"bytes": IMAGE, "at": SCRIPT}, "incoming": {"bytes": 1e300, "exact": IMAGE, "at": {}}},
        "host": {"state": "answers", "address": IMAGE, "at": IMAGE}, "flows": {"dead": 1, "tried": SCRIPT}});
    let there = "api/v1/cluster/a/%3Cscript%3Edocument.title%3D'taken'%3C%2Fscript%3E";
    agent.serve(
        there,
        &json!({"version": 1, "source": "a", "target": SCRIPT, "at": AT, "peer": peer}),
    );
    assert_eq!(texts(&browser, "[role=rowheader]"), [IMAGE, SCRIPT, "a"]);
    let shown = texts(&browser, "#summary > *");
    assert_eq!((shown.len(), &shown[..2]), (3, &[IMAGE.to_owned(), SCRIPT.to_owned()][..]));
    assert!(shown[2].len() <= 2000, "{}", shown[2].len());
    assert_eq!(browser.run("return summary.querySelectorAll('img, script').length"), 0);
    for _ in &shown {
        browser.run("for (const one of summary.children) one.focus()");
    }
    browser.click(&browser.find("[role=gridcell][aria-label^='a → <script>']"));
    browser.wait_for(SOON, "document.querySelector('dialog dl')");
    let dialog = text(&browser, "dialog");
    for part in [IMAGE, SCRIPT] {
        assert!(dialog.contains(part), "{part} in {dialog}");
    }
    // The one script is the page's own.
    let counts = "return [document.scripts.length, document.images.length, document.title]";
    let counts = browser.run(counts);
    assert_eq!((&counts[0], &counts[1]), (&json!(1), &json!(0)));
    assert!(counts[2].as_str().unwrap().ends_with("Wylis"), "{counts}");
    // The other direction is not served, which is the only message.
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("404")), "{console:?}");
}

#[test]
fn below_a_prefix_without_a_final_slash_every_request_is_below_the_prefix() {
    let Some(browser) = Browser::start() else { return };
    let agent = StandIn::start(&matrix(&names(3), |_, _| None));
    let prefix = agent.url();
    for url in [prefix.trim_end_matches('/'), &prefix] {
        browser.go(url);
        browser.wait_for(SOON, "document.querySelector('[role=gridcell]')");
        let links =
            browser.run("return [...document.querySelectorAll('nav a')].map((a) => a.href)");
        let expected = ["api/v1/cluster", "api/v1/peers", "metrics"];
        assert_eq!(links, json!(expected.map(|path| format!("{prefix}{path}"))), "{url}");
        assert!(browser.console().is_empty(), "{url}");
    }
}

#[test]
fn two_hundred_nodes_are_drawn_in_under_a_second() {
    let nodes: Vec<String> = (0..200)
        .map(|n| format!("ip-10-0-{}-{}.eu-central-1.compute.internal", n / 20, n % 20 + 100))
        .collect();
    let mut large = matrix(&nodes, |source, target| (target == 7 && source != 8).then(down));
    let finding = |n| json!({"grave": n < 2, "text": format!("finding {n}"), "pairs": [[n, 7]]});
    large["findings"] = (0..600).map(finding).collect();
    let Some((_agent, browser)) = shown(&large) else { return };
    // From the document to the laid-out page; the best of several, since the machine may be busy.
    let draw = "const { doc } = now.m, begun = performance.now();
        places = []; heads = []; grid.replaceChildren();
        const m = matrix(doc);
        now = { ...now, m, c: count(m) };
        renderHeader(); render(); grid.getBoundingClientRect();
        return performance.now() - begun";
    let best = (0..6).map(|_| browser.run(draw).as_f64().unwrap()).fold(f64::MAX, f64::min);
    println!("page: 200 nodes drawn in {best:.0} ms");
    assert!(best < 1000.0, "{best} ms");
    assert_eq!(texts(&browser, "[role=gridcell]").len(), 40_000);
    let expected: Vec<String> = (0..6).map(|n| format!("finding {n}")).collect();
    let shown = texts(&browser, "#summary > *");
    assert_eq!((&shown[..6], &shown[6..]), (&expected[..], &["and 494 more".to_owned()][..]));
    assert_eq!(texts(&browser, "#summary .grave").len(), 2);
    // All that were read, on request.
    browser.run("summary.lastChild.click()");
    assert_eq!(texts(&browser, "#summary > *").len(), 500);
    // Names stay legible, and both headers stay in view when the matrix scrolls.
    let seen = "main.scrollTo(2000, 2000);
        const inside = (one) => { const a = one.getBoundingClientRect(), b = main.getBoundingClientRect();
            return a.bottom > b.top && a.top < b.bottom && a.right > b.left && a.left < b.right; };
        return [places[150].head, heads[160]].map((one) => [inside(one), parseFloat(getComputedStyle(one).fontSize)])";
    assert_eq!(browser.run(seen), json!([[true, 11], [true, 11]]));
}

#[test]
fn a_malformed_matrix_is_reported_and_the_last_one_stays() {
    let Some((agent, browser)) = shown(&matrix(&names(3), |_, _| None)) else { return };
    assert_eq!(browser.run("return stale.hidden"), true);
    let bad = [
        (200, r#"{"version": 2, "nodes": [], "rows": []}"#, "version"),
        (200, r#"{"version": 1}"#, "version"),
        (200, "nonsense", "JSON"),
        (200, "null", "version"),
        (503, "busy", "503"),
    ];
    for (code, body, problem) in bad {
        agent.serve_text("api/v1/cluster", code, body);
        browser.press(&["r"]);
        browser
            .wait_for(SOON, &format!("!stale.hidden && stale.textContent.includes('{problem}')"));
        assert!(
            text(&browser, "#stale").starts_with("Stale since "),
            "{}",
            text(&browser, "#stale")
        );
        assert_eq!(texts(&browser, "[role=gridcell]").len(), 9);
    }
    // Missing rows and cells are gaps.
    let gaps = json!({"version": 1, "node": "a", "nodes": ["a", "b"], "rows": [{"cells": null}]});
    agent.serve("api/v1/cluster", &gaps);
    browser.press(&["r"]);
    browser.wait_for(SOON, "stale.hidden");
    assert_eq!(text(&browser, "#summary"), "This agent sends no findings: 0 of 0 pairs are up");
    agent.serve("api/v1/cluster", &matrix(&[], |_, _| None));
    browser.press(&["r"]);
    browser.wait_for(SOON, "!none.hidden");
}

#[test]
fn findings_are_shown_word_for_word_and_mark_their_pairs() {
    let mut ill = matrix(&names(5), |_, _| None);
    let sentences = ["of the agent, → word for word", "another"];
    ill["findings"] = json!([{"grave": true, "text": sentences[0], "pairs": [[1, 4], [4, 1]]},
        {"grave": false, "text": sentences[1], "pairs": []}]);
    let Some((_agent, browser)) = shown(&ill) else { return };
    assert_eq!(texts(&browser, "#summary button"), sentences);
    assert_eq!(
        browser.run("return [summary.dataset.bad, document.title]"),
        json!(["down", "2 findings · Wylis"])
    );
    // The pairs of a finding are marked while it has the focus or the pointer.
    let marked = || {
        let labels =
            "return [...grid.querySelectorAll('.hit')].map((one) => one.ariaLabel.split(':')[0])";
        browser.run(labels)
    };
    assert_eq!(marked(), json!([]));
    browser.run("summary.firstChild.focus()");
    assert_eq!(marked(), json!(["n2 → n5", "n5 → n2"]));
    browser.press(&["r"]);
    browser.run("render()");
    assert_eq!(marked(), json!(["n2 → n5", "n5 → n2"]), "after a refresh too");
    browser.run("summary.lastChild.focus()");
    assert_eq!(marked(), json!([]));
}

#[test]
fn what_experiments_found_is_shown_with_its_pair() {
    let cell = |fields: Value| {
        let mut cell = json!({"reason": "connect_timeout", "latency_seconds": 0.002, "at": AT});
        cell.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
        Some(cell)
    };
    let ill = matrix(&names(4), |source, target| match (source, target) {
        (0, 1) => cell(json!({"verdict": "down", "host": "answers"})),
        (0, 2) => cell(json!({"verdict": "down", "incoming": "nothing", "host": "silent"})),
        (0, 3) => cell(json!({"verdict": "flaky", "failures": 5, "dead_flows": 1, "flows": 4})),
        (1, 0) => Some(json!({"verdict": "mtu", "direction": "outgoing", "mtu_bytes": 1337})),
        (1, 2) => Some(
            json!({"verdict": "mtu", "direction": "incoming", "mtu_bytes": 524, "mtu_at_least": true}),
        ),
        (2, 3) => Some(json!({"verdict": "up", "latency_seconds": 0.002, "surveyed": true})),
        (3, 2) => Some(json!({"verdict": "lossy", "surveyed": true})),
        _ => None,
    });
    let Some((agent, browser)) = shown(&ill) else { return };
    let label = |place: &str| {
        let script = format!("return grid.querySelector(\"[aria-label^='{place}']\").ariaLabel");
        browser.run(&script).as_str().unwrap().to_owned()
    };
    for (pair, words) in [
        (
            "n1 → n2:",
            "down, connect_timeout, not known whether its requests arrive, its host answers, 2.0 ms",
        ),
        ("n1 → n3:", "down, connect_timeout, nothing arrives from it, its host is silent, 2.0 ms"),
        (
            "n1 → n4:",
            "flaky, connect_timeout, 1 of 4 flows never gets through, 2.0 ms, 5 of the last 20 failed",
        ),
        ("n2 → n1:", "mtu, large packets to it are lost, up to 1,337 bytes pass"),
        ("n2 → n3:", "mtu, large packets from it are lost, at least 524 bytes pass"),
        ("n3 → n4:", "surveyed, was up, 2.0 ms"),
        ("n4 → n3:", "surveyed, was lossy"),
    ] {
        assert_eq!(label(pair), format!("{pair} {words}"));
    }
    let legend = text(&browser, "#legend");
    assert!(legend.contains("surveyed 2") && legend.contains("mtu 2"), "{legend}");
    assert!(!legend.contains("lossy"), "{legend}");
    assert!(
        text(&browser, "#figures").contains("5 of 12 pairs up"),
        "{}",
        text(&browser, "#figures")
    );
    // The pair has all that is known, with its age.
    let peer = json!({"node": "n1", "verdict": "mtu", "direction": "outgoing", "address": "10.0.0.1:9050",
        "recent": [], "mtu": {"outgoing": {"bytes": 1337, "exact": true, "at": AT - 30.0},
            "incoming": {"bytes": 1400, "exact": false, "at": AT - 40.0}},
        "host": {"state": "answers", "address": "192.168.0.1:9050", "at": AT - 50.0},
        "flows": {"dead": 2, "tried": 16, "at": AT - 60.0}});
    let pair = json!({"version": 1, "source": "n2", "target": "n1", "at": AT, "peer": peer});
    agent.serve("api/v1/cluster/n2/n1", &pair);
    browser.click(&browser.find("[role=gridcell][aria-label^='n2 → n1']"));
    browser.wait_for(SOON, "document.querySelector('dialog dl')");
    let dialog = text(&browser, "#way0");
    for part in [
        "≤ mtuup to 1,337 bytes pass",
        "Largest packetup to 1,337 bytes to it, 30 s ago, at least 1,400 bytes from it, 40 s ago",
        "Hostanswers at 192.168.0.1:9050, 50 s ago",
        "Flows2 of 16 flows never get through, 60 s ago",
    ] {
        assert!(dialog.contains(part), "{part} in {dialog}");
    }
    assert!(browser.console().iter().all(|line| line.contains("404")));
}

#[test]
fn rows_and_columns_are_sorted_filtered_and_navigable_by_keys() {
    // All others find n10 down, n3 → n4 is slow, and n2 → n5 is broken in one direction.
    let odd = |source, target| match (source, target) {
        (_, 9) => Some(down()),
        (2, 3) => Some(json!({"verdict": "up", "latency_seconds": 0.4, "at": AT})),
        (1, 4) => Some(
            json!({"verdict": "down", "reason": "connect_timeout", "incoming": "syns", "at": AT}),
        ),
        (4, 1) => Some(down()),
        _ => None,
    };
    let Some((_agent, browser)) = shown(&matrix(&names(12), odd)) else { return };
    let (rows, columns) = ("[role=rowheader]", "[role=columnheader] + [role=columnheader]");
    assert_eq!(texts(&browser, rows), names(12));
    let choose = |id: &str, value: &str| {
        let script = "const one = document.getElementById(arguments[0]);
            if (one.type === 'checkbox') one.checked = arguments[1] === 'yes'; else one.value = arguments[1];
            one.dispatchEvent(new Event('input', { bubbles: true }))";
        browser.run_with(script, &json!([id, value]));
    };
    choose("sort", "worst");
    assert_eq!(texts(&browser, columns)[..3], ["n10", "n2", "n5"]);
    choose("sort", "slow");
    choose("sort", "name");
    choose("rows", "n1 n2");
    assert_eq!(texts(&browser, rows), ["n1", "n2", "n10", "n11", "n12"]);
    assert_eq!(texts(&browser, columns), names(12));
    choose("faulty", "yes");
    assert_eq!(texts(&browser, rows), ["n1", "n2", "n11", "n12"]);
    assert_eq!(texts(&browser, columns), ["n5", "n10"]);
    choose("rows", "nothing");
    assert!(browser.run("return grid.hidden && !none.hidden").as_bool().unwrap());
    choose("rows", "");
    choose("faulty", "no");
    // Into the matrix by Tab, then by arrow keys.
    browser.run("faulty.focus()");
    browser.press(&[key::TAB]);
    assert_eq!(focused(&browser), "\"n1 → n2: up, 2.0 ms\"");
    browser.press(&[key::DOWN, key::DOWN, key::RIGHT, key::RIGHT]);
    assert_eq!(focused(&browser), "\"n3 → n4: up, 400 ms\"");
    assert!(text(&browser, "#status").starts_with("n3 → n4: up, 400 ms, probed "));
    assert_eq!(texts(&browser, "#grid .on"), ["n4", "n3"]);
    for (keys, place) in [
        (key::END, "n3 → n12"),
        (key::HOME, "n3 → n1"),
        (key::LEFT, "n3 → n1"),
        (key::UP, "n2 → n1"),
    ] {
        browser.press(&[keys]);
        assert!(focused(&browser).contains(place), "{place}, not {}", focused(&browser));
    }
    // The focus stays on its pair when the order changes.
    choose("sort", "worst");
    assert!(focused(&browser).contains("n2 → n1:"));
    assert_eq!(browser.run("return document.querySelectorAll('#grid [tabindex]').length"), 1);
    assert!(browser.console().is_empty());
}

#[test]
fn requests_are_sequential_and_a_slow_one_is_shown() {
    let Some((agent, browser)) = shown(&matrix(&names(3), |_, _| None)) else { return };
    agent.delay(Duration::from_secs(2));
    let before = agent.requests();
    browser.press(&["r"]);
    browser.wait_for(SOON, "busy.textContent.startsWith('loading for')");
    // Several reloads during a request cause one more request.
    browser.press(&["r", "r", "r"]);
    browser.click(&browser.find("[aria-label^='n1 → n2']"));
    agent.delay(Duration::ZERO);
    browser.wait_for(SOON, "document.querySelectorAll('dialog .foot').length === 2 && dialog.textContent.includes('HTTP 404')");
    wait_until(SOON, "all documents are read", || agent.requests() >= before + 4);
    assert_eq!(agent.max_concurrent(), 1);
}

#[test]
fn it_refreshes_every_ten_seconds_while_visible() {
    let Some((agent, browser)) = shown(&matrix(&names(3), |_, _| None)) else { return };
    // Advances the browser's clock.
    let pass = |seconds: u32| {
        browser.run("window.passed = false; setTimeout(() => { window.passed = true; }, 60000)");
        let time = json!({"policy": "pauseIfNetworkFetchesPending", "budget": seconds * 1000});
        browser.devtools("Emulation.setVirtualTimePolicy", &time);
        browser.wait_for(SOON, "window.passed");
    };
    let look = |hidden: bool| {
        let script = "Object.defineProperty(document, 'hidden', { value: arguments[0], configurable: true });
            document.dispatchEvent(new Event('visibilitychange'))";
        browser.run_with(script, &json!([hidden]));
    };
    let count = |seconds| {
        let before = agent.requests();
        pass(seconds);
        agent.requests() - before
    };
    let seen = count(61);
    assert!((5..=7).contains(&seen), "{seen} in a minute");
    look(true);
    assert_eq!(count(61), 0);
    look(false);
    wait_until(SOON, "it refreshes at once", || agent.requests() > 0);
    // Retries back off: after 10, 20, 40 and 60 s.
    agent.serve_text("api/v1/cluster", 503, "");
    let failing = count(61);
    assert!((2..=4).contains(&failing), "{failing} in a minute");
}

#[test]
fn the_survey_of_a_pair_is_shown_with_its_age() {
    const IMAGE: &str = "<img src=x onerror=\"document.title='taken'\">";
    let Some((agent, browser)) = shown(&matrix(&names(3), |_, _| None)) else { return };
    let peer = |survey: Value| {
        let peer = json!({"node": "n2", "verdict": "up", "address": "10.0.0.2:9050", "recent": [], "survey": survey});
        json!({"version": 1, "source": "n1", "target": "n2", "at": AT, "peer": peer})
    };
    let cold = "cold after 31 s (3 of 3: first SYN lost, +1.0 s)";
    let (outgoing, incoming) = (
        json!({"result": "cold", "text": cold}),
        json!({"result": "warm", "text": "warm at 300 s"}),
    );
    let survey = json!({"at": AT - 600.0, "outgoing": outgoing, "incoming": incoming});
    agent.serve("api/v1/cluster/n1/n2", &peer(survey));
    browser.click(&browser.find("[role=gridcell][aria-label^='n1 → n2']"));
    browser.wait_for(SOON, "document.querySelector('dialog dl')");
    let dialog = text(&browser, "#way0");
    for part in [
        "Survey therecold after 31 s (3 of 3: first SYN lost, +1.0 s), 10 min ago",
        "Survey backwarm at 300 s, maybe by other traffic, 10 min ago",
    ] {
        assert!(dialog.contains(part), "{part} in {dialog}");
    }
    // From a hostile agent, and from one that has made no survey.
    let hostile = json!({"at": IMAGE, "outgoing": {"result": IMAGE, "text": IMAGE}, "incoming": {"text": [IMAGE]}});
    agent.serve("api/v1/cluster/n1/n2", &peer(hostile));
    browser.run("reload()");
    browser.wait_for(SOON, "way0.textContent.includes('Survey there<img')");
    assert!(!text(&browser, "#way0").contains("Survey back"));
    assert_eq!(browser.run("return document.images.length"), 0);
    agent.serve("api/v1/cluster/n1/n2", &peer(Value::Null));
    browser.run("reload()");
    browser.wait_for(SOON, "way0.querySelector('dl') && !way0.textContent.includes('Survey')");
}
