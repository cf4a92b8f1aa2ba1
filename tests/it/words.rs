//! Names and texts keep to the terms of Kubernetes and Helm: no metaphors of our own in the code, the docs and the samples.

use std::path::Path;

use crate::common::files;

/// What is said in other words, and how.
const WORDS: &[(&str, &str)] = &[
    ("anew", "again"),
    ("astray", "edited by hand"),
    ("badly", "failed"),
    ("by half", "partially"),
    ("culprit", "the failing pod"),
    ("deed", "action"),
    ("ear", "log"),
    ("glimpse", "metadata"),
    ("half gone", "interrupted"),
    ("journey", "upgrade path"),
    ("ladder", "escalation"),
    ("lend", "write temporarily"),
    ("lent", "temporary"),
    ("on record", "recorded"),
    ("put back", "restored"),
    ("put off", "postponed"),
    ("rung", "repair"),
    ("scene", "context"),
    ("stranger", "an object of others"),
    ("witness", "diagnosis"),
];

/// What may follow "a helm": helm is a program, and what runs is a process.
const AFTER_A_HELM: &[&str] = &["chart", "client", "command", "install", "process", "release", "repository", "upgrade"];

/// The words of a text in lower case, each with its line. Names fall apart into their words; a lifetime keeps its mark.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (line, text) in text.lines().enumerate() {
        for name in text.split(|c: char| !c.is_alphanumeric() && c != '\'') {
            let mut word = String::new();
            for c in name.chars() {
                if c.is_uppercase() && word.ends_with(char::is_lowercase) {
                    words.push((line + 1, std::mem::take(&mut word).to_lowercase()));
                }
                word.push(c);
            }
            words.extend((!word.is_empty()).then(|| (line + 1, word.to_lowercase())));
        }
    }
    words
}

/// The first place where a text says one of the words, and what it should say instead.
fn odd(text: &str) -> Option<(usize, String)> {
    let words = words(text);
    let is = |at: usize, wanted: &str| {
        words.get(at).is_some_and(|(_, word)| word == wanted || word.strip_suffix('s') == Some(wanted))
    };
    let said = |at: usize, wanted: &str| wanted.split(' ').enumerate().all(|(offset, part)| is(at + offset, part));
    (0..words.len()).find_map(|at| {
        let instead = WORDS.iter().find(|(word, _)| said(at, word)).map(|(word, other)| format!("{word}: say {other}"));
        let helm = words[at].1 == "a" && is(at + 1, "helm") && !AFTER_A_HELM.iter().any(|word| is(at + 2, word));
        Some((words[at].0, instead.or_else(|| helm.then(|| "a helm: say a helm process".to_owned()))?))
    })
}

#[test]
fn names_and_texts_have_no_metaphors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in ["src", "docs", "README.md", "deploy", "crds"].iter().flat_map(|path| files(&root.join(path))) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if let Some((line, instead)) = odd(&text) {
            panic!("{}:{line} has the word {instead}", path.display());
        }
    }
}

#[test]
fn words_are_found_in_names_and_sentences() {
    for text in ["fn put_back()", "struct LadderRung;", "It is put\nback.", "// Deeds", "the lock of a helm that lives"]
    {
        assert!(odd(text).is_some(), "{text}");
    }
    for text in [
        "helm: &'a Helm,",
        "a helm process",
        "a helm chart",
        "gone, as helm recreates it",
        "years of learning",
        "a helmet",
    ] {
        assert_eq!(odd(text), None, "{text}");
    }
}
