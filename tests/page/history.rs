//! The last day on the page: its strip, its lines, and the matrix of any moment.

use std::time::Duration;

use serde_json::{Value, json};
use wylis_harness::browser::{Browser, key};
use wylis_harness::wait_until;

use super::night::{self, DAY, asked, begin, day, finding, past};
use super::stand_in::{AT, StandIn, down, matrix, names};

/// Far above what the page needs, even on a busy machine.
const SOON: Duration = Duration::from_secs(90);
const LIVE: &str = "No findings: 12 of 12 pairs are up";

/// A browser in Berlin that shows four nodes and this day. All bins before the open one can be asked for:
/// n1 → n2 is down in them.
fn shown(day: &Value) -> Option<(StandIn, Browser)> {
    let browser = Browser::start()?;
    let nodes = names(4);
    let mut live = matrix(&nodes, |_, _| None);
    live["findings"] = json!([]);
    let agent = StandIn::start(&live);
    agent.serve(DAY, day);
    for bin in 0..287 {
        let cell = |source, target| (source == 0 && target == 1).then(down);
        agent.serve(&night::path(bin), &past(&nodes, bin, &format!("finding of {bin}"), cell));
    }
    browser.devtools("Emulation.setTimezoneOverride", &json!({"timezoneId": "Europe/Berlin"}));
    browser.go(&agent.url());
    browser.wait_for(SOON, "day && document.querySelector('[role=gridcell]')");
    agent.asked();
    Some((agent, browser))
}

/// Two faults, a gap, and a time that occurred twice.
fn night() -> Value {
    let findings = json!([
        finding(20..22, false, "n3 → n4: lossy"),
        finding(100..104, true, "n2 is down"),
        finding(100..104, false, "n1 → n3: flaky"),
        finding(200..201, false, "n4 → n3: lossy"),
        finding(287..288, true, "<b>n1 → n2: down"),
    ]);
    let odd = [
        (20..22, Some([0, 0, 0, 1, 0, 0])),
        (50..56, None),
        (100..104, Some([6, 0, 1, 0, 0, 0])),
        (104..105, Some([0, 2, 0, 0, 0, 0])),
        (150..151, Some([0, 0, 0, 1, 0, 0])),
        (151..152, Some([1, 0, 0, 0, 0, 0])),
        (152..153, Some([0, 0, 0, 1, 0, 0])),
        (153..154, Some([1, 0, 0, 0, 0, 0])),
        (154..160, Some([0, 0, 0, 1, 0, 0])),
        (110..111, Some([0, 0, 0, 0, 0, 1])),
        (287..288, Some([1, 0, 0, 0, 0, 0])),
    ];
    day(12, &odd, &findings)
}

fn text(browser: &Browser, selector: &str) -> String {
    let script = "return document.querySelector(arguments[0]).textContent";
    browser.run_with(script, &json!([selector])).as_str().unwrap_or_default().to_owned()
}

fn lines(browser: &Browser) -> Vec<String> {
    let lines = browser
        .run("return [...document.querySelectorAll('#day > *')].map((one) => one.textContent)");
    serde_json::from_value(lines).unwrap()
}

/// The accessible text of a strip's place.
fn place(browser: &Browser, selector: &str) -> String {
    let script = "return document.querySelector(arguments[0]).getAttribute('aria-valuetext')";
    browser.run_with(script, &json!([selector])).as_str().unwrap_or_default().to_owned()
}

fn wait_for_bin(browser: &Browser, bin: u64) {
    browser.wait_for(
        SOON,
        &format!(
            "now.past === {0} && past === {0} && summary.textContent === 'finding of {bin}'",
            begin(bin)
        ),
    );
}

fn wait_for_now(browser: &Browser) {
    browser.wait_for(SOON, &format!("$('when').hidden && summary.textContent === '{LIVE}'"));
}

/// An event of the mouse over a bin of a strip.
fn mouse(browser: &Browser, selector: &str, bin: u64, event: &str) {
    let script = "const { left, top, width, height } = document.querySelector(arguments[0]).getBoundingClientRect();
        return [left + width * (arguments[1] + 0.5) / 288, top + height / 2]";
    let at = browser.run_with(script, &json!([selector, bin]));
    let buttons = if event == "mouseReleased" { 0 } else { 1 };
    let mouse = json!({"type": event, "x": at[0], "y": at[1], "button": "left", "buttons": buttons, "clickCount": 1});
    browser.devtools("Input.dispatchMouseEvent", &mouse);
}

