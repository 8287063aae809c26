//! JSON values that may have another type than expected.
//!
//! In a streaming decoder a type error ends the whole document. A [`Lenient`] value takes any type
//! instead, and its reader checks the type, so that a malformed item costs only that item.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use thiserror::Error;

/// Longest list in an item; what follows is dropped. A pod has two addresses, a few owners and a
/// dozen conditions.
const MAX_ELEMENTS: usize = 64;
/// Longest text that is kept: names have up to 253 bytes, all other used values fewer. So an item takes
/// at most some 100 KB.
const MAX_TEXT: usize = 256;

/// What is decoded of a value; the rest is skipped. It is data, since the derived decoders of ten
/// struct types would add 34 KB to the binary.
pub(super) enum Shape {
    /// A text or a flag.
    Plain,
    /// A list of such elements.
    List(&'static Self),
    /// These fields of an object.
    Object(&'static [(&'static str, Self)]),
}

/// A value as found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lenient {
    Null,
    Text(String),
    /// A text beyond [`MAX_TEXT`].
    LongText,
    Flag(bool),
    List(Vec<Self>),
    Object(Vec<(&'static str, Self)>),
    /// A number, or a list or an object where the shape has none.
    Other,
}

/// Why an item is malformed, with the path of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    #[error("{0} has the wrong type")]
    Type(&'static str),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is malformed")]
    Value(&'static str),
}

impl Lenient {
    /// The value at a path such as `metadata.uid`; `None` where a field is missing or `null`. In an
    /// element of a list the part up to `[].` only serves the error's text.
    fn at(&self, path: &'static str) -> Result<Option<&Self>, Malformed> {
        let relative = path.rsplit_once("[].").map_or(path, |(_, relative)| relative);
        let mut value = self;
        for name in relative.split('.') {
            let Self::Object(fields) = value else { return Err(Malformed::Type(path)) };
            value = match fields.iter().find(|(known, _)| *known == name) {
                None | Some((_, Self::Null)) => return Ok(None),
                Some((_, value)) => value,
            };
        }
        Ok(Some(value))
    }

    /// A text that may be missing.
    pub(super) fn text(&self, path: &'static str) -> Result<Option<&str>, Malformed> {
        match self.at(path)? {
            None => Ok(None),
            Some(Self::Text(text)) => Ok(Some(text)),
            Some(Self::LongText) => Err(Malformed::Value(path)),
            Some(_) => Err(Malformed::Type(path)),
        }
    }

    /// A text that must not be missing.
    pub(super) fn required(&self, path: &'static str) -> Result<&str, Malformed> {
        self.text(path)?.ok_or(Malformed::Missing(path))
    }

    /// A flag; `false` where it is missing.
    pub(super) fn flag(&self, path: &'static str) -> Result<bool, Malformed> {
        match self.at(path)? {
            None => Ok(false),
            Some(Self::Flag(flag)) => Ok(*flag),
            Some(_) => Err(Malformed::Type(path)),
        }
    }

    /// A list; empty where it is missing.
    pub(super) fn list(&self, path: &'static str) -> Result<&[Self], Malformed> {
        match self.at(path)? {
            None => Ok(&[]),
            Some(Self::List(list)) => Ok(list),
            Some(_) => Err(Malformed::Type(path)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &'static Shape {
    type Value = Lenient;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Lenient, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &'static Shape {
    type Value = Lenient;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Lenient, E> {
        Ok(Lenient::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Lenient, E> {
        let is_long = text.len() > MAX_TEXT;
        Ok(if is_long { Lenient::LongText } else { Lenient::Text(text.to_owned()) })
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Lenient, E> {
        Ok(Lenient::Flag(flag))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Lenient, E> {
        Ok(Lenient::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Lenient, E> {
        Ok(Lenient::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Lenient, E> {
        Ok(Lenient::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lenient, A::Error> {
        let Shape::List(shape) = *self else {
            return IgnoredAny.visit_seq(seq).map(|_| Lenient::Other);
        };
        let mut list = Vec::new();
        while let Some(element) = seq.next_element_seed(shape)? {
            if list.len() < MAX_ELEMENTS {
                list.push(element);
            }
        }
        Ok(Lenient::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lenient, A::Error> {
        let Shape::Object(shapes) = *self else {
            return IgnoredAny.visit_map(map).map(|_| Lenient::Other);
        };
        let mut fields: Vec<(&str, _)> = Vec::new();
        while let Some(known) = map.next_key_seed(KeyOf(shapes))? {
            let Some((name, shape)) = known else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if fields.iter().any(|(known, _)| known == name) {
                return Err(A::Error::custom("a field occurs twice"));
            }
            fields.push((name, map.next_value_seed(shape)?));
        }
        Ok(Lenient::Object(fields))
    }
}

/// Finds a key among the fields of an object, without a copy of it.
struct KeyOf(&'static [(&'static str, Shape)]);

impl<'de> DeserializeSeed<'de> for KeyOf {
    type Value = Option<&'static (&'static str, Shape)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf {
    type Value = Option<&'static (&'static str, Shape)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|(known, _)| *known == key))
    }
}

/// Passes the elements of a list on as they arrive, so that the list is never held whole. An error
/// ends the document.
pub(super) struct ForEach<'a> {
    pub(super) shape: &'static Shape,
    pub(super) pass_on: &'a mut dyn FnMut(Lenient) -> Result<(), &'static str>,
}

impl<'de> DeserializeSeed<'de> for ForEach<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ForEach<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    /// Go writes an unset list as `null`.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element_seed(self.shape)? {
            (self.pass_on)(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wylis_harness::bounds::worst_case;

    use super::*;

    const SHAPE: Shape = Shape::List(&Shape::Plain);

    fn decoded(text: &str) -> Vec<Lenient> {
        let mut json = serde_json::Deserializer::from_str(text);
        let Lenient::List(list) = (&SHAPE).deserialize(&mut json).unwrap() else {
            panic!("{text}")
        };
        list
    }

    #[test]
    fn long_texts_and_lists_are_not_kept() {
        let text = |length: usize| format!("[\"{}\"]", "x".repeat(length));
        assert_eq!(decoded(&text(MAX_TEXT)), [Lenient::Text("x".repeat(MAX_TEXT))]);
        assert_eq!(decoded(&text(MAX_TEXT + 1)), [Lenient::LongText]);
        let kept = decoded(&format!("[{}0]", "0,".repeat(1000))).len();
        let float = |bound: usize| f64::from(u32::try_from(bound).unwrap());
        assert!(float(MAX_TEXT) <= worst_case("MAX_TEXT"));
        assert!(float(kept) <= worst_case("MAX_ELEMENTS"));
    }
}
