//! YAML as JSON values, for tests that compare manifests.

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// The documents of a YAML file.
///
/// # Panics
/// When it is not well-formed.
#[must_use]
pub fn parse(text: &str) -> Vec<Value> {
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
        // Our manifests have no fractions and no aliases.
        Yaml::Real(_) | Yaml::Alias(_) | Yaml::BadValue => Value::from(format!("odd: {yaml:?}")),
    }
}
