//! The page of real agents: faults of pairs, and of the agent that serves it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use wylis_harness::browser::{Browser, key};
use wylis_harness::mesh::Mesh;
use wylis_harness::wait_until;

use super::binary;
use super::pods::Pods;

const SOON: Duration = Duration::from_secs(90);
/// An agent looks for half-open connections at least once a minute, on a busy machine no more often.
const SYNS_ONLY: Duration = Duration::from_secs(120);

fn cell(pair: &str) -> String {
    format!("[role=gridcell][aria-label^='{pair}:']")
}

/// A cell's text, colour and accessible name.
fn look(browser: &Browser, pair: &str) -> (String, String, String) {
    let script = "const one = document.querySelector(arguments[0]);
        return [one.textContent, getComputedStyle(one).backgroundColor]";
    let seen = browser.run_with(script, &json!([cell(pair)]));
    let element = browser.find(&cell(pair));
    assert_eq!(browser.role(&element), "gridcell");
    let [text, colour] = [&seen[0], &seen[1]].map(|value| value.as_str().unwrap().to_owned());
    (text, colour, browser.label(&element))
}

fn text(browser: &Browser, selector: &str) -> String {
    let script = "return document.querySelector(arguments[0]).textContent";
    browser.run_with(script, &json!([selector])).as_str().unwrap_or_default().to_owned()
}

/// The console is empty, and every request went to the agent.
fn assert_quiet(browser: &Browser, url: &str) {
    assert_eq!(browser.console(), Vec::<String>::new());
    let asked = browser.requests();
    assert!(asked.len() >= 2, "{asked:?}");
    for one in asked {
        assert!(one.starts_with(url) || one.starts_with("data:"), "{one}");
    }
}

#[test]
fn six_nodes_with_a_dead_and_a_lossy_pair() {
    let Some(pods) = Pods::start(&[(None, &["n1", "n2", "n3", "n4", "n5", "n6"])]) else { return };
    // No packet of n2 arrives at n5; those of n5 arrive.
    pods.cut("n2", "n5");
    pods.lose("n3", "n4");
    pods.mesh.wait_for_verdict("n2", "n5", "down");
    pods.mesh.wait_for_verdict("n5", "n2", "down");
    pods.mesh.wait_for_verdict("n3", "n4", "lossy");
    wait_until(SYNS_ONLY, "n2 gets SYNs of n5 only", || {
        pods.mesh.agent("n2").peer("n5")["incoming"] == "syns"
    });
    // The verdict may rest on two probes; the plot needs more.
    wait_until(SOON, "n5 has probed n2 some times", || {
        pods.mesh.agent("n5").peer("n2")["recent"].as_array().is_some_and(|recent| recent.len() > 3)
    });
    let Some(browser) = Browser::start_in(&pods.router) else { return };
    let url = pods.url("n1");
    browser.go(&url);
    browser.wait_for(SOON, "summary.dataset.bad === 'down'");
    summary_and_cells_are_right(&browser);
    details_open_by_mouse_and_by_keys(&browser);
    a_refresh_moves_nothing(&browser);
    both_colour_schemes_have_contrast(&browser);
    assert_quiet(&browser, &url);
}

fn summary_and_cells_are_right(browser: &Browser) {
    // The agent's sentences, word for word.
    let seen = browser.run("return [[...summary.children].map((one) => one.textContent), now.m.doc.findings.map((one) => one.text)]");
    let [shown, given]: [Vec<String>; 2] = serde_json::from_value(seen).unwrap();
    let few = given.len().min(6);
    assert!(few > 1 && shown[..few] == given[..few], "{shown:?}, not {given:?}");
    assert!(given.iter().any(|text| text.contains("n2") && text.contains("n5")), "{given:?}");
    assert!(given.iter().any(|text| text.contains("lossy")), "{given:?}");
    assert!(text(browser, "#figures").starts_with("6 nodes · "));
    let (up, up_colour, label) = look(browser, "n1 → n6");
    assert!(up.parse::<f64>().is_ok(), "{up}");
    assert!(label.starts_with("n1 → n6: up, ") && label.ends_with(" ms"), "{label}");
    let (dead, dead_colour, label) = look(browser, "n5 → n2");
    assert_eq!(dead, "×");
    assert!(label.starts_with("n5 → n2: down, connect_timeout, "), "{label}");
    assert!(!label.contains("SYNs"), "{label}");
    let (_, _, label) = look(browser, "n2 → n5");
    assert!(
        label.starts_with("n2 → n5: down, connect_timeout, its SYNs arrive and lead to nothing"),
        "{label}"
    );
    let (lossy, lossy_colour, label) = look(browser, "n3 → n4");
    assert!(lossy.starts_with('~') && lossy.len() > 1, "{lossy}");
    assert!(
        label.starts_with("n3 → n4: lossy, ") && label.ends_with(" with retransmits"),
        "{label}"
    );
    assert!(up_colour != dead_colour && dead_colour != lossy_colour && lossy_colour != up_colour);
    assert_eq!(browser.role(&browser.find("#grid")), "grid");
    assert_eq!(browser.role(&browser.find("#summary")), "status");
    let heads = browser.run("return document.querySelectorAll('[role=columnheader]').length");
    assert_eq!(heads, 7);
}

