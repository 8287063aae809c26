//! What experiments add to the sentences.

use super::{assert_says, sentences};

/// The sentences of three nodes, the last of which is well.
fn pair(there: &str, back: &str) -> Vec<String> {
    sentences(&format!("*a: - {there} .\nb: {back} - .\nc: . . -"))
}

const SET: &str = "set the MTU of the pod network to that or less";
const LOOK: &str = "look for a dead member of a bundle, a dead queue or a stale conntrack entry";

#[test]
fn the_largest_packet_of_a_pair_is_told() {
    let up_to =
        |pair: &str, bytes: &str| format!("{pair} carries packets up to {bytes} bytes; {SET}");
    let narrowest = |pair: &str, bytes: &str| {
        format!("{pair}: mtu; the narrowest known path carries packets up to {bytes} bytes; {SET}")
    };
    let at_least = "a → b carries packets of at least 524 bytes, and loses full-size ones";
    for (there, back, expected) in [
        ("mo=1337", ".", up_to("a → b", "1,337")),
        (".", "mi=1337", up_to("a → b", "1,337")),
        // Both ends tell of it, one of them more exactly.
        ("mo=1337", "mi=524+", up_to("a → b", "1,337")),
        ("mo", "mi=999", up_to("a → b", "999")),
        ("mo=1400", "mi=1337", up_to("a → b", "1,337")),
        ("mi=1200", ".", up_to("b → a", "1,200")),
        ("mo=524+", ".", at_least.to_owned()),
        ("mo", ".", "a → b: mtu".to_owned()),
        // Each way has its own.
        ("mo=1337", "mo=1337", up_to("a ↔ b", "1,337")),
        ("mb=1337", ".", up_to("a ↔ b", "1,337")),
        ("mo=1337", "mo=1200", narrowest("a ↔ b", "1,200")),
        ("mo=1337", "mo", narrowest("a ↔ b", "1,337")),
        ("mo=524+", "mo", "a ↔ b: mtu".to_owned()),
        // What another verdict leaves behind tells nothing.
        ("~=1337", ".", "a → b: lossy".to_owned()),
    ] {
        assert_eq!(pair(there, back), [expected], "{there} {back}");
    }
}

#[test]
fn the_largest_packet_of_many_pairs_is_told() {
    let link = |a: &str, b: &str| sentences(&format!("*a: - . {a}\nb: . - {b}\nc: . . -"));
    let with = "with both others, outgoing";
    assert_eq!(
        link("mi=1337", "mi=1337"),
        [format!("c's link carries packets up to 1,337 bytes {with}; {SET}")]
    );
    assert_eq!(
        link("mi=1337", "mi=1280"),
        [format!(
            "c's link: mtu {with}; the narrowest known path carries packets up to 1,280 bytes; {SET}"
        )]
    );
    assert_eq!(
        link("mi=524+", "mi=600+"),
        [format!(
            "c's link carries packets of at least 524 bytes {with}, and loses full-size ones"
        )]
    );
    assert_eq!(link("mi=524+", "mi"), [format!("c's link: mtu {with}")]);
    assert_says(
        "*a: - . mo=1337 . .
         b: . - mo=1337 . .
         c: . . - . .
         d: . . . - .
         e: . . . . -",
        &[&format!("a, b → c carry packets up to 1,337 bytes; {SET}")],
    );
}

#[test]
fn flows_that_never_get_through_are_told() {
    let flaky = |pair: &str| format!("{pair}: flaky (connect_timeout, 3 of 20)");
    let there = flaky("a → b");
    for (there, back, expected) in [
        ("%:1/4", ".", format!("{there}: 1 of 4 flows from a to b never gets through; {LOOK}")),
        ("%:2/8", ".", format!("{there}: 2 of 8 flows from a to b never get through; {LOOK}")),
        ("%:1/4", "%:1/4", format!("{}; 1 of 4 flows never gets through; {LOOK}", flaky("a ↔ b"))),
        (
            "%:1/4",
            "%:1/2",
            format!("{}; up to 1 of 2 flows never gets through; {LOOK}", flaky("a ↔ b")),
        ),
        ("%", ".", there.clone()),
    ] {
        assert_eq!(pair(there, back), [expected], "{there} {back}");
    }
    assert_says(
        "*a: - . %:1/2
         b: . - %:1/2
         c: . . -",
        &[&format!(
            "c's link: flaky (connect_timeout) with both others, in both directions; 1 of 2 flows never gets through; {LOOK}"
        )],
    );
}

