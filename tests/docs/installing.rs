//! What docs/installing.md shows was printed once; here it is held against what would be printed now.

use std::collections::BTreeSet;

use serde_json::Value;
use wylis::config::SETTINGS;
use wylis::discovery::DiscoveryError;

use super::{read, root};

const DOCUMENT: &str = "docs/installing.md";

/// What `kubectl apply` and `delete` say of each object, without the verb: `role.rbac.authorization.k8s.io/wylis`.
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

/// The commands of the blocks, and what follows each up to the next.
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
fn what_apply_and_delete_print_are_the_objects_of_the_manifests() {
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
fn commands_name_what_there_is() {
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
fn rows_and_metrics_have_the_names_that_are_shown() {
    let text = read(DOCUMENT);
    let row = super::row_as_json::rendered();
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
fn messages_are_quoted_as_they_are_told() {
    let text = read(DOCUMENT);
    let quoted = |message: &str| assert!(text.contains(message), "{message}");
    let forbidden = DiscoveryError::Forbidden { namespace: "wylis".to_owned() }.to_string();
    quoted(forbidden.split(" (API").next().unwrap());
    let server = "10.96.0.1:443".to_owned();
    let limit = wylis::discovery::kubernetes::LIST_DEADLINE;
    quoted(&DiscoveryError::Timeout { server, limit }.to_string());
    let wrong = ("WYLIS_INTERVAL".to_owned(), "10".to_owned());
    let told = wylis::config::read([], [wrong]).unwrap_err();
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    quoted(told.iter().find(|told| told.starts_with("WYLIS_INTERVAL")).unwrap());
}
