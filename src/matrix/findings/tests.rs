//! Situations and the findings that they must give, word for word.

mod bounds;
mod past;
mod picture;
mod property;
mod recorded;
mod speed;
mod told;

use picture::picture;

/// The sentences of a picture; those that should wake a person begin with `!`.
fn sentences(text: &str) -> Vec<String> {
    let matrix = picture(text);
    let grave = |is| if is { "! " } else { "" };
    let findings = matrix.findings().iter();
    findings.map(|finding| format!("{}{}", grave(finding.is_grave), finding.text)).collect()
}

#[track_caller]
fn assert_says(text: &str, expected: &[&str]) {
    assert_eq!(sentences(text), expected, "{text}");
}

#[test]
fn all_well_says_nothing() {
    assert_says("*a: - . .\nb: . - d\nc: ? . -", &[]);
    assert_says("*a:", &[]);
    assert_says("*a: - ?\nb: no no_peer", &[]);
}

#[test]
fn one_dead_node_is_down() {
    let down = "! c is down: none of 3 others reaches it (connect_timeout)";
    assert_says(
        "*a: - . X .
         b: . - X .
         c: no connect_timeout
         d: . . X -",
        &[down],
    );
    // Others may not know it, or lack the evidence.
    assert_says(
        "*a: - . X . .
         b: . - Xn . .
         c: no connect_timeout
         d: . . X - .
         e: . . ? . -",
        &[down],
    );
    let mixed = "! c is down: none of 2 others reaches it (refused, unreachable)";
    assert_says("*a: - . R\nb: . - U\nc: no refused", &[mixed]);
}

#[test]
fn several_dead_nodes_are_one_finding() {
    assert_says(
        "*a: - . . X X
         b: . - . X X
         c: . . - X X
         d: no connect_timeout
         e: no connect_timeout",
        &["! d, e are down: no other node reaches them (connect_timeout)"],
    );
    // Their hosts answer, so that no path is at fault.
    assert_says(
        "*a: - . R R
         b: . - R R
         c: no refused
         d: no refused",
        &["! c, d are down: no other node reaches them (refused)"],
    );
}

#[test]
fn a_node_that_anything_reaches_or_that_speaks_is_not_down() {
    assert_says(
        "*a: - . X .
         b: . - X .
         c: no connect_timeout
         d: . . . -",
        &["! a, b → c: down (connect_timeout)", "no row from c (connect_timeout)"],
    );
    assert_says(
        "*a: - . R .
         b: . - R .
         c: . . - .
         d: . . R -",
        &["! c's link: down (refused) with all 3 others, incoming"],
    );
    assert_says(
        "*a: - . Xq .
         b: . - Xq .
         c: no connect_timeout
         d: . . Xq -",
        &[
            "! c's link: down (connect_timeout) with all 3 others, incoming",
            "no row from c (connect_timeout)",
        ],
    );
}

#[test]
fn a_node_is_cut_off_from_outside_and_from_inside() {
    assert_says(
        "a: - X X X X
         *b: X - . . .
         c: X . - . .
         d: X . . - .
         e: X . . . -",
        &["! a is cut off: it reaches none of 4, and none of 4 reaches it"],
    );
    let inside = "! a is cut off: this agent reaches none of 4; nothing reaches it";
    for cells in ["X X X X", "Xn Xn X U"] {
        let text = format!(
            "*a: - {cells}
             b: no connect_timeout
             c: no connect_timeout
             d: no busy
             e: no unreachable"
        );
        assert_says(&text, &[inside]);
    }
}

#[test]
fn a_node_that_hears_or_is_heard_in_one_direction_is_told_apart() {
    let inside = |cell: &str| {
        let others = ["b", "c", "d", "e"].map(|name| format!("{name}: no connect_timeout"));
        sentences(&format!("*a: - {cell} {cell} {cell} {cell}\n{}", others.join("\n")))
    };
    let hears =
        "! a hears and is not heard: its answers and requests reach none of 4, theirs arrive";
    assert_eq!(inside("Xs"), [hears]);
    let both = |own: &str, theirs: &str| {
        format!(
            "a: - {own} {own} {own} {own}
             *b: {theirs} - . . .
             c: {theirs} . - . .
             d: {theirs} . . - .
             e: {theirs} . . . -"
        )
    };
    assert_says(&both("Xs", "Xn"), &[hears]);
    let deaf = "! a is heard and hears nothing: answers and requests of none of 4 reach it, its own arrive";
    assert_says(&both("Xn", "Xs"), &[deaf]);
    // Its row does not come, since it does not hear that it is wanted.
    let missing = both("Xn", "Xs").replacen("a: - Xn Xn Xn Xn", "a: no connect_timeout", 1);
    assert_says(&missing, &[deaf]);
}