fn click(browser: &Browser, selector: &str, bin: u64) {
    mouse(browser, selector, bin, "mousePressed");
    mouse(browser, selector, bin, "mouseReleased");
}

fn shift(browser: &Browser, name: &str, code: u32) {
    for event in ["keyDown", "keyUp"] {
        let key =
            json!({"type": event, "key": name, "windowsVirtualKeyCode": code, "modifiers": 8});
        browser.devtools("Input.dispatchKeyEvent", &key);
    }
}

#[test]
fn the_last_day_is_drawn_and_told() {
    let Some((agent, browser)) = shown(&night()) else { return };
    // Class, mark and height of the bins.
    let bins = "return [0, 20, 21, 50, 100, 101, 104, 110, 287].map((k) => $('strip').children[k])
        .map((bar) => [bar.className, bar.textContent, Math.round(parseFloat(bar.style.getPropertyValue('--end0')))])";
    let expected = json!([
        ["fine", "", 4],
        ["warn", "~", 14],
        ["warn", "", 14],
        ["gap", "", 0],
        ["down", "×", 66],
        ["down", "", 66],
        ["warn", "", 32],
        ["fine", "", 4],
        ["down", "×", 14]
    ]);
    assert_eq!(browser.run(bins), expected);
    // Marks leave each other room: of two that have none, that of down stays.
    let marks = "return [...$('strip').children].flatMap((bar, k) => bar.textContent ? [k + bar.textContent] : [])";
    assert_eq!(browser.run(marks), json!(["20~", "100×", "151×", "156~", "287×"]));
    let words = "return [0, 50, 100, 110].map((k) => $('strip').children[k].title)";
    let expected = [
        "Sun 16:15 to 16:20 (14:15 to 14:20 UTC): no fault of 12 pairs",
        "Sun 20:25 to 20:30 (18:25 to 18:30 UTC): not remembered",
        "Mon 00:35 to 00:40 (22:35 to 22:40 UTC): 6 down, 1 flaky of 12 pairs",
        "Mon 01:25 to 01:30 (23:25 to 23:30 UTC): no fault of 12 pairs; the clock was set back, the later one is shown",
    ];
    assert_eq!(browser.run(words), json!(expected));
    let hours = "return [...$('strip').children].map((bar) => bar.dataset.hour).filter(Boolean)";
    assert_eq!(browser.run(hours), json!(["18:00", "00:00", "06:00", "12:00"]));
    let newest = [
        "since Mon 16:10 (14:10 UTC): <b>n1 → n2: down",
        "Mon 08:55 to 09:00 (06:55 to 07:00 UTC): n4 → n3: lossy",
        "Mon 00:35 to 00:55 (22:35 to 22:55 UTC): n2 is down",
    ];
    let since = "remembered since Sun 16:15 (14:15 UTC)";
    assert_eq!(lines(&browser), [&newest[..], &["and 2 earlier", since]].concat());
    browser.click(&browser.find("#day button:last-of-type"));
    let older = [
        "Mon 00:35 to 00:55 (22:35 to 22:55 UTC): n1 → n3: flaky",
        "Sun 17:55 to 18:05 (15:55 to 16:05 UTC): n3 → n4: lossy",
    ];
    assert_eq!(lines(&browser), [&newest[..], &older, &[since]].concat());
    // A reader goes on where the new lines begin.
    assert_eq!(browser.run("return document.activeElement.textContent"), older[0]);
    let grave = browser.run("return [...$('day').querySelectorAll('.grave')].length");
    assert_eq!(grave, 2);
    // A line leads to its moment.
    browser.click(&browser.find("#day button:nth-child(4)"));
    wait_for_bin(&browser, 100);
    assert_eq!(agent.asked(), [asked(100)]);
    let strip = browser.find("#strip");
    assert_eq!(
        (browser.role(&strip), browser.label(&strip)),
        ("slider".into(), "The last day".into())
    );
    assert!(browser.console().is_empty());
}