/// The pair that the focus is on, in quotes.
fn focused(browser: &Browser) -> Value {
    browser.run("return document.activeElement.ariaLabel?.split(':')[0] ?? ''")
}

fn details_open_by_mouse_and_by_keys(browser: &Browser) {
    browser.click(&browser.find(&cell("n5 → n2")));
    browser.wait_for(SOON, "document.querySelectorAll('dialog[open] dl').length === 2");
    let (here, there) = (text(browser, "#way0"), text(browser, "#way1"));
    assert!(here.starts_with("n5 → n2× downconnect_timeout"), "{here}");
    assert!(there.starts_with("n2 → n5× downconnect_timeout"), "{there}");
    assert!(
        here.contains("Last failureconnect_timeout in connect, ")
            && here.contains("Path MTU1500 bytes"),
        "{here}"
    );
    assert!(
        there.contains("Reverse pathits SYNs arrive") && !here.contains("SYNs arrive"),
        "{there}"
    );
    // Each probe has a bar, and each failed one a cross.
    let drawn = "const probes = [...document.querySelectorAll('#way0 svg g')];
        return probes.length > 3 && probes.at(-1).classList.contains('lost') && probes.at(-1).querySelector('text').textContent === '×'";
    assert_eq!(browser.run(drawn), true);
    browser.press(&[key::ESCAPE]);
    browser.wait_for(SOON, "!pair.open");
    assert_eq!(focused(browser), "n5 → n2");
    browser.press(&[key::UP, key::UP, key::RIGHT, key::RIGHT]);
    assert_eq!(focused(browser), "n3 → n4");
    browser.press(&[key::ENTER]);
    browser.wait_for(SOON, "pair.open && document.querySelectorAll('dialog dl').length === 2");
    let here = text(browser, "#way0");
    assert!(here.starts_with("n3 → n4~ lossy") && here.contains(" per probe, "), "{here}");
    assert!(here.contains("Large ") && here.contains(" succeeded, 0 failed, last "), "{here}");
    // The focus is on the close button.
    browser.press(&[key::ENTER]);
    browser.wait_for(SOON, "!pair.open");
    assert_eq!(focused(browser), "n3 → n4");
}

fn a_refresh_moves_nothing(browser: &Browser) {
    let cell = cell("n3 → n4");
    browser.press(&[key::ENTER]);
    browser.wait_for(SOON, "document.querySelectorAll('dialog[open] dl').length === 2");
    let script = "window.same = document.querySelector(arguments[0]); window.before = [now, way0.querySelector('dl')]";
    browser.run_with(script, &json!([cell]));
    browser.press(&["r"]);
    browser.wait_for(SOON, "now !== before[0] && way0.querySelector('dl') !== before[1]");
    assert_eq!(browser.run("return pair.open && document.activeElement.id"), "close");
    browser.press(&[key::ESCAPE]);
    browser.run("window.before = now");
    browser.press(&["r"]);
    browser.wait_for(SOON, "now !== before");
    assert_eq!(browser.run_with("return document.activeElement === same && document.querySelector(arguments[0]) === same", &json!([cell])), true);
}

fn both_colour_schemes_have_contrast(browser: &Browser) {
    // The contrast of two colours (WCAG 2, 1.4.3), painted to get their RGB values.
    let contrast = "const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const light = (colour) => {
            context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((one) => one / 255)
                .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; };
        const of = (kind) => { const one = element('i'); one.className = kind; legend.append(one);
            const { color, backgroundColor } = getComputedStyle(one), pair = [light(color), light(backgroundColor)];
            one.remove(); return Math.max(...pair) / Math.min(...pair); };
        return [light(getComputedStyle(document.documentElement).backgroundColor),
            ...['down', 'warn', 'up d0', 'up d1', 'up d2', 'up d3', 'up d4', 'up d5', 'up d6', 'up d7', 'up d8'].map(of)]";
    let mut papers = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", scheme);
        let seen: Vec<f64> = serde_json::from_value(browser.run(contrast)).unwrap();
        papers.push(seen[0]);
        for (number, contrast) in seen[1..].iter().enumerate() {
            // A large bold mark needs 3, a number 4.5.
            let least = if number < 2 { 3.0 } else { 4.5 };
            assert!(*contrast >= least, "{scheme}, colour {number}: {contrast}");
        }
    }
    assert!(papers[0] > 5.0 * papers[1], "{papers:?}");
}