#[test]
fn a_node_whose_host_answers_is_told_from_one_that_is_gone() {
    let c = |of_a: &str, of_b: &str| {
        sentences(&format!("*a: - . {of_a}\nb: . - {of_b}\nc: no connect_timeout"))
    };
    let down = "! c is down: none of 2 others reaches it (connect_timeout)";
    let alive = "! c: its host answers, its pod network does not; none of 2 others reaches it (connect_timeout)";
    let gone = format!("{down}; nothing from c or its host");
    assert_eq!(c("Xh", "Xh"), [alive]);
    // One sign of life proves life.
    assert_eq!(c("Xh", "XH"), [alive]);
    assert_eq!(c("Xh", "X"), [alive]);
    assert_eq!(c("XH", "XH"), [gone]);
    assert_eq!(c("XH", "X"), [down], "one silence may be the fault of a path");
    assert_eq!(c("X", "X"), [down]);
    // A refusal is a word of the pod, whatever its host does.
    let refused = "! c is down: none of 2 others reaches it (connect_timeout, refused)";
    assert_eq!(c("Rh", "Xh"), [refused]);
    let unreachable = alive.replace("connect_timeout", "connect_timeout, unreachable");
    assert_eq!(c("Uh", "Xh"), [unreachable]);
    // Two of them, apart.
    assert_says(
        "*a: - . . XH Xh
         b: . - . XH Xh
         c: . . - XH Xh
         d: no connect_timeout
         e: no connect_timeout",
        &[
            "! d is down: none of 3 others reaches it (connect_timeout); nothing from d or its host",
            "! e: its host answers, its pod network does not; none of 3 others reaches it (connect_timeout)",
        ],
    );
    let two = |cell: &str| {
        let row = |name: &str, own: &str| format!("{name}: {own} {cell} {cell}\n");
        let rows = row("*a", "- . .") + &row("b", ". - .") + &row("c", ". . -");
        sentences(&(rows + "d: no connect_timeout\ne: no connect_timeout"))
    };
    let none = "no other node reaches them (connect_timeout)";
    assert_eq!(
        two("Xh"),
        [format!("! d, e: their hosts answer, their pod networks do not; {none}")]
    );
    assert_eq!(two("XH"), [format!("! d, e are down: {none}; nothing from d, e or their hosts")]);
}

#[test]
fn the_hosts_of_nodes_that_are_cut_off_are_told() {
    let cut = "! a is cut off: it reaches none of 2, and none of 2 reaches it";
    let from = |own: &str, theirs: &str| {
        sentences(&format!("a: - {own} {own}\n*b: {theirs} - .\nc: {theirs} . -"))
    };
    assert_eq!(from("X", "Xh"), [format!("{cut}; its host answers, its pod network does not")]);
    assert_eq!(
        from("Xs", "Xsh"),
        [format!("{cut}; its host answers")],
        "its SYNs come from the pod network"
    );
    assert_eq!(from("XH", "XH"), [cut], "its row came, so its host lives");
    let inside = |cell: &str| {
        let others = "b: no connect_timeout\nc: no connect_timeout";
        sentences(&format!("*a: - {cell} {cell}\n{others}"))
    };
    let cut = "! a is cut off: this agent reaches none of 2; nothing reaches it";
    assert_eq!(inside("Xh"), [format!("{cut}; the hosts of the others answer")]);
    assert_eq!(inside("XH"), [format!("{cut}; nothing from the hosts of the others")]);
    assert_eq!(inside("X"), [cut]);
}