#[test]
fn a_node_whose_handshakes_complete_in_one_direction_hears_and_is_heard() {
    // Only new connections from it are dropped, for example by a policy for its egress; no row comes.
    let missing = ["b", "c", "d"].map(|name| format!("{name}: no connect_timeout")).join("\n");
    assert_says(
        &format!("*a: - Xq Xq Xq\n{missing}"),
        &[
            "! a's link: down (connect_timeout) with all 3 others, outgoing",
            "no row from b, c, d (connect_timeout)",
        ],
    );
    // Its requests arrive whole, so what it is sent arrives as well.
    assert_says(
        "a: - T T T
         *b: Xq - . .
         c: Xq . - .
         d: Xq . . -",
        &["! a's link: down (connect_timeout) with all 3 others, incoming"],
    );
}

#[test]
fn a_relay_that_does_not_forward_is_named() {
    assert_says(
        "hub: - . . . .
         *s1: . - X X X
         s2: . X - X X
         s3: . X X - X
         s4: . X X X -",
        &["! only hub is reached; it does not relay: all 12 paths between the other nodes fail"],
    );
    assert_says(
        "hub: - . . .
         *s1: . - X X
         s2: . X - X
         s3: no response_timeout",
        &[
            "! only hub is reached; it does not relay: all 4 known paths between the other nodes fail",
            "no row from s3 (response_timeout)",
        ],
    );
    // A dead node beside it does not hide it.
    assert_says(
        "a: no connect_timeout
         hub: X - . . .
         *s1: X . - X X
         s2: X . X - X
         s3: X . X X -",
        &[
            "! a is down: none of 4 others reaches it (connect_timeout)",
            "! only hub is reached; it does not relay: all 6 paths between the other nodes fail",
        ],
    );
}

#[test]
fn a_relay_that_loses_packets_is_named() {
    let lossy = "every path through hub is lossy";
    assert_says(
        "hub: - . . .
         *s1: . - ~6/4 ~
         s2: . ~ - ~
         s3: . ~ ~ -",
        &[lossy],
    );
    // So much that probes fail now and then.
    assert_says(
        "hub: - . . .
         *s1: . - % ~
         s2: . ~ - %
         s3: . X ~ -",
        &[&format!("! {lossy}")],
    );
    assert_says(
        "hub: - . . .
         *s1: . - . ~
         s2: . ~ - ~
         s3: . ~ ~ -",
        &["5 of 6 paths through hub are lossy"],
    );
    // What is refused is not lost.
    assert_says(
        "hub: - . . . .
         *s1: . - ~ ~ ~
         s2: . ~ - ~ ~
         s3: . ~ R - ~
         s4: . ~ ~ ~ -",
        &["11 of 12 paths through hub are lossy", "! s3 → s2: down (refused)"],
    );
    // One of the pairs of the relay itself may be lossy by chance, more may not.
    assert_says(
        "hub: - ~ . .
         *s1: . - ~ ~
         s2: . ~ - ~
         s3: . ~ ~ -",
        &[lossy, "hub → s1: lossy"],
    );
    assert_says(
        "hub: - ~ . .
         *s1: ~ - ~ ~
         s2: . ~ - ~
         s3: . ~ ~ -",
        &["s1's link: lossy with all 3 others, in both directions", "s2 ↔ s3: lossy"],
    );
}

#[test]
fn a_split_is_told_from_outside_and_from_inside() {
    assert_says(
        "*a: - . X X
         b: . - X X
         c: X X - .
         d: X X . -",
        &["! the mesh is split into {a, b} and {c, d}"],
    );
    assert_says(
        "*a: - . X X
         b: . - X X
         c: no connect_timeout
         d: no connect_timeout",
        &["! the mesh is split: this side is {a, b}; the rows of c, d are missing"],
    );
    assert_says(
        "*a: - X X . X X
         b: X - . X X X
         c: X . - X X X
         d: . X X - X X
         e: X X X X - .
         f: X X X X . -",
        &["! the mesh is split into {a, d}, {b, c} and {e, f}"],
    );
}