#[test]
fn keys_and_the_pointer_move_the_matrix_and_escape_leads_back() {
    let Some((agent, browser)) = shown(&night()) else { return };
    assert_eq!(
        (place(&browser, "#strip"), text(&browser, "#summary")),
        ("now".into(), LIVE.into())
    );
    click(&browser, "#strip", 100);
    wait_for_bin(&browser, 100);
    let moment = "As of Mon 00:35 to 00:40 (22:35 to 22:40 UTC)";
    assert_eq!(text(&browser, "#moment"), moment);
    assert_eq!(browser.run("return document.activeElement.id"), "strip");
    let cells = "return ['n1 → n2', 'n2 → n1'].map((pair) => grid.querySelector(`[aria-label^='${pair}:']`)).map((one) => [one.className, one.textContent, one.ariaLabel])";
    let then = json!([
        [
            "down",
            "×",
            "n1 → n2: down, connect_timeout, not known whether its requests arrive, 20 of 33 failed"
        ],
        ["up d2", "2.0", "n2 → n1: up, 2.0 ms"]
    ]);
    assert_eq!(browser.run(cells), then);
    for (key, bin) in
        [(key::RIGHT, 101), (key::RIGHT, 102), (key::LEFT, 101), (key::HOME, 0), (key::LEFT, 0)]
    {
        browser.press(&[key]);
        wait_for_bin(&browser, bin);
    }
    shift(&browser, "ArrowRight", 39);
    wait_for_bin(&browser, 12);
    browser.press(&[key::RIGHT]);
    wait_for_bin(&browser, 13);
    shift(&browser, "ArrowLeft", 37);
    wait_for_bin(&browser, 1);
    assert!(
        place(&browser, "#strip").starts_with("Sun 16:20 to 16:25 (14:20 to 14:25 UTC): no fault")
    );
    let expected = [100, 101, 102, 101, 0, 12, 13, 1].map(asked);
    assert_eq!(agent.asked(), expected);
    // Back, by each way.
    browser.press(&[key::ESCAPE]);
    wait_for_now(&browser);
    assert_eq!(place(&browser, "#strip"), "now");
    let now =
        json!([["up d2", "2.0", "n1 → n2: up, 2.0 ms"], ["up d2", "2.0", "n2 → n1: up, 2.0 ms"]]);
    assert_eq!(browser.run(cells), now);
    click(&browser, "#strip", 30);
    wait_for_bin(&browser, 30);
    browser.press(&[key::END]);
    wait_for_now(&browser);
    click(&browser, "#strip", 31);
    wait_for_bin(&browser, 31);
    browser.click(&browser.find("#back"));
    wait_for_now(&browser);
    assert_eq!(browser.run("return document.activeElement.id"), "strip");
    assert!(browser.console().is_empty());
}

#[test]
fn a_refresh_leaves_the_past_on_the_screen_and_the_strip_grows_with_each_bin() {
    let Some((agent, browser)) = shown(&night()) else { return };
    click(&browser, "#strip", 100);
    wait_for_bin(&browser, 100);
    let mut ill = matrix(&names(4), |_, _| None);
    ill["findings"] = json!([{"grave": true, "text": "news", "pairs": []}]);
    agent.serve("api/v1/cluster", &ill);
    browser.wait_for(SOON, "!seeking");
    browser.run("window.before = live; document.activeElement.blur()");
    browser.press(&["r"]);
    browser.wait_for(SOON, "live !== before && !started");
    wait_for_bin(&browser, 100);
    assert!(text(&browser, "#moment").starts_with("As of Mon 00:35"));
    browser.press(&[key::ESCAPE]);
    browser.wait_for(SOON, "summary.textContent === 'news'");
    // The open bin ends 100 s after the day was read.
    let pass = |seconds: u32| {
        let wait = "window.passed = false; setTimeout(() => { window.passed = true; }, 1000 * ";
        browser.run(&format!("{wait}{seconds})"));
        let time =
            json!({"policy": "pauseIfNetworkFetchesPending", "budget": (seconds + 1) * 1000});
        browser.devtools("Emulation.setVirtualTimePolicy", &time);
        browser.wait_for(SOON, "window.passed");
    };
    agent.asked();
    pass(60);
    assert_eq!(agent.asked(), [""; 0]);
    let mut grown = night();
    grown["at"] = json!(AT + 110.0);
    grown["times"].as_array_mut().unwrap().push(json!([begin(288), 12, 0, 0, 0, 0, 3, 0]));
    agent.serve(DAY, &grown);
    pass(60);
    assert_eq!(agent.asked(), ["day"]);
    browser.wait_for(
        SOON,
        "$('strip').lastChild.title.includes('3 mtu') && $('strip').children[99].className === 'down'",
    );
    // The page's computer slept for eight hours: only the agent's time went on.
    grown["at"] = json!(AT + 28_800.0);
    ill["at"] = grown["at"].clone();
    agent.serve(DAY, &grown);
    agent.serve("api/v1/cluster", &ill);
    browser.press(&["r"]);
    browser.wait_for(SOON, "day.at === now.m.doc.at");
    assert!(browser.console().is_empty());
}