const FAST: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1s"),
    ("WYLIS_TIMEOUT", "2s"),
    ("WYLIS_DRAIN", "1s"),
    ("WYLIS_REFRESH_INTERVAL", "2s"),
];

#[test]
fn a_frozen_peer_delays_the_page_by_no_more_than_the_deadline() {
    let mesh = Mesh::of(4, &binary(), FAST);
    let Some(browser) = Browser::start() else { return };
    mesh.agent("n3").signal(libc::SIGSTOP);
    let url = format!("http://{}/", mesh.agent("n1").address);
    browser.go(&url);
    browser.wait_for(SOON, "now");
    let taken = "const [entry] = performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/api/v1/cluster'));
        return [entry.duration / 1000, now.m.doc.deadline_seconds]";
    let taken = browser.run(taken);
    let [taken, deadline] = [&taken[0], &taken[1]].map(|one| one.as_f64().unwrap());
    println!("page: with a frozen peer the matrix took {taken:.2} s");
    assert!(deadline <= 2.0 && taken <= deadline + 1.0, "{taken} s of {deadline} s");
    // The other rows are there.
    assert!(
        text(&browser, "#summary").contains("no row from n3 (response_timeout)"),
        "{}",
        text(&browser, "#summary")
    );
    assert!(look(&browser, "n3 → n2").2.starts_with("n3 → n2: no row, response_timeout"));
    assert!(look(&browser, "n2 → n4").2.starts_with("n2 → n4: up, "));
    assert_quiet(&browser, &url);
}

#[test]
fn without_its_agent_the_page_shows_since_when_it_is_stale() {
    let mut mesh = Mesh::of(3, &binary(), FAST);
    let Some(browser) = Browser::start() else { return };
    browser.go(&format!("http://{}/", mesh.agent("n1").address));
    browser.wait_for(SOON, "now && stale.hidden");
    let pod = mesh.kill("n1");
    browser.press(&["r"]);
    browser.wait_for(SOON, "!stale.hidden && document.body.classList.contains('stale')");
    assert!(text(&browser, "#stale").starts_with("Stale since "));
    browser.wait_for(SOON, "busy.textContent.startsWith('retry in ')");
    assert!(look(&browser, "n2 → n3").2.starts_with("n2 → n3: up, "));
    mesh.restart_in_place("n1", &pod);
    mesh.wait_for_all_pairs();
    browser.press(&["r"]);
    browser.wait_for(SOON, "stale.hidden && !document.body.classList.contains('stale')");
}

#[test]
fn a_fault_that_is_over_is_in_the_last_day() {
    // The fault begins and is reported in one bin, not in its last seconds.
    let into_the_bin = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 300;
    wait_until(SOON, "a bin with time for the fault", || into_the_bin() < 240);
    let mut mesh = Mesh::of(3, &binary(), FAST);
    let Some(browser) = Browser::start() else { return };
    let pod = mesh.kill("n3");
    mesh.wait_for_verdict("n1", "n3", "down");
    mesh.wait_for_verdict("n2", "n3", "down");
    let url = format!("http://{}/", mesh.agent("n1").address);
    browser.go(&url);
    browser.wait_for(SOON, "document.querySelector('#day .grave')?.textContent.includes('n3')");
    let before = text(&browser, "#summary button");
    mesh.restart_in_place("n3", &pod);
    mesh.wait_for_all_pairs();
    browser.press(&["r"]);
    browser.wait_for(SOON, "summary.textContent === 'No findings: 6 of 6 pairs are up'");
    browser.click(&browser.find("#day .grave"));
    browser.wait_for(SOON, "past !== null && now.past === past");
    assert!(text(&browser, "#moment").starts_with("As of "), "{}", text(&browser, "#moment"));
    // The sentence is the one of then.
    let sentence = |text: &str| text.split(" (").next().unwrap_or_default().to_owned();
    assert_eq!(sentence(&text(&browser, "#summary button")), sentence(&before));
    let (dead, _, label) = look(&browser, "n1 → n3");
    assert_eq!(dead, "×");
    assert!(label.starts_with("n1 → n3: down, "), "{label}");
    assert!(look(&browser, "n1 → n2").2.starts_with("n1 → n2: up, "));
    // The pair's own strip has the fault too.
    browser.click(&browser.find(&cell("n1 → n3")));
    browser.wait_for(SOON, "way0.querySelector('.strip:not([hidden]) .down')");
    let said = text(&browser, "#way0 > p");
    assert!(said.contains(": down (") && said.contains(" failed, "), "{said}");
    browser.press(&[key::ESCAPE]);
    browser.wait_for(SOON, "!pair.open");
    browser.press(&[key::ESCAPE]);
    browser.wait_for(
        SOON,
        "past === null && summary.textContent === 'No findings: 6 of 6 pairs are up'",
    );
    assert_quiet(&browser, &url);
}
