//! The output shown in docs/installing.md against what the code and the manifests print today.

use std::collections::BTreeSet;

use serde_json::Value;
use wylis::config::SETTINGS;
use wylis::discovery::DiscoveryError;
use wylis_harness::manifest;

use super::{assert_says, read, root};

const DOCUMENT: &str = "docs/installing.md";

/// The name of each object as `kubectl apply` and `delete` print it: `role.rbac.authorization.k8s.io/wylis`.
fn objects() -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("manifests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let texts: Vec<String> =
        files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    texts.iter().flat_map(|text| text.split("\n---\n")).map(object).collect()
}

fn object(text: &str) -> String {
    let field = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let group = field("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    format!("{}{dot}{group}/{}", field("kind").to_lowercase(), field("  name"))
}

/// The commands of the console blocks, each with its output.
fn commands(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command, Vec::new()));
        } else if let Some((_, printed)) = commands.last_mut() {
            printed.push(line);
        }
    }
    commands
}

#[test]
fn apply_and_delete_print_the_objects_of_the_manifests() {
    let text = read(DOCUMENT);
    let printed = |command: &str| {
        let commands = commands(&text);
        let found = commands.into_iter().find(|(known, _)| *known == command);
        found.unwrap_or_else(|| panic!("no {command}")).1
    };
    let created: Vec<String> = objects().iter().map(|name| format!("{name} created")).collect();
    assert_eq!(printed("kubectl apply -f manifests/"), created);
    let deleted = objects().into_iter().map(|object| {
        let (kind, name) = object.split_once('/').unwrap();
        let place = if kind == "namespace" { "" } else { " from wylis namespace" };
        format!("{kind} \"{name}\" deleted{place}")
    });
    assert_eq!(printed("kubectl delete -f manifests/"), deleted.collect::<Vec<_>>());
}

#[test]
fn commands_name_existing_objects_ports_and_settings() {
    let text = read(DOCUMENT);
    let (mut namespaces, mut sets) = (BTreeSet::new(), BTreeSet::new());
    for (command, _) in commands(&text) {
        let mut words = command.split_whitespace().peekable();
        while let Some(word) = words.next() {
            match word {
                "-n" => namespaces.extend(words.peek().copied()),
                "daemonset" => sets.extend(words.peek().copied()),
                _ => sets.extend(word.strip_prefix("daemonset/")),
            }
        }
    }
    assert_eq!(namespaces, BTreeSet::from(["wylis"]));
    assert_eq!(sets, BTreeSet::from(["wylis"]));
    let manifest = read("manifests/50-daemonset.yaml");
    let port = manifest.lines().find_map(|line| line.trim().strip_prefix("containerPort: "));
    let label = "app.kubernetes.io/name: wylis";
    assert!(manifest.contains(&format!("matchLabels:\n      {label}")), "{label}");
    let (mut ports, mut selectors) = (0, 0);
    for (command, _) in commands(&text) {
        let words: Vec<&str> = command.split_whitespace().collect();
        for pair in words.windows(2) {
            if pair[0] == "-l" {
                assert_eq!(pair[1], label.replace(": ", "="), "{command}");
                selectors += 1;
            }
            let address = pair[1].strip_prefix("localhost:");
            let local = address.map(|rest| rest.split('/').next().unwrap_or_default());
            let forwarded = pair[0].starts_with("pod/").then_some(pair[1]);
            if let Some(named) = local.or(forwarded) {
                assert_eq!(Some(named), port, "{command}");
                ports += 1;
            }
        }
    }
    assert!(ports > 3 && selectors > 0, "{ports} {selectors}");
    let image = manifest.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap();
    for word in text.split(|c: char| c.is_whitespace() || "`\"".contains(c)) {
        if let Some((_, version)) = word.split_once("wylis:")
            && version.starts_with(|c: char| c.is_ascii_digit())
        {
            assert!(word.contains(image), "{word} is not {image}");
        }
        let setting = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let setting = setting.split('=').next().unwrap_or_default();
        if setting.starts_with("WYLIS_") {
            assert!(SETTINGS.iter().any(|known| known.variable == setting), "{setting}");
        }
    }
}

#[test]
fn shown_fields_and_metrics_exist() {
    let text = read(DOCUMENT);
    let row = super::peers::rendered();
    let peer = row["peers"][0].as_object().unwrap();
    let mut rows = 0;
    for (command, printed) in commands(&text) {
        for line in printed.iter().filter(|line| line.starts_with('{')) {
            let shown: Value = serde_json::from_str(line).unwrap();
            let shown = shown.as_object().unwrap();
            let unknown: Vec<_> = shown.keys().filter(|key| !peer.contains_key(*key)).collect();
            assert!(unknown.is_empty(), "{unknown:?} of {line}");
            assert!(shown.keys().all(|key| command.contains(key.as_str())), "{command}: {line}");
            rows += 1;
        }
    }
    assert!(rows > 3, "{rows}");
    let names: BTreeSet<&str> = wylis::metrics::descriptions().map(|one| one.name).collect();
    let mut metrics = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let strange = metrics.find(|word| word.starts_with("wylis_") && !names.contains(word));
    assert_eq!(strange, None);
}

