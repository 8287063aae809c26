//! promtool's compact notation of a series: `0+0x19 1 2+3x4 _x5 stale`.

/// One scrape of one series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sample {
    Value(f64),
    /// The scrape failed, or the target or its series is gone.
    Stale,
    /// Not scraped.
    Blank,
}

/// The shortest run whose notation is shorter than its samples.
const RUN: usize = 3;

pub(super) fn notation(samples: &[Sample]) -> String {
    let mut words = Vec::new();
    let mut rest = samples;
    while let Some(first) = rest.first() {
        let run = run(rest);
        let taken = match first {
            Sample::Value(value) if run >= RUN => {
                let Some(Sample::Value(next)) = rest.get(1) else { break };
                words.push(format!("{value}{:+}x{}", next - value, run - 1));
                run
            }
            Sample::Value(value) => {
                words.push(value.to_string());
                1
            }
            Sample::Stale => {
                words.push("stale".to_owned());
                1
            }
            Sample::Blank => {
                words.push(if run == 1 { "_".to_owned() } else { format!("_x{run}") });
                run
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    words.join(" ")
}

/// The number of leading samples with equal steps. Fractions must be equal: a step would be rounded.
fn run(samples: &[Sample]) -> usize {
    let step = |pair: &[Sample]| match *pair {
        [Sample::Blank, Sample::Blank] => Some(0.0),
        [Sample::Value(one), Sample::Value(next)] => {
            let whole = one.fract() == 0.0 && next.fract() == 0.0;
            (whole || one == next).then_some(next - one)
        }
        _ => None,
    };
    let Some(first) = samples.get(..2).and_then(step) else { return 1 };
    1 + samples.windows(2).take_while(|pair| step(pair) == Some(first)).count()
}

#[test]
fn runs_are_compact_and_lossless() {
    use Sample::{Blank, Stale, Value};
    let values = |numbers: &[f64]| numbers.iter().copied().map(Value).collect::<Vec<_>>();
    for (samples, text) in [
        (values(&[1.0]), "1"),
        (values(&[1.0, 2.0]), "1 2"),
        (values(&[1.0, 2.0, 3.0, 3.0, 3.0, 3.0]), "1+1x2 3+0x2"),
        (values(&[5.0, 3.0, 1.0]), "5-2x2"),
        (values(&[0.1, 0.2, 0.3]), "0.1 0.2 0.3"),
        (values(&[0.1, 0.1, 0.1]), "0.1+0x2"),
        (vec![Blank, Blank, Value(1.0), Blank, Stale, Stale], "_x2 1 _ stale stale"),
    ] {
        assert_eq!(notation(&samples), text);
    }
}
