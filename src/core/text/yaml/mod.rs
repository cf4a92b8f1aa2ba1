//! YAML as helm and the API machinery of Kubernetes read it.
//!
//! Both read with `sigs.k8s.io/yaml`: a scanner of YAML 1.1 that was made after libyaml, and its own ideas of what a plain
//! word means (`yes` is a truth, `0640` is octal, `1e99999` is a text). A reader of YAML 1.2 refuses some of what they accept, and
//! takes some of it for something else. So the scanner here is a libyaml as well, and `scalar` gives words the same
//! meanings; `tests/it/plan/yaml.rs` compares both with the real helm.

mod compose;
mod scalar;
mod scan;
#[cfg(test)]
mod tests;

use serde_json::Value;

use self::compose::Composer;
pub use self::compose::Limits;

/// Text that cannot be read. Nothing of the text is quoted: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// Nobody reads that as YAML, helm included.
    #[error("line {line}: {problem}")]
    Malformed {
        /// Line in the text, from 1 on.
        line: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// It holds more values than are allowed, those that aliases repeat included.
    #[error("it holds too many values")]
    TooMany,
}

/// Reads the first document of a text; null if there is none. The values that it holds are taken off `left`, how many may
/// still be read, whether it can be read to its end or not.
pub fn read(text: &str, limits: Limits<'_>, left: &mut usize) -> Result<Value, YamlError> {
    let mut composer = Composer::new(text, limits, *left);
    let read = composer.document();
    *left = composer.left();
    read
}

/// The documents of a text. A line that begins with `---` always separates them, as for helm, which cut the templates there
/// before it wrote the manifest.
#[must_use]
pub fn split(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix("---") {
            documents.push(&text[start..at]);
            start = at + line.len() - rest.trim_start().len();
        }
        at += line.len();
    }
    documents.push(&text[start..]);
    documents.retain(|document| !document.trim().is_empty());
    documents
}