#[test]
fn a_drag_asks_for_one_moment_at_a_time_and_the_last_one_wins() {
    let Some((agent, browser)) = shown(&night()) else { return };
    agent.delay(Duration::from_millis(300));
    mouse(&browser, "#strip", 10, "mousePressed");
    for bin in 11..60 {
        mouse(&browser, "#strip", bin, "mouseMoved");
    }
    mouse(&browser, "#strip", 60, "mouseReleased");
    // The pointer has left the strip's button behind: this moves nothing.
    browser.devtools("Input.dispatchMouseEvent", &json!({"type": "mouseMoved", "x": 5, "y": 5}));
    assert!(text(&browser, "#moment").ends_with("loading …"));
    wait_for_bin(&browser, 59);
    let seen = agent.asked();
    assert!(seen.len() < 25 && seen.last() == Some(&asked(59)), "{seen:?}");
    assert_eq!(agent.max_concurrent(), 1);
    // Esc wins over what is on its way.
    browser.wait_for(SOON, "!seeking");
    agent.delay(Duration::from_secs(2));
    click(&browser, "#strip", 70);
    wait_until(SOON, "it is asked for", || agent.asked() == [asked(70)]);
    browser.press(&[key::ESCAPE]);
    wait_for_now(&browser);
    browser.wait_for(SOON, "!seeking");
    wait_for_now(&browser);
}

#[test]
fn what_no_agent_remembers_is_said() {
    let Some((agent, browser)) = shown(&night()) else { return };
    let range = "no history of that time: it reaches from 1789913700 to 1790000000 (Unix seconds)";
    agent.serve_text(&night::path(40), 404, range);
    click(&browser, "#strip", 40);
    browser.wait_for(SOON, "problem");
    let said = text(&browser, "#moment");
    assert!(said.starts_with("Sun 19:35 to 19:40") && said.ends_with(range), "{said}");
    browser.wait_for(SOON, "!seeking && document.body.classList.contains('away')");
    assert_eq!(agent.asked(), [asked(40)]);
    // Busy: again a second later.
    agent.serve_text(&night::path(41), 503, "busy");
    browser.press(&[key::RIGHT]);
    wait_until(SOON, "it asks again", || agent.asked() == [asked(41)]);
    let mut gaps = past(&names(4), 41, "finding of 41", |_, _| None);
    gaps["rows"][2] = json!({"node": "n3", "error": "not_remembered", "cells": []});
    (gaps["rows"][1]["repeated"], gaps["rows"][3]["seconds"]) = (json!(true), json!(3600));
    agent.serve(&night::path(41), &gaps);
    wait_for_bin(&browser, 41);
    let figures = text(&browser, "#figures");
    for part in
        ["3 rows", "not remembered by n3", "the clock was set back, the later one is shown (n2)"]
    {
        assert!(figures.contains(part), "{part} in {figures}");
    }
    let labels = "return ['n3 → n1', 'n4 → n1'].map((pair) => grid.querySelector(`[aria-label^='${pair}:']`)).map((one) => [one.className, one.ariaLabel])";
    let expected = json!([
        ["gap", "n3 → n1: no row, not_remembered"],
        ["up d2", "n4 → n1: up, 2.0 ms, within 60 min"]
    ]);
    assert_eq!(browser.run(labels), expected);
    assert!(browser.run("return document.body.classList.contains('away')") == false);
    // A quiet day, of which some agents tell nothing.
    let mut quiet = day(12, &[], &json!([]));
    quiet["missing"] = json!([{"node": "n3", "error": "not_remembered"}]);
    (quiet["judged_since"], quiet["left_out"]) = (json!(begin(200)), json!(7));
    agent.serve(DAY, &quiet);
    browser.run("readDay()");
    browser.wait_for(SOON, "$('day').textContent.startsWith('No findings')");
    let expected = "No findings · remembered since Sun 16:15 (14:15 UTC) · findings since Mon 08:55 (06:55 UTC) only · 7 earlier ones left out · without n3";
    assert_eq!(lines(&browser), [expected]);
    // An agent of an earlier release, and a day that is none.
    for (code, body) in
        [(200, r#"{"at": 1e300}"#), (200, "null"), (503, "busy"), (404, "not found")]
    {
        assert_eq!(browser.run("return $('strip').hidden"), false, "before {code}");
        agent.serve_text(DAY, code, body);
        browser.run("return readDay()");
    }
    assert_eq!(
        browser.run("return [$('strip').hidden, $('day').hidden, stale.hidden]"),
        json!([true, true, true])
    );
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("404") || line.contains("503")), "{console:?}");
}

