//! Parses single values: durations, histogram bounds, log filters. Pure.

use std::time::Duration;

/// The crates that log. env_logger takes any word for a module, so that a misspelt level would silence
/// everything: a filter may name no other crates.
pub(super) const LOGGING_CRATES: [&str; 5] = ["wylis", "rustls", "tiny_http", "ureq", "ureq_proto"];

/// A duration with its unit: `500ms`, `10s`, `1.5s`, `2m`, `1h`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if number.is_empty() || !number.bytes().all(plain) {
        return None;
    }
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    // Rounded to the millisecond, because 0.1 has no exact binary fraction.
    let milliseconds = (number.parse::<f64>().ok()? * seconds * 1000.0).round();
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

/// What to say more of a text that has a space or several units, and so is no duration.
pub(super) fn duration_hint(text: &str) -> &'static str {
    let units = text.split(|letter: char| !letter.is_ascii_alphabetic());
    let is_compound = units.filter(|unit| !unit.is_empty()).count() > 1;
    if is_compound || text.trim().contains(char::is_whitespace) {
        ": one number and one unit, without a space"
    } else {
        ""
    }
}

/// Formats a duration in the largest unit that is exact.
pub(crate) fn format_duration(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".to_owned(),
        hours if hours % 3_600_000 == 0 => format!("{}h", hours / 3_600_000),
        minutes if minutes % 60_000 == 0 => format!("{}m", minutes / 60_000),
        seconds if seconds % 1_000 == 0 => format!("{}s", seconds / 1_000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

/// Positive bounds in seconds, in ascending order, separated by commas.
pub(super) fn buckets(text: &str) -> Option<Vec<f64>> {
    let bounds: Vec<f64> =
        text.split(',').map(|bound| bound.trim().parse().ok()).collect::<Option<_>>()?;
    let positive = bounds.iter().all(|bound| bound.is_finite() && *bound > 0.0);
    let ascending = bounds.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
    (positive && ascending).then_some(bounds)
}

/// Whether env_logger can parse a filter that names only levels and modules of [`LOGGING_CRATES`].
pub(super) fn is_log_filter(text: &str) -> bool {
    let directives = text.split('/').next().unwrap_or_default();
    let mut directives = directives.split(',').map(str::trim).filter(|one| !one.is_empty());
    let known = directives.all(|directive| match directive.split_once('=') {
        None if directive.parse::<log::LevelFilter>().is_ok() => true,
        None => is_of_logging_crate(directive),
        Some((module, _)) => is_of_logging_crate(module),
    });
    known && env_filter::Builder::new().try_parse(text).is_ok()
}

fn is_of_logging_crate(module: &str) -> bool {
    LOGGING_CRATES.contains(&module.split("::").next().unwrap_or_default())
}

/// Whether a text is a DNS label (RFC 1123), as the name of a namespace must be.
pub(super) fn is_dns_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        let good =
            [("500ms", 500), ("10s", 10_000), ("1.5s", 1_500), ("0.1s", 100), ("2m", 120_000)];
        for (text, milliseconds) in good {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in [
            "",
            "10",
            "s",
            "10 s",
            "-1s",
            "1e3s",
            "10d",
            "1.2.3s",
            "١s",
            "99999999999999999999999h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_duration_is_formatted_as_a_user_would_write_it() {
        for text in ["0s", "1500ms", "10s", "2m", "1h"] {
            assert_eq!(format_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_filter_may_name_levels_and_modules_that_log() {
        for good in ["info", "OFF", "wylis=debug, warn", "wylis::gate,ureq=error", "info/probe"] {
            assert!(is_log_filter(good), "{good}");
        }
        for bad in ["inof", "wylis=inof", "wyliss=debug", "warn,hyper", "=debug", "info=", "a/b/c"]
        {
            assert!(!is_log_filter(bad), "{bad}");
        }
    }

    #[test]
    fn bounds_must_be_positive_and_ascending() {
        assert_eq!(buckets("0.1, 1,3"), Some(vec![0.1, 1.0, 3.0]));
        for bad in ["", "1,1", "2,1", "0,1", "-1,1", "nan", "inf", "1,,2"] {
            assert_eq!(buckets(bad), None, "{bad}");
        }
    }
}
