//! The wrappers around a cause: what helm was about, and what it did then.

use crate::api::FailureClass;

/// What helm did about a failure. The failure follows the last of these.
const OUTER: &[&str] = &[
    "has been rolled back due to atomic being set: ",
    "has been rolled back due to rollback-on-failure being set: ",
    "has been uninstalled due to atomic being set: ",
    "has been uninstalled due to rollback-on-failure being set: ",
    "UPGRADE FAILED: ",
    "INSTALLATION FAILED: ",
];

/// What helm was about when the API server answered. They begin a part, and can stand inside of each other.
const INNER: &[(&str, &str)] = &[
    ("failed to create resource: ", ""),
    ("failed to replace object: ", ""),
    ("rendered manifests contain a resource that already exists. ", ""),
    ("unable to continue with update: ", ""),
    ("unable to continue with install: ", ""),
    ("could not get information about the resource ", ": "),
    ("server-side apply failed for object ", ": "),
    ("cannot patch ", ": "),
];

/// What helm did about a failure, and failed in that, too.
pub const SECOND: &[(&str, FailureClass)] = &[
    ("an error occurred while rolling back the release. original upgrade error:", FailureClass::RollbackFailed),
    ("an error occurred while uninstalling the release. original install error:", FailureClass::UninstallFailed),
];

/// How the text of such a second failure begins.
const SECOND_WORDS: &[&str] = &[
    "no ",
    "original object ",
    "unable to ",
    "release ",
    "release: ",
    "uninstallation completed ",
    "cannot patch ",
    "server-side apply failed ",
    "conflict occurred ",
    "failed to ",
    "resource ",
    "context ",
    "timed out ",
    "another operation ",
    "current release manifest ",
    "pre-rollback hooks failed",
    "post-rollback hooks failed",
    "kubernetes cluster unreachable",
    "query: ",
    "update: ",
    "create: ",
];

/// The text after the wrappers of the whole.
pub fn outer(text: &str) -> &str {
    let after = |wrapper: &&str| text.rfind(*wrapper).map(|at| at + wrapper.len());
    let text = OUTER.iter().filter_map(after).max().map_or(text, |at| &text[at..]).trim();
    text.strip_prefix("Error: ").unwrap_or(text)
}

/// Two failures in one text: of the change, and of what helm did about it, with the class of that.
pub struct Twice<'a> {
    /// The failure of the upgrade or of the install.
    pub first: &'a str,
    /// The failure of the rollback or of the uninstall. The whole text, where it cannot be told apart.
    pub second: &'a str,
    /// What the second means.
    pub class: FailureClass,
}

/// The two failures of a text, if it is of two. helm joins them with a colon.
pub fn twice(text: &str) -> Option<Twice<'_>> {
    let (both, class) = SECOND.iter().find_map(|(mark, class)| Some((text.split_once(mark)?.1.trim(), *class)))?;
    let begins = |at: &usize| {
        let lower = both[at + 2..].to_lowercase();
        SECOND_WORDS.iter().any(|word| lower.starts_with(word)) && !wraps(&both[..*at])
    };
    // Parts of the first begin in the same way: the last place is where the second begins.
    let at = both.match_indices(": ").map(|(at, _)| at).filter(begins).last();
    let (first, second) = at.map_or((both, both), |at| (&both[..at], &both[at + 2..]));
    Some(Twice { first, second, class })
}

/// Whether a text ends with a wrapper, so that what follows belongs to it.
fn wraps(text: &str) -> bool {
    let start = text.rfind(" && ").map_or(0, |at| at + 4);
    inner(&format!("{}: ", outer(&text[start..]))).is_empty()
}

/// The words of a part after its wrappers.
pub fn inner(part: &str) -> &str {
    let mut rest = part.trim_start();
    while let Some(words) = INNER.iter().find_map(|(begin, end)| unwrapped(rest, begin, end)) {
        rest = words;
    }
    rest
}

fn unwrapped<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let head = text.get(..begin.len()).filter(|head| head.eq_ignore_ascii_case(begin))?;
    let rest = &text[head.len()..];
    let at = rest.find(end)?;
    Some(rest[at + end.len()..].trim_start())
}
