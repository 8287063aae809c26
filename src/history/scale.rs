//! Counts and times in few bits: exact where they are small, then in steps of a constant ratio.

use std::time::Duration;

/// A scale whose codes stand for the numbers of a table, in ascending order.
pub(super) struct Scale<const CODES: usize>([u32; CODES]);

/// Probes of a cell in 7 bits: exact up to 63, then within 10 %.
pub(super) const PROBES: Scale<128> = Scale::new(0, 63, 110);
/// Failed probes in 6 bits: exact up to 40, then within 35 %; the last code stands for all.
pub(super) const FAILURES: Scale<63> = Scale::new(0, 40, 135);
/// Probes that needed a retransmit in 5 bits: exact up to 19, then within a factor of 2; the last code stands for
/// all.
pub(super) const RETRANSMITS: Scale<31> = Scale::new(0, 19, 200);
/// Times in 7 bits, in microseconds, from 50 µs to 11 s in steps of 10.3 %; code 0 stands for none.
const MICROSECONDS: Scale<127> = Scale::new(50, 50, 0);
/// Number of codes of times, the one for none included.
pub(super) const TIME_CODES: usize = 128;

impl<const CODES: usize> Scale<CODES> {
    /// From `first` on, in steps of 1 up to `exact`, then of `percent` of the number before; 0 stands for
    /// 110.3 %.
    const fn new(first: u32, exact: u32, percent: u64) -> Self {
        let mut table = [first; CODES];
        let (mut code, mut value) = (1, first as u64);
        while code < CODES {
            value = match (value < exact as u64, percent) {
                (true, _) => value + 1,
                // Rounded up, or small numbers would not grow.
                (false, 0) => (value * 1103).div_ceil(1000),
                (false, percent) => (value * percent).div_ceil(100),
            };
            #[expect(clippy::cast_possible_truncation, reason = "the largest is below 2^27")]
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
            {
                table[code] = value as u32;
            }
            code += 1;
        }
        Self(table)
    }

    /// The code of the largest number of the scale that is not above `number`.
    pub(super) fn code(&self, number: u32) -> u8 {
        let after = self.0.partition_point(|value| *value <= number);
        u8::try_from(after.saturating_sub(1)).unwrap_or(u8::MAX)
    }

    /// The number of a code; of one beyond the scale, its largest.
    pub(super) fn number(&self, code: u8) -> u32 {
        self.0.get(usize::from(code)).or(self.0.last()).copied().unwrap_or_default()
    }
}

/// The code of a time, the nearest one; 0 for none.
pub(super) fn time_code(time: Option<Duration>) -> u8 {
    let Some(time) = time else { return 0 };
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    1 + MICROSECONDS.code(micros.saturating_add(micros / 20))
}

/// The time of a code; `None` of 0.
pub(super) fn time(code: u8) -> Option<Duration> {
    let code = code.checked_sub(1)?;
    Some(Duration::from_micros(MICROSECONDS.number(code).into()))
}
