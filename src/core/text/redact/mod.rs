//! Keeps secrets out of every text that leaves the program.
//!
//! Two things are hidden: what is known to be a secret ([`Redactor::hide`]; [`super::confidential`] says which values are),
//! in whatever spelling a program repeats it, and what is a secret by the way it is written (`pattern`): keys, tokens,
//! passwords in URLs and headers, whoever they belong to.

mod cut;
mod decode;
mod identifiers;
mod index;
mod parts;
mod pattern;
mod url;
mod view;

#[cfg(test)]
mod tests;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::cut::{head, tail};
use self::identifiers::is_identifier;
use self::index::SecretIndex;
use self::view::View;
use super::confidential::SHORTEST_SECRET;

/// What stands in the place of a secret.
pub const MASK: &str = "[redacted]";

/// Spellings within spellings that are undone: base64 of a URL-encoded text in JSON.
const DEPTH: usize = 3;

/// Most bytes of secrets that a text is searched for; the values of a release fit into a Secret of 1 MiB.
const MOST: usize = 64 << 20;

/// Knows the secrets of a step. Grows while the step reads values and credentials.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    index: SecretIndex,
    /// There are more secrets than it can know.
    overflown: bool,
}

/// A text without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// The text.
    pub text: String,
    /// It ends in the middle of a secret: what follows is to be cleaned together with it.
    pub open: bool,
}

impl Redactor {
    /// Hides these strings from now on, with every part of them that is a secret by itself: a password in a URL, the lines
    /// of a file, what a text is the base64 of.
    pub fn hide(&mut self, secrets: impl IntoIterator<Item = String>) {
        let mut bytes = self.index.bytes();
        let parts = secrets.into_iter().flat_map(|secret| parts::of(&secret));
        let fitting: Vec<String> = parts
            .take_while(|part| {
                bytes += part.len();
                bytes <= MOST
            })
            .collect();
        self.overflown |= bytes > MOST;
        self.index.add(fitting, SHORTEST_SECRET + 1);
    }

    /// The text with every secret replaced by [`MASK`].
    pub fn clean(&self, text: &str) -> String {
        self.clean_after("", text).text
    }

    /// The same for a text that follows another one which ended in the middle of a secret.
    pub fn clean_after(&self, before: &str, text: &str) -> Cleaned {
        if self.overflown {
            return Cleaned { text: MASK.to_owned(), open: false };
        }
        let joined = format!("{before}{text}");
        let mut hits: Vec<(usize, usize)> =
            pattern::found(&joined).into_iter().map(|hit| (hit.start, hit.end)).collect();
        let view = View::of(&joined);
        let begun = self.edges(&view, &mut hits);
        self.search(&view, DEPTH, &mut hits);
        let (start, open) = (before.len(), begun || pattern::is_open(&joined));
        let hits = hits.into_iter().filter(|(_, end)| *end > start).map(|(from, to)| (from.max(start), to));
        Cleaned { text: masked(&joined, start, hits.collect()), open }
    }

    /// The same with every text in it cleaned, but for identifiers (`is_identifier`).
    pub fn cleaned<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<T, serde_json::Error> {
        let mut document = serde_json::to_value(value)?;
        self.clean_under(("", ""), &mut document);
        serde_json::from_value(document)
    }

    fn clean_under(&self, (parent, key): (&str, &str), value: &mut Value) {
        match value {
            Value::String(text) if !is_identifier(parent, key) => *text = self.clean(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.clean_under((parent, key), item)),
            Value::Object(map) => map.iter_mut().for_each(|(name, value)| self.clean_under((key, name), value)),
            _ => {}
        }
    }

    fn search(&self, view: &View, depth: usize, hits: &mut Vec<(usize, usize)>) {
        for at in 0..view.bytes().len() {
            let length = self.index.length_at(view, at);
            if length > 0 {
                hits.push(view.spans(at, at + length));
            }
        }
        if depth > 0 && self.index.bytes() > 0 && (depth == DEPTH || decode::is_text(view)) {
            for decoded in decode::all(view) {
                self.search(&decoded, depth - 1, hits);
            }
        }
    }

    /// Parts of secrets at the edges of lines, where texts are cut and wrapped. Whether the text ends with one.
    fn edges(&self, view: &View, hits: &mut Vec<(usize, usize)>) -> bool {
        let mut begun = false;
        let whole = view.bytes().len();
        for (start, end) in view.lines() {
            if let Some(from) = self.index.begun_at(view, end) {
                hits.push(view.spans(from, end));
                begun = end == whole;
            }
            if let Some(to) = self.index.ended_at(view, start, if start == 0 { whole } else { end }) {
                hits.push(view.spans(start, to));
            }
        }
        begun
    }
}

/// The text from `at` on with these parts masked. Parts that overlap or touch are one.
fn masked(text: &str, mut at: usize, mut hits: Vec<(usize, usize)>) -> String {
    hits.sort_unstable();
    let mut clean = String::with_capacity(text.len() - at);
    let mut ended = None;
    for (start, end) in hits {
        if end <= at {
            continue;
        }
        if ended.is_none_or(|ended| start > ended) {
            clean.push_str(&text[at..start]);
            clean.push_str(MASK);
        }
        at = end;
        ended = Some(end);
    }
    clean.push_str(&text[at..]);
    clean
}