#[test]
fn the_hosts_of_a_split_are_told() {
    let outside = |cell: &str| {
        let far = format!("{cell} {cell}");
        sentences(&format!("*a: - . {far}\nb: . - {far}\nc: {far} - .\nd: {far} . -"))
    };
    let split = "! the mesh is split into {a, b} and {c, d}";
    assert_eq!(outside("Xh"), [format!("{split}; the hosts answer, the pod network does not")]);
    assert_eq!(outside("Xsh"), [format!("{split}; the hosts answer")]);
    assert_eq!(outside("XH"), [format!("{split}; nothing from the hosts of the other parts")]);
    let inside = |cell: &str| {
        let far = format!("{cell} {cell}");
        let missing = "c: no connect_timeout\nd: no connect_timeout";
        sentences(&format!("*a: - . {far}\nb: . - {far}\n{missing}"))
    };
    let split = "! the mesh is split: this side is {a, b}; the rows of c, d are missing";
    assert_eq!(inside("Xh"), [format!("{split}; their hosts answer")]);
    assert_eq!(inside("XH"), [format!("{split}; nothing from their hosts")]);
}

#[test]
fn the_hosts_of_links_and_pairs_are_told() {
    for (there, back, expected) in [
        ("Xh", ".", "! a → b: down (connect_timeout); its host answers, its pod network does not"),
        ("XH", ".", "! a → b: down (connect_timeout); nothing from b or its host"),
        ("Xsh", "Xn", "! a → b: down (connect_timeout); SYNs from b arrive; its host answers"),
        ("XsH", ".", "! a → b: down (connect_timeout); SYNs from b arrive"),
        ("Xqh", ">", "! a → b: down (connect_timeout); requests from b arrive; its host answers"),
        (
            "Xh",
            "Xh",
            "! a ↔ b: down (connect_timeout); their hosts answer, their pod networks do not",
        ),
        ("Xsh", "Xsh", "! a ↔ b: down (connect_timeout); their hosts answer"),
        ("XH", "XH", "! a ↔ b: down (connect_timeout); nothing from their hosts"),
        ("Xh", "XH", "! a ↔ b: down (connect_timeout)"),
        ("Rh", ".", "! a → b: down (refused)"),
        ("Th", ".", "! a → b: down (response_timeout)"),
    ] {
        assert_eq!(pair(there, back), [expected], "{there} {back}");
    }
    let link = |own: &str, theirs: &str| {
        sentences(&format!("*a: - . {theirs}\nb: . - {theirs}\nc: {own} {own} -"))
    };
    assert_eq!(
        link(".", "Xh"),
        ["! c's link: down (connect_timeout) with both others, incoming; its host answers"]
    );
    assert_eq!(
        link(".", "XH"),
        ["! c's link: down (connect_timeout) with both others, incoming; nothing from its host"]
    );
    assert_eq!(
        link("Xh", "."),
        [
            "! c's link: down (connect_timeout) with both others, outgoing; the hosts of the others answer"
        ]
    );
    let group = |cell: &str| {
        let far = format!("{cell} {cell}");
        let rest = "c: . . - . . .\nd: . . . - . .\ne: . . . . - .\nf: . . . . . -";
        sentences(&format!("*a: - . {far} . .\nb: . - {far} . .\n{rest}"))
    };
    let down = "! a, b → c, d: down (connect_timeout)";
    assert_eq!(group("Xh"), [format!("{down}; their hosts answer, their pod networks do not")]);
    assert_eq!(group("Xqh"), [format!("{down}; their hosts answer")], "requests arrive");
}

#[test]
fn what_rests_for_a_survey_is_no_fault_and_no_sign_of_life() {
    assert_says("*a: - Xu .\nb: Xu - .\nc: . . -", &[]);
    assert_says("*a: - mou=1337 .\nb: ~u - .\nc: . . -", &[]);
    // What came in before tells nothing of now: the other end alone does.
    assert_says("*a: - X .\nb: Xsu - .\nc: . . -", &["! a → b: down (connect_timeout)"]);
    assert_says("*a: - ~ .\nb: .u9/9 - .\nc: . . -", &["a → b: lossy"]);
    // Its row cannot be fetched meanwhile.
    assert_says("*a: - .u .\nb: no busy\nc: . . -", &[]);
    assert_says("*a: - . .\nb: no surveyed\nc: . . -", &[]);
    // It was up before, and dies.
    assert_says(
        "*a: - . .u .
         b: . - X .
         c: no connect_timeout
         d: . . X -",
        &["! c is down: none of 2 others reaches it (connect_timeout)"],
    );
}
