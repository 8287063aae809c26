//! The API server's table of pods, which kubectl prints: a row has 0.14 KB, a pod 8.8 KB.
//!
//! Rows lack UIDs, owners and deletion times, so no peer comes from them. They only show whether
//! anything has changed since the last list of whole pods. The format:
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::lenient::Lenient;
use super::lenient::Shape::{self, List, Object, Plain};
use super::pods::MAX_PODS;

/// The columns that show a change. The age changes all the time, the number of restarts contains one.
const COLUMNS: [&str; 5] = ["Name", "Ready", "Status", "IP", "Node"];

/// The used fields of the column definitions and of a row.
pub(super) const DEFINITIONS: Shape = List(&Object(&[("name", Plain)]));
pub(super) const ROW: Shape = Object(&[("cells", List(&Plain))]);

/// A digest of the rows. Equal digests mean equal rows in any order, since the cache of an old API
/// server keeps none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TableDigest {
    hash: u64,
    pub(super) rows: usize,
}

/// The places of [`COLUMNS`] in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnPlaces([usize; COLUMNS.len()]);

impl ColumnPlaces {
    /// `None` when a column is missing.
    pub(super) fn find(definitions: &Lenient) -> Option<Self> {
        let Lenient::List(columns) = definitions else { return None };
        let mut places = [0; COLUMNS.len()];
        for (place, expected) in places.iter_mut().zip(COLUMNS) {
            let is_expected = |column: &Lenient| column.text("name") == Ok(Some(expected));
            *place = columns.iter().position(is_expected)?;
        }
        Some(Self(places))
    }

    fn hash(&self, row: &Lenient) -> Option<u64> {
        let cells = row.list("cells").ok()?;
        let mut hasher = DefaultHasher::new();
        for place in self.0 {
            let Lenient::Text(text) = cells.get(place)? else { return None };
            text.hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

impl TableDigest {
    /// Adds a row.
    ///
    /// # Errors
    /// When the row lacks one of the columns, or there are too many rows.
    pub(super) fn add(&mut self, places: &ColumnPlaces, row: &Lenient) -> Result<(), &'static str> {
        let hash = places.hash(row).ok_or("a row without its cells")?;
        self.hash = self.hash.wrapping_add(hash);
        self.rows += 1;
        if self.rows > MAX_PODS { Err("too many rows") } else { Ok(()) }
    }
}
