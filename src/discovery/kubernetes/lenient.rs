//! JSON fields that may have any type: the wanted one is kept, every other is consumed and marked.
//!
//! With a streaming decoder a type error ends the whole document. A field wrapped in [`Lenient`] never
//! is one, so that a malformed item costs that item alone.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field as found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Lenient<T> {
    /// Missing, or `null`.
    #[default]
    Absent,
    /// Of another type than wanted.
    Wrong,
    /// As wanted.
    Is(T),
}

/// A field of the wrong type, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrongType(pub(super) &'static str);

impl<T> Lenient<T> {
    /// The value where there is one.
    pub(super) fn optional(self, name: &'static str) -> Result<Option<T>, WrongType> {
        match self {
            Self::Absent => Ok(None),
            Self::Wrong => Err(WrongType(name)),
            Self::Is(value) => Ok(Some(value)),
        }
    }
}

/// What a wanted type can be made of; each way defaults to "not of that".
pub(super) trait Shape: Sized {
    fn of_text(_: &str) -> Option<Self> {
        None
    }

    fn of_flag(_: bool) -> Option<Self> {
        None
    }

    fn of_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn of_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl Shape for String {
    fn of_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Shape for bool {
    fn of_flag(flag: bool) -> Option<Self> {
        Some(flag)
    }
}

/// A list whose elements are loose themselves; longer than any that a pod has is cut.
impl<T: Shape> Shape for Vec<Lenient<T>> {
    fn of_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        /// A pod has two addresses, some owners, a dozen conditions.
        const MOST: usize = 64;
        let mut list = Self::new();
        while list.len() < MOST {
            match seq.next_element()? {
                Some(element) => list.push(element),
                None => return Ok(Some(list)),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(list))
    }
}

/// A struct with a derived `Deserialize` is made of a map.
macro_rules! made_of_a_map {
    ($($name:ty),+) => {
        $(impl $crate::discovery::kubernetes::lenient::Shape for $name {
            fn of_map<'de, A: serde::de::MapAccess<'de>>(
                map: A,
            ) -> Result<Option<Self>, A::Error> {
                $crate::discovery::kubernetes::lenient::struct_of_map(map).map(Some)
            }
        })+
    };
}
pub(super) use made_of_a_map;

pub(super) fn struct_of_map<'de, T, A>(map: A) -> Result<T, A::Error>
where
    T: Deserialize<'de>,
    A: MapAccess<'de>,
{
    T::deserialize(MapAccessDeserializer::new(map))
}

impl<'de, T: Shape> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(PhantomData))
    }
}

struct Any<T>(PhantomData<T>);

fn found<T>(value: Option<T>) -> Lenient<T> {
    value.map_or(Lenient::Wrong, Lenient::Is)
}

impl<'de, T: Shape> Visitor<'de> for Any<T> {
    type Value = Lenient<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Lenient::Absent)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(found(T::of_text(text)))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(found(T::of_flag(flag)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Lenient::Wrong)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Lenient::Wrong)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Lenient::Wrong)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        T::of_seq(seq).map(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::of_map(map).map(found)
    }
}
