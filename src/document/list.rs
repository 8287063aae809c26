//! The lists of documents, bounded where they are read.

use crate::bounded_list::BoundedList;

/// Most elements of one list: more than the names of any matrix, which are twice 2,500 and a few.
const MAX_LIST: usize = 16_384;

/// A list of a document.
pub(super) type List<T> = BoundedList<T, MAX_LIST>;

/// Most numbers of an element that is a list of numbers.
const MAX_NUMBERS: usize = 8;

/// A list of a few numbers: smaller than an object, and one type for all of them.
pub(super) type Numbers = BoundedList<u64, MAX_NUMBERS>;

#[cfg(test)]
mod tests {
    use wylis_harness::bounds::worst_case;

    use super::*;

    #[test]
    fn a_list_beyond_its_bound_is_not_read() {
        let read = |length: usize| {
            let text = format!("[{}0]", "0,".repeat(length - 1));
            serde_json::from_str::<List<u8>>(&text).ok().map(|list| list.0.len())
        };
        assert_eq!((read(1), read(MAX_LIST), read(MAX_LIST + 1)), (Some(1), Some(MAX_LIST), None));
        assert!(f64::from(u32::try_from(MAX_LIST).unwrap()) <= worst_case("MAX_LIST"));
    }
}