#[test]
fn a_congested_link_is_one_finding() {
    // Its packets are lost: it repeats requests and answers, the others repeat SYNs.
    assert_says(
        "*a: - . . ~2/0 .
         b: . - . ~3/0 .
         c: . . - ~2/1 .
         d: ~5/4 ~4/6 ~6/5 - ~6/6
         e: . . . ~3/0 -",
        &["d's link: lossy with all 4 others, outgoing"],
    );
    assert_says(
        "*a: - . . ~6/4 .
         b: . - . ~6/4 .
         c: . . - ~5/4 .
         d: ~6/4 ~6/4 ~6/3 - ~6/4
         e: . . . ~6/5 -",
        &["d's link: lossy with all 4 others, in both directions"],
    );
    assert_says(
        "*a: - . . %
         b: . - . X
         c: . . - ~
         d: ~ ~ ~ -",
        &["d's link: lossy with all 3 others, outgoing", "! b → d: down (connect_timeout)"],
    );
    // Most of the pairs lose so much that probes fail, or too little beside the failures to tell.
    let link = |cell: &str| {
        let row = |name: &str, cells: &str| format!("{name}: {cells} {cell}\n");
        let others = row("*a", "- . .") + &row("b", ". - .") + &row("c", ". . -");
        format!("{others}d: {cell} {cell} ~4/3 -")
    };
    assert_says(&link("%9/3"), &["d's link: lossy with all 3 others, in both directions"]);
    let flaky = "d's link: flaky (connect_timeout) with all 3 others, in both directions";
    assert_says(&link("%3/2"), &[flaky]);
    assert_says(
        "*a: - . . mi
         b: . - . mi
         c: . . - mi
         d: mo mo mo -",
        &["d's link: mtu with all 3 others, outgoing"],
    );
    assert_says("*a: - . mi\nb: . - mi\nc: . . -", &["c's link: mtu with both others, outgoing"]);
}

#[test]
fn sources_that_share_a_fault_towards_targets_are_one_line() {
    assert_says(
        "*a: - . . R . .
         b: . - . R . .
         c: . . - . . .
         d: . . . - . .
         e: . . . . - .
         f: . . . . . -",
        &["! a, b → d: down (refused)"],
    );
    assert_says(
        "*a: - . R R .
         b: . - R R .
         c: . . - . .
         d: . . . - .
         e: . . . . -",
        &["! a, b → c, d: down (refused)"],
    );
    assert_says(
        "*a: - . ! % .
         b: . - ! . .
         c: . . - . .
         d: . . . - .
         e: . . . . -",
        &["a, b → c: flaky (refused, 11 of 20)", "a → d: flaky (connect_timeout, 3 of 20)"],
    );
}

#[test]
fn a_single_pair_has_its_direction() {
    for (there, back, expected) in [
        ("!", ".", "a → b: flaky (refused, 11 of 20)"),
        ("!", "!", "a ↔ b: flaky (refused, 11 of 20)"),
        ("~", ".", "a → b: lossy"),
        (".", "~", "b → a: lossy"),
        ("~", "~", "a ↔ b: lossy"),
        // 30 % of the answers to a are lost: only b sees it.
        (".0/0", "~0/6", "b → a: lossy"),
        // Of the requests of a.
        ("~6/0", ".0/0", "a → b: lossy"),
        // Of all packets from a to b, and from b to a.
        ("~6/6", "~3/0", "a → b: lossy"),
        ("~3/0", "~6/6", "b → a: lossy"),
        ("~5/4", "~6/3", "a ↔ b: lossy"),
        // A little in the other direction is chance.
        ("~6/6", "~3/2", "a → b: lossy"),
        ("mo", ".", "a → b: mtu"),
        (".", "mi", "a → b: mtu"),
        ("mi", "mo", "b → a: mtu"),
        ("mo", "mo", "a ↔ b: mtu"),
        ("mb", "mi", "a ↔ b: mtu"),
        (">", ".", "b → a: one-way; requests no longer arrive"),
        ("X", "X", "! a ↔ b: down (connect_timeout)"),
        ("Xn", "Xn", "! a ↔ b: down (connect_timeout)"),
        ("Xs", "Xn", "! a → b: down (connect_timeout); SYNs from b arrive"),
        ("X", "Ts", "! b → a: down (response_timeout); SYNs from a arrive"),
        ("Xq", ".", "! a → b: down (connect_timeout); requests from b arrive"),
        ("R", ".", "! a → b: down (refused)"),
        ("Xq", ">", "! a → b: down (connect_timeout); requests from b arrive"),
        (">", "Xq", "! b → a: down (connect_timeout); requests from a arrive"),
        ("S", ".", "a → b: down (response_timeout), slower than WYLIS_TIMEOUT"),
        ("S", "S", "a ↔ b: down (response_timeout), slower than WYLIS_TIMEOUT"),
    ] {
        let text = format!("*a: - {there} .\nb: {back} - .\nc: . . -");
        assert_eq!(sentences(&text), [expected], "{text}");
    }
    let two = "*a: - ~ .\nb: mo - .\nc: . . -";
    assert_says(two, &["a → b: lossy", "b → a: mtu"]);
    assert_says(
        "*a: - X\nb: no connect_timeout",
        &["! a → b: down (connect_timeout)", "no row from b (connect_timeout)"],
    );
}

