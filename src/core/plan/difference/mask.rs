//! What of a difference may be shown.

use serde_json::{Map, Value};

use crate::core::text::confidential;
use crate::core::text::confidential::SHORTEST_SECRET;
use crate::core::text::redact;
use crate::core::text::redact::Redactor;

/// Longest text of one value, in bytes: a difference is read by people, and lies in a Secret of limited size.
const TEXT_LIMIT: usize = 200;

/// Knows the secrets in the old and in the new values.
pub struct Mask(Redactor);

impl Mask {
    /// Hides what stands in these values, wherever the chart may have put it.
    pub fn new(old: &Map<String, Value>, new: &Map<String, Value>) -> Self {
        let mut redactor = Redactor::default();
        let values = old.iter().chain(new);
        redactor.hide(values.flat_map(|(key, value)| confidential::secrets_under(key, value)));
        Self(redactor)
    }

    /// A text without secrets, and not too long.
    pub fn text(&self, text: &str) -> String {
        redact::head(&self.0.clean(text), TEXT_LIMIT)
    }

    /// A name in a path. Those of API fields are words of letters and nobody's secret; keys of maps and of list items can be
    /// anything.
    pub fn name(&self, name: &str) -> String {
        if name.chars().all(|c| c.is_ascii_alphabetic()) { name.to_owned() } else { self.text(name) }
    }

    /// A value of an object: as it is, but for the secrets in it.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(map) => map.iter().map(|(key, value)| (self.name(key), self.value(value))).collect(),
            Value::Number(number) => {
                let (shown, clean) = (number.to_string(), self.text(&number.to_string()));
                if clean == shown { value.clone() } else { clean.into() }
            }
            other => other.clone(),
        }
    }

    /// A value that a person has given to the release, if it may be shown: it names something public, or is too short to be
    /// a secret.
    pub fn given(&self, key: &str, value: &Value) -> Option<Value> {
        match value {
            Value::Null => None,
            Value::Bool(_) => Some(value.clone()),
            Value::Number(number) => confidential::is_setting(key, number).then(|| value.clone()),
            Value::String(text) => confidential::names_public(key, text).then(|| self.text(text).into()),
            Value::Array(items) => items.iter().map(|item| self.given(key, item)).collect(),
            Value::Object(map) => map.is_empty().then(|| value.clone()),
        }
    }
}

/// Whether the value of an environment variable may be a secret: all but the shortest may.
pub fn is_hidden_variable(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > SHORTEST_SECRET,
        Value::Number(number) => number.to_string().len() > SHORTEST_SECRET,
        _ => false,
    }
}
