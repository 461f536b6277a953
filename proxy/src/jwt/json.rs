//! JSON in which no two readers see different things: no name comes twice in an object. What it may
//! hold is bounded.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use weft_model::request_authentication::ClaimValue;

/// The deepest that values may be nested.
const DEEPEST: usize = 16;
/// The most values of one document.
const MOST_VALUES: usize = 2048;
/// The most members of one object.
const MOST_MEMBERS: usize = 256;

/// Members of an object, in their order.
pub(super) type Members = Vec<(Box<str>, ClaimValue)>;

/// Reads an object; `None` when it is none, or not one that everybody reads alike.
pub(super) fn read_object(text: &[u8]) -> Option<Members> {
    let values = Cell::new(MOST_VALUES);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Bounded {
        depth: DEEPEST,
        values: &values,
    };
    let value = value.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    match value {
        ClaimValue::Object(members) => Some(members),
        _ => None,
    }
}

/// A value, with what may be left of its document.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    depth: usize,
    values: &'a Cell<usize>,
}

impl<'a> Bounded<'a> {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        let depth = depth.ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = ClaimValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ClaimValue, D::Error> {
        let left = self.values.get().checked_sub(1);
        self.values
            .set(left.ok_or_else(|| D::Error::custom("too many values"))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = ClaimValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<ClaimValue, E> {
        #[allow(
            clippy::cast_precision_loss,
            reason = "one that large is compared with nothing"
        )]
        let number = || ClaimValue::Number(value as f64);
        Ok(i64::try_from(value).map_or_else(|_| number(), ClaimValue::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<ClaimValue, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(ClaimValue::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClaimValue, A::Error> {
        let inner = self.inner()?;
        let mut members = Members::new();
        while let Some(name) = map.next_key::<Box<str>>()? {
            if members.len() >= MOST_MEMBERS || members.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(
                    "a name comes twice, or there are too many",
                ));
            }
            members.push((name, map.next_value_seed(inner)?));
        }
        Ok(ClaimValue::Object(members))
    }
}
