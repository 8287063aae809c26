//! Text that no file may hold: paths of one machine, and words that a reader stumbles over.

use std::fs;
use std::path::{Path, PathBuf};

use super::root;

/// Words that stand for a socket, a process or a request where its noun belongs.
const VAGUE: [&str; 4] = ["whoever", "whence", "nobody", "somebody"];
/// Where they are refused: the code, and everything that users read.
const READ_BY_USERS: [&str; 7] =
    ["src", "docs", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "scripts", "manifests"];

/// Beginnings of paths that exist on one machine only, in parts so that this file passes.
fn machine_paths() -> Vec<String> {
    let mut paths = vec![
        concat!("/ho", "me/").to_owned(),
        concat!("/ro", "ot/").to_owned(),
        concat!("/Us", "ers/").to_owned(),
        concat!("\\Us", "ers\\").to_owned(),
        concat!("/tmp/", "wt/").to_owned(),
    ];
    // The folder of this checkout, unless its path is too short to identify a machine.
    if root().components().count() > 2 {
        paths.push(root().display().to_string());
    }
    paths
}

fn machine_path(text: &str) -> Option<String> {
    machine_paths().into_iter().find(|path| text.contains(path.as_str()))
}

fn vague_word(line: &str) -> Option<&'static str> {
    let line = line.to_lowercase();
    VAGUE.into_iter().find(|word| line.contains(word))
}

/// Every file of the repository below `path`, without build output and git's own files.
fn files(path: &Path, found: &mut Vec<PathBuf>) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let built = path.parent() == Some(root()) && ["target", "build", ".git"].contains(&&*name);
    // A target folder of another name has cargo's tag.
    if path.is_symlink() || built || path.join("CACHEDIR.TAG").exists() {
        return;
    }
    if !path.is_dir() {
        found.push(path.to_owned());
        return;
    }
    for entry in fs::read_dir(path).expect("a readable folder") {
        files(&entry.expect("an entry").path(), found);
    }
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let mut all = Vec::new();
    files(root(), &mut all);
    assert!(all.contains(&root().join("README.md")) && all.len() > 20, "{all:?}");
    let found: Vec<String> = all
        .iter()
        .filter_map(|path| {
            let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
            Some(format!("{}: {}", path.display(), machine_path(&text)?))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_vague_word_is_in_the_code_or_the_documents() {
    let mut all = Vec::new();
    for name in READ_BY_USERS {
        files(&root().join(name), &mut all);
    }
    assert!(all.len() > 80, "{all:?}");
    let mut found = Vec::new();
    for path in &all {
        // Pictures are not text.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let name = path.strip_prefix(root()).unwrap_or(path).display();
        for (number, line) in (1..).zip(text.lines()) {
            found.extend(vague_word(line).map(|word| format!("{name}:{number}: {word}")));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn machine_paths_and_vague_words_are_found() {
    assert!(machine_path(concat!("cd /ho", "me/me")).is_some());
    assert!(machine_path("cd somewhere/home and /var/run").is_none());
    assert_eq!(vague_word("// Nobody waits."), Some("nobody"));
    assert_eq!(vague_word("the body of an answer"), None);
}
