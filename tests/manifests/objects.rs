//! The objects of manifests/, as `kubectl apply -f` reads them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wylis_harness::yaml::parse;

/// The files of a plain apply: those of the folder itself, sorted by name.
pub(crate) fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder manifests")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Every object, in the order of an apply.
pub(crate) fn objects() -> Vec<Value> {
    files()
        .iter()
        .flat_map(|file| parse(&fs::read_to_string(file).expect("a readable manifest")))
        .collect()
}

/// The only object of this kind.
pub(crate) fn object(kind: &str) -> Value {
    let mut found: Vec<Value> =
        objects().into_iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "objects of the kind {kind}");
    found.remove(0)
}
