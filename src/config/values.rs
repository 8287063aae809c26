//! Values of settings: the one splitter of command lines, and typed access that collects every error.
//! Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{SettingError, parse};

/// Values by key, each with the name that the user wrote, and everything that is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Values {
    values: BTreeMap<&'static str, (String, String)>,
    errors: Vec<SettingError>,
}

impl Values {
    /// Adds a value; it replaces an earlier one of the same key.
    pub(crate) fn insert(&mut self, key: &'static str, name: &str, value: &str) {
        self.values.insert(key, (name.to_owned(), value.to_owned()));
    }

    /// Adds the flags of a command line, `--flag VALUE` or `--flag=VALUE`, and returns the other
    /// arguments. A value that begins with `-` needs the second form.
    ///
    /// `known` maps a flag to its key and whether it takes a value. An unknown flag takes the next
    /// argument as a flag with a value does, so that the pair is one error.
    pub(crate) fn add_flags<'a>(
        &mut self,
        arguments: &'a [String],
        program: &str,
        known: impl Fn(&str) -> Option<(&'static str, bool)>,
    ) -> Vec<&'a str> {
        let (mut seen, mut others) = (Vec::new(), Vec::new());
        let mut arguments = arguments.iter().map(String::as_str).peekable();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with('-') {
                others.push(argument);
                continue;
            }
            let (name, mut value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            let flag = known(name);
            if value.is_none() && !matches!(flag, Some((_, false))) {
                value = arguments.next_if(|next| !next.starts_with('-'));
            }
            match (flag, value) {
                (None, _) => {
                    self.reject(name, value, format!("unknown flag; see {program} --help"));
                }
                (Some((_, false)), Some(_)) => self.reject(name, value, "takes no value"),
                (Some((_, true)), None) => self.reject(name, None, "needs a value"),
                _ if seen.contains(&name) => self.reject(name, value, "is given more than once"),
                (Some((key, _)), _) => {
                    seen.push(name);
                    self.insert(key, name, value.unwrap_or_default());
                }
            }
        }
        others
    }

    /// Reports what is wrong with a setting.
    pub(crate) fn reject(&mut self, name: &str, value: Option<&str>, problem: impl Into<String>) {
        let (name, value) = (name.to_owned(), value.map(ToOwned::to_owned));
        self.errors.push(SettingError { name, value, problem: problem.into() });
    }

    /// The name and the text of a value.
    pub(crate) fn get(&self, key: &str) -> Option<(&str, &str)> {
        self.values.get(key).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value as `read` understands it; an error if it does not.
    pub(crate) fn optional<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (name, text) = self.values.get(key)?.clone();
        let value = read(text.trim());
        if value.is_none() {
            self.reject(&name, Some(&text), format!("must be {expected}"));
        }
        value
    }

    /// The value as `read` understands it, else the default.
    pub(crate) fn value<T>(
        &mut self,
        key: &str,
        default: &str,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> T {
        let value = self.optional(key, expected, &read).or_else(|| read(default));
        value.expect("the default is valid")
    }

    /// A duration with its unit, from `min` to `max` milliseconds.
    pub(crate) fn duration(&mut self, key: &str, default: &str, min: u64, max: u64) -> Duration {
        let [min, max] = [min, max].map(Duration::from_millis);
        let expected = format!(
            "a duration with its unit, such as {default}, from {} to {}",
            parse::format_duration(min),
            parse::format_duration(max)
        );
        self.value(key, default, &expected, |text| {
            parse::duration(text).filter(|value| (min..=max).contains(value))
        })
    }

    /// `value` if it is there and nothing is wrong, else all errors.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<SettingError>> {
        value.filter(|_| self.errors.is_empty()).ok_or(self.errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a command line that knows `--size VALUE` and `--json`.
    fn split(line: &str) -> (Vec<String>, Option<String>, Vec<String>) {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut values = Values::default();
        let others = values.add_flags(&arguments, "wylis", |name| match name {
            "--size" => Some(("size", true)),
            "--json" => Some(("json", false)),
            _ => None,
        });
        let others = others.into_iter().map(str::to_owned).collect();
        let size = values.get("size").map(|(_, value)| value.to_owned());
        (others, size, values.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_flag_takes_its_value_from_either_form() {
        for line in ["a --size 5 --json b", "--size=5 a b --json", "--json a --size=5 b"] {
            let expected = (vec!["a".to_owned(), "b".to_owned()], Some("5".to_owned()), vec![]);
            assert_eq!(split(line), expected, "{line}");
        }
        assert_eq!(split("--size=").1.as_deref(), Some(""));
        assert_eq!(split("--size=a=b").1.as_deref(), Some("a=b"));
    }

    #[test]
    fn a_value_that_begins_with_a_dash_needs_an_equals_sign() {
        assert_eq!(split("--size=-5").1.as_deref(), Some("-5"));
        let errors = ["--size: needs a value", "-5: unknown flag; see wylis --help"];
        assert_eq!(split("--size -5").2, errors);
        assert_eq!(split("--size --json").2, ["--size: needs a value"]);
    }

    #[test]
    fn each_wrong_flag_is_one_error() {
        for (line, error) in [
            ("--colour", "--colour: unknown flag; see wylis --help"),
            ("--colour red", "--colour = \"red\": unknown flag; see wylis --help"),
            ("--colour=red", "--colour = \"red\": unknown flag; see wylis --help"),
            ("-s", "-s: unknown flag; see wylis --help"),
            ("--json=1", "--json = \"1\": takes no value"),
            ("--json --json", "--json: is given more than once"),
            ("--size 1 --size=2", "--size = \"2\": is given more than once"),
            ("--size", "--size: needs a value"),
        ] {
            assert_eq!(split(line).2, [error], "{line}");
        }
    }
}
