//! Values of settings: the splitter of command lines, and typed access that collects all errors. Pure.

use std::time::Duration;

use super::{SettingError, parse};

/// Values and defaults by key, and all errors so far. Maps of these few entries would add 13 KB to the
/// binary.
#[derive(Debug)]
pub(crate) struct Values {
    defaults: Vec<(&'static str, &'static str)>,
    /// Each key with the name that the user wrote, and the value.
    values: Vec<(&'static str, String, String)>,
    errors: Vec<SettingError>,
}

impl Values {
    /// No values yet; `defaults` by key.
    pub(crate) fn new(defaults: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let defaults = defaults.into_iter().collect();
        Self { defaults, values: Vec::new(), errors: Vec::new() }
    }

    /// Adds a value; it replaces an earlier one of the same key.
    pub(crate) fn insert(&mut self, key: &'static str, name: &str, value: &str) {
        self.values.retain(|(known, ..)| *known != key);
        self.values.push((key, name.to_owned(), value.to_owned()));
    }

    /// Adds the arguments of a command line: flags, `--flag VALUE` or `--flag=VALUE`, and at most one
    /// positional argument. A value that begins with `-` needs the second form.
    ///
    /// `positional` is the key of the positional argument. `known` maps a flag to its key and whether it
    /// takes a value. An unknown flag takes the next argument like a flag with a value, so that the pair
    /// is one error.
    pub(crate) fn add_arguments(
        &mut self,
        arguments: &[String],
        program: &str,
        positional: Option<&'static str>,
        known: impl Fn(&str) -> Option<(&'static str, bool)>,
    ) {
        let mut seen = Vec::new();
        let mut arguments = arguments.iter().map(String::as_str).peekable();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with('-') {
                if let Some(key) = positional.filter(|key| self.get(key).is_none()) {
                    self.insert(key, key, argument);
                } else {
                    let problem = format!("unexpected argument; see {program} --help");
                    self.reject(argument, None, problem);
                }
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
    }

    /// Reports what is wrong with a setting.
    pub(crate) fn reject(&mut self, name: &str, value: Option<&str>, problem: impl Into<String>) {
        let (name, value) = (name.to_owned(), value.map(ToOwned::to_owned));
        self.errors.push(SettingError { name, value, problem: problem.into() });
    }

    /// The name and the text of a value.
    pub(crate) fn get(&self, key: &str) -> Option<(&str, &str)> {
        let (_, name, value) = self.values.iter().find(|(known, ..)| *known == key)?;
        Some((name, value))
    }

    fn default(&self, key: &str) -> &'static str {
        self.defaults.iter().find(|(known, _)| *known == key).map_or("", |(_, default)| default)
    }

    /// The value as `read` understands it; an error if it does not.
    pub(crate) fn optional<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (name, text) = self.get(key)?;
        let value = read(text.trim());
        if value.is_none() {
            let (name, text) = (name.to_owned(), text.to_owned());
            self.reject(&name, Some(&text), format!("must be {expected}"));
        }
        value
    }

    /// The value as `read` understands it; the error `missing` if there is none.
    pub(crate) fn required<T>(
        &mut self,
        key: &str,
        missing: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if self.get(key).is_none() {
            self.reject(key, None, missing);
        }
        self.optional(key, expected, read)
    }

    /// The value as `read` understands it, else the default.
    pub(crate) fn or_default<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> T {
        let default = self.default(key);
        let value = self.optional(key, expected, &read).or_else(|| read(default));
        value.expect("the default is valid")
    }

    /// What to say more of a duration that cannot be read.
    pub(super) fn duration_hint(&self, key: &str) -> &'static str {
        self.get(key).map_or("", |(_, text)| parse::duration_hint(text))
    }

    /// A duration with its unit, from `min` to `max` milliseconds.
    pub(crate) fn duration(&mut self, key: &str, min: u64, max: u64) -> Duration {
        let [min, max] = [min, max].map(Duration::from_millis);
        let expected = format!(
            "a duration with its unit, such as {}, from {} to {}{}",
            self.default(key),
            parse::format_duration(min),
            parse::format_duration(max),
            self.duration_hint(key)
        );
        self.or_default(key, &expected, |text| {
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

    /// Splits a command line that has `--size VALUE`, `--json` and a positional argument; returns the
    /// positional argument, the size and the errors.
    fn split(line: &str) -> (Option<String>, Option<String>, Vec<String>) {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut values = Values::new([]);
        values.add_arguments(&arguments, "wylis", Some("NAME"), |name| match name {
            "--size" => Some(("size", true)),
            "--json" => Some(("json", false)),
            _ => None,
        });
        let [name, size] =
            ["NAME", "size"].map(|key| values.get(key).map(|(_, value)| value.to_owned()));
        (name, size, values.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_flag_takes_its_value_from_either_form() {
        for line in ["a --size 5 --json", "--size=5 a --json", "--json a --size=5"] {
            let expected = (Some("a".to_owned()), Some("5".to_owned()), vec![]);
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
    fn each_wrong_argument_is_one_error() {
        for (line, error) in [
            ("--colour", "--colour: unknown flag; see wylis --help"),
            ("--colour red", "--colour = \"red\": unknown flag; see wylis --help"),
            ("--colour=red", "--colour = \"red\": unknown flag; see wylis --help"),
            ("-s", "-s: unknown flag; see wylis --help"),
            ("--json=1", "--json = \"1\": takes no value"),
            ("--json --json", "--json: is given more than once"),
            ("--size 1 --size=2", "--size = \"2\": is given more than once"),
            ("--size", "--size: needs a value"),
            ("a b", "b: unexpected argument; see wylis --help"),
        ] {
            assert_eq!(split(line).2, [error], "{line}");
        }
    }
}