#[test]
fn a_slow_node_is_not_down() {
    assert_says(
        "*a: - . S .\nb: . - S .\nc: no response_timeout\nd: . . S -",
        &[
            "c's link: slower than WYLIS_TIMEOUT with all 3 others, incoming",
            "no row from c (response_timeout)",
        ],
    );
}

#[test]
fn handshakes_that_something_else_answers_are_told() {
    let told = "something between a and its peers answers handshakes in their place";
    assert_says("*a: - .i .i\nb: . - .\nc: . . -", &[told]);
    // A service mesh does so on every node.
    assert_says(
        "*a: - .i .i\nb: .i - .i\nc: .i .i -",
        &["something between a, b, c and their peers answers handshakes in their place"],
    );
    // It acknowledges what the peers answer, so that their retransmits show no direction.
    assert_says("*a: - .i .i\nb: ~0/6 - .\nc: . . -", &[told, "a ↔ b: lossy"]);
    assert_says("*a: - .i .\nb: .i - .\nc: . . -", &[]);
    assert_says("*a: - .i\nb: . -", &[]);
    assert_says(
        "*a: - .i .i T\nb: . - . .\nc: . . - .\nd: . . . -",
        &[told, "! a → d: down (response_timeout)"],
    );
}

#[test]
fn a_wrong_clock_is_told() {
    let mesh = |clocks: [i64; 3]| {
        let [b, c, d] = clocks;
        sentences(&format!("*a: - . . .\nb@{b}: . - . .\nc@{c}: . . - .\nd@{d}: . . . -"))
    };
    assert_eq!(mesh([0, 30, 4010]), ["the clock of d is 4 s ahead"]);
    assert_eq!(mesh([0, 30, -240_000]), ["the clock of d is 4 min behind"]);
    assert_eq!(mesh([0, -2049, 2049]), [""; 0]);
    assert_eq!(mesh([0, 0, 2051]), ["the clock of d is 2 s ahead"]);
    // Rows that took 5 s, each of them on the way here: the doubt is also one of the own clock.
    assert_says("*a: - . .\nb@2400/2500: . - .\nc@2410/2500: . . -", &[]);
    // The own clock, since all others agree.
    assert_eq!(mesh([4000, 4010, 3990]), ["the clock of a is 4 s behind"]);
    assert_says("*a: - . .\nb@4000: . - .\nc@4010: . . -", &["the clock of a is 4 s behind"]);
    assert_says("*a: - .\nb@-90000000: . -", &["the clock of b is 25 h behind"]);
}

#[test]
fn missing_rows_are_told_by_reason() {
    assert_says(
        "*a: - . . .\nb: no busy\nc: no response_timeout\nd: no busy",
        &["no row from b, d (busy)", "no row from c (response_timeout)"],
    );
}

#[test]
fn the_missing_row_of_an_agent_that_is_replaced_is_no_finding() {
    assert_says("*a: - d .\nb: no connect_timeout\nc: . . -", &[]);
    assert_says("*a: - ? .\nb: no connect_timeout\nc: . . -", &[]);
    assert_says("*a: - . .\nb: no connect_timeout\nc: . d -", &[]);
}
