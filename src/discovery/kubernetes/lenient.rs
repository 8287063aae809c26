//! JSON values that may have another type than expected.
//!
//! In a streaming decoder a type error ends the whole document. A [`Lenient`] value of another type is
//! skipped instead, so that a malformed item costs only that item.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use thiserror::Error;

/// Longest [`Lenient`] list; what follows is skipped. A pod has two addresses, a few owners and a
/// dozen conditions.
const MAX_ELEMENTS: usize = 64;

/// A field as found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Lenient<T> {
    /// Missing, or `null`.
    #[default]
    Absent,
    /// Of another type.
    Wrong,
    /// Of the expected type.
    Is(T),
}

/// Why an item is malformed, with the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    #[error("{0} has the wrong type")]
    Type(&'static str),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is malformed")]
    Value(&'static str),
}

impl<T> Lenient<T> {
    /// The value of a field that may be missing.
    pub(super) fn optional(self, name: &'static str) -> Result<Option<T>, Malformed> {
        match self {
            Self::Absent => Ok(None),
            Self::Wrong => Err(Malformed::Type(name)),
            Self::Is(value) => Ok(Some(value)),
        }
    }

    /// The value of a field that must not be missing.
    pub(super) fn required(self, name: &'static str) -> Result<T, Malformed> {
        self.optional(name)?.ok_or(Malformed::Missing(name))
    }
}

/// Decodes an expected type from each JSON type; `None` where the two differ.
pub(super) trait Shape: Sized {
    fn of_text(_: &str) -> Option<Self> {
        None
    }

    fn of_bool(_: bool) -> Option<Self> {
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
    fn of_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl<T: Shape> Shape for Vec<Lenient<T>> {
    fn of_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        let mut list = Self::new();
        while list.len() < MAX_ELEMENTS {
            match seq.next_element()? {
                Some(element) => list.push(element),
                None => return Ok(Some(list)),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(list))
    }
}

/// Implements [`Shape`] for structs with a derived `Deserialize`.
macro_rules! lenient_structs {
    ($($name:ty),+) => {
        $(impl $crate::discovery::kubernetes::lenient::Shape for $name {
            fn of_map<'de, A: serde::de::MapAccess<'de>>(
                map: A,
            ) -> Result<Option<Self>, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                serde::Deserialize::deserialize(map).map(Some)
            }
        })+
    };
}
pub(super) use lenient_structs;

impl<'de, T: Shape> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyType(PhantomData))
    }
}

struct AnyType<T>(PhantomData<T>);

fn is_or_wrong<T>(value: Option<T>) -> Lenient<T> {
    value.map_or(Lenient::Wrong, Lenient::Is)
}

impl<'de, T: Shape> Visitor<'de> for AnyType<T> {
    type Value = Lenient<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Lenient::Absent)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(is_or_wrong(T::of_text(text)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(is_or_wrong(T::of_bool(value)))
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
        T::of_seq(seq).map(is_or_wrong)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::of_map(map).map(is_or_wrong)
    }
}

/// Passes the elements of a list on as they arrive, so that the list is never held whole. An error
/// ends the document.
pub(super) struct ForEach<T, F>(F, PhantomData<T>);

impl<T, F: FnMut(T) -> Result<(), &'static str>> ForEach<T, F> {
    pub(super) const fn new(pass_on: F) -> Self {
        Self(pass_on, PhantomData)
    }
}

impl<'de, T, F> DeserializeSeed<'de> for ForEach<T, F>
where
    T: Deserialize<'de>,
    F: FnMut(T) -> Result<(), &'static str>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T, F> Visitor<'de> for ForEach<T, F>
where
    T: Deserialize<'de>,
    F: FnMut(T) -> Result<(), &'static str>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    /// Go writes an unset list as `null`.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element()? {
            (self.0)(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
