//! Values given in the spec, read within limits.
//!
//! The schema allows any values there, however deep and however many. A reader that fails on one object fails on every list
//! that the object is in, and so for everybody; and a megabyte of small maps takes a hundred of memory. So what goes beyond
//! the limits is not read, but replaced by a mark that says so.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Greatest depth of values in values. A reader of JSON gives up at 128 in all.
const DEPTH: usize = 64;
/// Greatest number of values.
const COUNT: usize = 20_000;
/// Greatest length of all names and texts together, in bytes. They are stored with the object, its status and helm's record.
const LENGTH: usize = 256 * 1024;
/// The one key of values that were not read.
const UNREAD: &str = "coderupgrade.dev/unread";

/// Why the values were not read, as the end of a sentence that begins with the field; none if they were.
#[must_use]
pub fn unread(values: &Map<String, Value>) -> Option<&str> {
    values.get(UNREAD)?.as_str()
}

/// Reads the field.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error> {
    let left = Budget { count: Cell::new(COUNT), length: Cell::new(LENGTH), why: Cell::new(None) };
    let value = deserializer.deserialize_any(Cursor { left: &left, depth: 0 })?;
    if let Some(why) = left.why.get() {
        return Ok(Some(Map::from_iter([(UNREAD.to_owned(), why.into())])));
    }
    match value {
        Value::Null => Ok(None),
        Value::Object(values) => Ok(Some(values)),
        other => Err(D::Error::custom(format!("invalid type: {}, expected a map", kind(&other)))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "sequence",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        _ => "number",
    }
}

/// What may still be read.
struct Budget {
    count: Cell<usize>,
    length: Cell<usize>,
    why: Cell<Option<&'static str>>,
}

impl Budget {
    fn takes(&self, length: usize) {
        match (self.count.get().checked_sub(1), self.length.get().checked_sub(length)) {
            (Some(count), Some(length)) => {
                self.count.set(count);
                self.length.set(length);
            }
            (None, _) => self.why.set(Some("holds more than 20000 values")),
            (_, None) => self.why.set(Some("takes more than 256 KiB")),
        }
    }
}

/// A part of the values, and how deep it lies.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    left: &'a Budget,
    depth: usize,
}

impl Cursor<'_> {
    /// For a part of this part. What lies beyond a limit is skipped, which takes neither memory nor stack.
    fn inner(self) -> Option<Self> {
        let inner = Self { depth: self.depth + 1, ..self };
        if inner.depth > DEPTH {
            self.left.why.set(Some("is nested more than 64 levels deep"));
        }
        self.left.why.get().is_none().then_some(inner)
    }

    fn scalar(self, value: impl Into<Value>) -> Value {
        self.left.takes(0);
        value.into()
    }
}

impl<'de> DeserializeSeed<'de> for Cursor<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cursor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(self.scalar(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.scalar(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.scalar(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(self.scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        self.left.takes(value.len());
        Ok(if self.left.why.get().is_none() { value.into() } else { Value::Null })
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(self.scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(self.scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.left.takes(0);
        let mut list = Vec::new();
        loop {
            let Some(inner) = self.inner() else {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Value::Null);
            };
            match items.next_element_seed(inner)? {
                Some(item) => list.push(item),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        self.left.takes(0);
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            self.left.takes(name.len());
            match self.inner() {
                Some(inner) => drop(map.insert(name, fields.next_value_seed(inner)?)),
                None => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::api::CoderUpgrade;

    fn parse(values: &str) -> Result<CoderUpgrade, serde_json::Error> {
        let list = format!(
            r#"[{{"apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {{"name": "a"}},
                "spec": {{"values": {values}, "version": "2.31.7"}}}}]"#
        );
        Ok(serde_json::from_str::<Vec<CoderUpgrade>>(&list)?.remove(0))
    }

    fn why(values: &str) -> String {
        let upgrade = parse(values).unwrap();
        assert_eq!(upgrade.spec.version.as_deref(), Some("2.31.7"), "what follows is read");
        let values = upgrade.spec.values.unwrap();
        assert_eq!(values.len(), 1);
        unread(&values).unwrap().to_owned()
    }

    /// One such object made every list of CoderUpgrades unreadable ("recursion limit exceeded").
    #[test]
    fn values_beyond_a_limit_are_not_read_and_the_rest_is() {
        let nested = |open: &str, close: &str, depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert_eq!(why(&nested(r#"{"a":"#, "}", 9000)), "is nested more than 64 levels deep");
        assert_eq!(why(&format!(r#"{{"a": {}}}"#, nested("[", "]", 9000))), "is nested more than 64 levels deep");
        assert_eq!(why(&format!(r#"{{"a": [{}0]}}"#, r#"{"a":0},"#.repeat(COUNT))), "holds more than 20000 values");
        assert_eq!(why(&format!(r#"{{"a": "{}"}}"#, "x".repeat(LENGTH))), "takes more than 256 KiB");
        assert_eq!(why(&format!(r#"{{"{}": 1}}"#, "x".repeat(LENGTH + 1))), "takes more than 256 KiB");
    }

    #[test]
    fn what_is_no_map_is_refused() {
        assert!(parse("null").unwrap().spec.values.is_none());
        for other in ["[1]", "\"a\"", "1", "true"] {
            let error = parse(other).unwrap_err().to_string();
            assert!(error.contains("invalid type") && error.contains("expected a map"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn ordinary_values_are_read_as_they_are(
            keys in prop::collection::vec("[a-z.é\"]{0,8}", 1..6), text in any::<String>(), number in any::<i64>(), float in -1e9..1e9f64,
        ) {
            let mut value = json!({"text": text, "number": number, "float": float, "none": null, "yes": true, "list": [1, [], {}]});
            for key in keys {
                value = json!({key: value, "beside": u64::MAX});
            }
            let upgrade = parse(&value.to_string()).unwrap();
            let read: Value = serde_json::from_str(&value.to_string()).unwrap();
            prop_assert_eq!(Value::Object(upgrade.spec.values.unwrap()), read);
        }
    }
}
