//! Lists as they are read, within a bound: an element may take far less in a document than in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Most elements of one list: more than the names of any matrix, which are twice 2,500 and a few.
const MAX_LIST: usize = 16_384;

/// A list of at most [`MAX_LIST`] elements, where it is read.
pub(super) struct List<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    if list.len() == MAX_LIST {
                        return Err(A::Error::custom("too many elements"));
                    }
                    list.push(element);
                }
                Ok(List(list))
            }
        }

        input.deserialize_seq(Elements(PhantomData))
    }
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(output)
    }
}

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