#[test]
fn a_pair_has_its_own_day() {
    let Some((agent, browser)) = shown(&night()) else { return };
    let cell = |bin| match bin {
        50 => Some(Value::Null),
        100 => Some(json!(["down (connect_timeout, its host is silent)", 30, 28, 2, 0.1, 0.3])),
        120 => Some(json!(["up", 33, 0, 3, 0.001, 0.01])),
        _ => None,
    };
    agent.serve("api/v1/history/n1/n2", &night::pair("n1", "n2", cell));
    agent.serve(
        "api/v1/history/n2/n1",
        &json!({"version": 1, "source": "n2", "target": "n1", "error": "not_remembered"}),
    );
    browser.click(&browser.find("[role=gridcell][aria-label^='n1 → n2']"));
    browser.wait_for(
        SOON,
        "way0.querySelector('.strip:not([hidden])') && way1.textContent.includes('no history')",
    );
    assert!(text(&browser, "#way1").contains("no history from n2: not_remembered"));
    let strip = "#way0 .strip";
    let bars = "return [0, 50, 100, 120].map((k) => document.querySelector('#way0 .strip').children[k]).map((bar) => [bar.className, bar.textContent, ...[0, 1, 2].map((n) => Math.round(parseFloat(bar.style.getPropertyValue(`--end${n}`))))])";
    let expected = json!([
        ["pair fine", "", 7, 14, 0],
        ["gap", "", 0, 0, 0],
        ["pair down", "×", 55, 66, 28],
        ["pair warn", "", 7, 31, 8]
    ]);
    assert_eq!(browser.run(bars), expected);
    assert_eq!(
        (browser.role(&browser.find(strip)), browser.label(&browser.find(strip))),
        ("slider".into(), "The last day of n1 → n2".into())
    );
    agent.asked();
    click(&browser, strip, 99);
    browser.press(&[key::RIGHT]);
    let said = "Mon 00:35 to 00:40 (22:35 to 22:40 UTC): down (connect_timeout, its host is silent), 30 probes, 28 failed, 2 with retransmits, median 100 ms, worst 300 ms";
    assert_eq!((place(&browser, strip), text(&browser, "#way0 > p")), (said.into(), said.into()));
    // A refresh of the pair leaves the strip and its focus alone, and the matrix stays at the present.
    browser.run("window.before = live; window.same = document.activeElement");
    browser.run("reload()");
    browser.wait_for(SOON, "live !== before && !started");
    assert_eq!(browser.run("return document.activeElement === same && past === null"), true);
    assert_eq!((place(&browser, strip), agent.asked()), (said.into(), Vec::new()));
    browser.press(&[key::ESCAPE]);
    browser.wait_for(SOON, "!pair.open");
    // In the past, the pair is shown as of then.
    click(&browser, "#strip", 100);
    wait_for_bin(&browser, 100);
    browser.click(&browser.find("[role=gridcell][aria-label^='n1 → n2']"));
    browser.wait_for(SOON, "way0.querySelector('.strip:not([hidden])')");
    let shown = text(&browser, "#way0");
    assert!(
        shown.contains("× down") && shown.contains(said) && shown.contains("As of Mon 00:35"),
        "{shown}"
    );
    browser.press(&[key::ESCAPE]);
    browser.wait_for(SOON, "!pair.open");
    wait_for_bin(&browser, 100);
    browser.press(&[key::ESCAPE]);
    wait_for_now(&browser);
    // Only the documents that are not served.
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("404")), "{console:?}");
}

