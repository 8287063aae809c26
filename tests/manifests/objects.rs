//! The objects of manifests/, read as `kubectl apply -f` reads them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// The files that a plain apply reads: those of the folder itself, in the order of their names.
pub(crate) fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of the manifests")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Every object, in the order in which it would be applied.
pub(crate) fn objects() -> Vec<Value> {
    files()
        .iter()
        .flat_map(|file| parse(&fs::read_to_string(file).expect("a manifest that can be read")))
        .collect()
}

/// The one object of this kind.
pub(crate) fn object(kind: &str) -> Value {
    let mut found: Vec<Value> =
        objects().into_iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "objects of the kind {kind}");
    found.remove(0)
}

/// The documents of a YAML file.
pub(crate) fn parse(text: &str) -> Vec<Value> {
    YamlLoader::load_from_str(text).expect("well-formed YAML").iter().map(json).collect()
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Boolean(truth) => Value::from(*truth),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::Hash(map) => map
            .iter()
            .map(|(key, value)| (key.as_str().expect("a text as key").to_owned(), json(value)))
            .collect::<Map<_, _>>()
            .into(),
        Yaml::Null => Value::Null,
        // Fractions, aliases and the like have no place in a manifest that people read.
        Yaml::Real(_) | Yaml::Alias(_) | Yaml::BadValue => Value::from(format!("odd: {yaml:?}")),
    }
}