#[test]
fn quoted_messages_are_those_of_the_code() {
    let text = read(DOCUMENT);
    let quoted = |message: &str| assert!(text.contains(message), "{message}");
    let forbidden = DiscoveryError::Forbidden { namespace: "wylis".to_owned() }.to_string();
    quoted(forbidden.split(" (API").next().unwrap());
    let server = "10.96.0.1:443".to_owned();
    let limit = wylis::discovery::kubernetes::LIST_DEADLINE;
    quoted(&DiscoveryError::Timeout { server, limit }.to_string());
    let wrong = ("WYLIS_INTERVAL".to_owned(), "10".to_owned());
    let errors = wylis::config::read(&[], [wrong]).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    quoted(errors.iter().find(|error| error.starts_with("WYLIS_INTERVAL")).unwrap());
}

#[test]
fn shown_log_lines_are_those_of_the_code() {
    let text = read(DOCUMENT);
    let mut lines = 0;
    for (command, printed) in commands(&text) {
        for line in
            printed.iter().filter(|line| line.contains("Z INFO ") || line.contains("Z WARN "))
        {
            let (head, message) = line.split_once("wylis::").unwrap().1.split_once("] ").unwrap();
            let source = read(&format!("src/{}.rs", head.replace("::", "/")));
            let known = literals(&source).iter().any(|format| formats(format, message));
            assert!(known, "{command}: {head} has no message like {message:?}");
            lines += 1;
        }
    }
    assert!(lines > 5, "{lines}");
}

/// The string literals of a source; lines that end with a backslash are joined.
fn literals(source: &str) -> Vec<String> {
    let (mut found, mut literal) = (Vec::new(), None::<String>);
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, &mut literal) {
            ('"', None) => literal = Some(String::new()),
            ('"', Some(_)) => found.extend(literal.take()),
            ('\\', Some(text)) => match chars.next() {
                Some('\n') => while chars.next_if(|next| next.is_whitespace()).is_some() {},
                next => text.extend(next),
            },
            (c, Some(text)) => text.push(c),
            _ => {}
        }
    }
    found
}

/// Whether `format!` with this literal can produce the message.
fn formats(literal: &str, message: &str) -> bool {
    let (first, others) = literal.split_once('{').unwrap_or((literal, ""));
    let fixed: Vec<&str> =
        others.split('{').filter_map(|part| Some(part.split_once('}')?.1)).collect();
    // A literal that is only a placeholder would match any message.
    if first.is_empty() && fixed.iter().all(|part| part.is_empty()) {
        return false;
    }
    let Some(mut rest) = message.strip_prefix(first) else { return false };
    for part in &fixed {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty() || fixed.last() == Some(&"")
}

#[test]
fn shown_series_have_the_labels_of_their_metric() {
    let text = read(DOCUMENT);
    let mut series = 0;
    for line in commands(&text).into_iter().flat_map(|(_, printed)| printed) {
        let Some((name, rest)) =
            line.split_once('{').filter(|(name, _)| name.starts_with("wylis_"))
        else {
            continue;
        };
        let known = wylis::metrics::descriptions().find(|known| known.name == name).unwrap();
        let known = known.labels.replace("pair", "source_node,target_node");
        let known: BTreeSet<&str> = known.split(',').collect();
        let labels = rest.split_once('}').unwrap().0;
        let shown = labels.split(',').map(|label| label.split_once('=').unwrap().0);
        assert_eq!(shown.collect::<BTreeSet<_>>(), known, "{line}");
        series += 1;
    }
    assert!(series > 2, "{series}");
}

#[test]
fn the_pace_of_an_update_follows_from_the_manifest() {
    assert_says(DOCUMENT, &format!("ready for {} s", manifest::min_ready().as_secs()));
    for phrase in ["up to four nodes", "a quarter"] {
        assert_says(DOCUMENT, phrase);
    }
    assert_eq!([4, 5].map(manifest::max_unavailable), [1, 2]);
}

#[test]
fn a_message_matches_a_literal_by_its_fixed_parts() {
    let source =
        "log::info!(\"peer {node:?} is {to}, \\\n    was {from}\"); \"a \\\"b\\\"\"; \"{error}\"";
    let found = literals(source);
    assert_eq!(found, ["peer {node:?} is {to}, was {from}", "a \"b\"", "{error}"]);
    assert!(formats(&found[0], "peer \"n2\" is down (refused), was up"));
    assert!(formats("stopped", "stopped"));
    for other in ["peer \"n2\" was up", "the peer \"n2\" is up, was down", "stopped"] {
        assert!(!found.iter().any(|literal| formats(literal, other)), "{other}");
    }
    assert!(!formats("stopped", "stopped now"));
}