#[test]
fn a_day_of_two_hundred_nodes_is_drawn_in_under_a_second() {
    let Some(browser) = Browser::start() else { return };
    for count in [100, 200] {
        let nodes: Vec<String> = (0..count)
            .map(|n| format!("ip-10-0-{}-{}.eu-central-1.compute.internal", n / 20, n % 20 + 100))
            .collect();
        let agent = StandIn::start(&matrix(&nodes, |_, _| None));
        let findings =
            (0..250).map(|n| finding(n..n + 9, n % 2 == 0, &format!("finding {n}"))).collect();
        let odd: Vec<_> = (0..280)
            .map(|bin| {
                (bin..bin + 1, Some([usize::try_from(bin).unwrap() % 3 * count, 1, 0, 7, 0, 0]))
            })
            .collect();
        agent.serve(DAY, &day(count * (count - 1), &odd, &findings));
        agent.serve(
            &night::path(100),
            &past(&nodes, 100, "finding of 100", |source, target| {
                (target == 7 && source != 8).then(down)
            }),
        );
        browser.go(&agent.url());
        browser.wait_for(SOON, "day && document.querySelector('[role=gridcell]')");
        // From the documents to the laid-out page; the best of several, since the machine may be busy.
        let draw = "const begun = performance.now(); renderDay(); $('strip').getBoundingClientRect(); return performance.now() - begun";
        let best = |script: &str| {
            (0..6).map(|_| browser.run(script).as_f64().unwrap()).fold(f64::MAX, f64::min)
        };
        let day = best(draw);
        browser.run(&format!("seek({})", begin(100)));
        wait_for_bin(&browser, 100);
        let moment = best("const { doc } = now.m, begun = performance.now(); grid.replaceChildren(); places = []; heads = [];
            const m = matrix(doc); show({ ...now, m, c: count(m) }); renderMoment(); grid.getBoundingClientRect(); return performance.now() - begun");
        println!(
            "page: a day of {count} nodes drawn in {day:.0} ms, the matrix of a moment in {moment:.0} ms"
        );
        assert!(day + moment < 1000.0, "{day} and {moment} ms");
        assert_eq!(browser.run("return $('strip').children.length"), 288);
    }
}

#[test]
fn its_words_have_contrast_in_both_colour_schemes_and_it_fits_a_phone() {
    let Some((_agent, browser)) = shown(&night()) else { return };
    browser.resize(360, 740);
    click(&browser, "#strip", 100);
    wait_for_bin(&browser, 100);
    let contrast = "const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const light = (colour) => {
            context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((one) => one / 255)
                .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; };
        const paper = (one) => { const { backgroundColor } = getComputedStyle(one); return backgroundColor === 'rgba(0, 0, 0, 0)' ? paper(one.parentElement) : backgroundColor; };
        return ['#moment', '#back', '#day .grave', '#day button:not(.grave)', '#day p', '#strip .down', '#strip .warn'].map((one) => document.querySelector(one))
            .map((one) => [light(getComputedStyle(one).color), light(paper(one))]).map((pair) => Math.max(...pair) / Math.min(...pair))";
    for scheme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", scheme);
        let seen: Vec<f64> = serde_json::from_value(browser.run(contrast)).unwrap();
        for (number, contrast) in seen.iter().enumerate() {
            assert!(*contrast >= 4.5, "{scheme}, text {number}: {contrast}");
        }
    }
    // Nothing is wider than the window, and the matrix has room.
    let fits = "return [document.documentElement.scrollWidth <= 360, main.clientHeight >= 240]";
    assert_eq!(browser.run(fits), json!([true, true]));
}
