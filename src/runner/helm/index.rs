//! The index of a repository.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::FailureClass;
use crate::core::report::Problem;
use crate::core::text::bounded;
use crate::core::text::yaml;
use crate::core::text::yaml::Limits;

/// Most nodes of an index: some hold thousands of versions of hundreds of charts. Its size is limited as well.
const NODES: usize = 4_000_000;

/// The versions of one chart.
#[derive(Debug, Default)]
pub struct ChartIndex {
    /// As the repository spells them.
    pub versions: Vec<String>,
    urls: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ChartEntry {
    #[serde(default)]
    version: String,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl ChartIndex {
    /// Reads what an index says of a chart.
    pub fn read(bytes: &[u8], chart: &str) -> Result<Self, Box<Problem>> {
        let invalid = |why: &str| {
            let message = format!("the index.yaml of the repository cannot be read: {why}");
            Problem::new(FailureClass::RepositoryUnreachable, message).field("spec.chart.repository").boxed()
        };
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("it is no text in UTF-8"))?;
        // Of all the charts, only this one takes memory, and of its versions only what is used.
        let (keys, fields) = (&["apiVersion", "entries"][..], &["version", "urls"][..]);
        let limits = Limits { depth: bounded::DEPTH, keys, below: Some(chart), fields };
        let mut document = yaml::read(text, limits, &mut NODES.clone()).map_err(|why| invalid(&why.to_string()))?;
        // Every index has it; most other documents have not.
        if !document["apiVersion"].is_string() {
            return Err(invalid("it has no apiVersion"));
        }
        let entries = match document["entries"].take() {
            Value::Null => Map::new(),
            Value::Object(entries) => entries,
            _ => return Err(invalid("its entries are no map")),
        };
        let mut index = Self::default();
        for entries in entries.into_iter().filter_map(|(name, entries)| (name == chart).then_some(entries)) {
            let entries = match entries {
                Value::Null => Vec::new(),
                Value::Array(entries) => entries,
                _ => return Err(invalid("its entry is no list of versions")),
            };
            for entry in entries.into_iter().filter(|entry| !entry.is_null()) {
                let entry: ChartEntry = serde_json::from_value(entry).map_err(|why| invalid(&why.to_string()))?;
                let url = entry.urls.and_then(|urls| urls.into_iter().next());
                if let Some(url) = url.filter(|_| !entry.version.is_empty()) {
                    index.versions.push(entry.version.clone());
                    index.urls.entry(entry.version).or_insert(url);
                }
            }
        }
        Ok(index)
    }

    /// Where a version lies: an address, or the part of one below the repository's.
    pub fn url(&self, version: &str) -> Option<&str> {
        self.urls.get(version).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use indoc::indoc;

    use super::*;

    #[test]
    fn versions_and_addresses_are_read_and_what_is_broken_is_left_out() {
        let text = indoc! {"
            apiVersion: v1
            generated: \"x\"#note
            entries:
              coder:
              - version: 2.31.7
                name: coder
                urls: [coder-2.31.7.tgz, elsewhere.tgz]
                dependencies: [{name: x}]
              - version: 2.30.0
              -
              - {urls: [a]}
              other:
              - {version: 1.0.0, urls: [b]}
              none:
        "};
        let index = ChartIndex::read(text.as_bytes(), "coder").unwrap();
        assert_eq!(index.versions, ["2.31.7"]);
        assert_eq!((index.url("2.31.7"), index.url("2.30.0")), (Some("coder-2.31.7.tgz"), None));
        assert!(ChartIndex::read(text.as_bytes(), "none").unwrap().versions.is_empty());
    }

    #[test]
    fn a_page_of_a_website_is_no_index() {
        for text in ["<!DOCTYPE html><html><body>Sign in: here</body></html>", "- a\n", "entries: 5\n", "\u{0}"] {
            let problem = ChartIndex::read(text.as_bytes(), "coder").unwrap_err();
            assert!(problem.message.contains("index.yaml"), "{}", problem.message);
        }
    }
}
