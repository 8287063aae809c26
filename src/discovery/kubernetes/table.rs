//! The API server's table of pods, which is what kubectl prints: a row has 0.14 KB where the object
//! has 8.8. It lacks UIDs, owners and the times of deletions, so no peer comes from it; but it tells
//! whether anything has changed since the objects were read.
//!
//! The table form:
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

use super::decode::MAX_PODS;
use super::lenient::{Lenient, made_of_a_map};

/// The columns that tell of a change. The age always changes, and so does the text of a restart.
const TELLING: [&str; 5] = ["Name", "Ready", "Status", "IP", "Node"];

/// What the rows of a list tell, summed up. Equal sums mean equal rows, in whatever order: the cache of
/// an old API server keeps none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RowSum {
    hash: u64,
    rows: usize,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Column {
    name: Lenient<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Row {
    cells: Lenient<Vec<Lenient<String>>>,
}

made_of_a_map!(Column, Row);

/// Where in a row each of [`TELLING`] is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns([usize; TELLING.len()]);

impl Columns {
    /// `None` when one of them is missing.
    pub(super) fn find(columns: &[Lenient<Column>]) -> Option<Self> {
        let mut places = [0; TELLING.len()];
        for (place, wanted) in places.iter_mut().zip(TELLING) {
            *place = columns.iter().position(
                |column| matches!(column, Lenient::Is(Column { name: Lenient::Is(name) }) if name == wanted),
            )?;
        }
        Some(Self(places))
    }

    fn hash(&self, row: &Lenient<Row>) -> Option<u64> {
        let Lenient::Is(Row { cells: Lenient::Is(cells) }) = row else { return None };
        let mut hasher = DefaultHasher::new();
        for place in self.0 {
            let Lenient::Is(text) = cells.get(place)? else { return None };
            text.hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

/// Reads the rows one by one.
pub(super) struct Rows<'a> {
    pub(super) columns: Columns,
    /// Set when there are more than we hold pods.
    pub(super) overflow: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = RowSum;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RowSum, D::Error> {
        // `null` is how Go writes a list that was never made.
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = RowSum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_unit<E>(self) -> Result<RowSum, E> {
        Ok(RowSum::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RowSum, A::Error> {
        let mut sum = RowSum::default();
        while let Some(row) = seq.next_element()? {
            let hash = self
                .columns
                .hash(&row)
                .ok_or_else(|| A::Error::custom("a row without its cells"))?;
            sum.hash = sum.hash.wrapping_add(hash);
            sum.rows += 1;
            if sum.rows > MAX_PODS {
                *self.overflow = true;
                return Err(A::Error::custom("too many rows"));
            }
        }
        Ok(sum)
    }
}
