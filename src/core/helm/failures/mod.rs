//! What a text of helm or of the API server means.
//!
//! helm ends with exit code 1 whatever happened, and its text is a chain of wrappers around one or several causes. So:
//! peel the wrappers off, split the rest into its causes, look each up in one table, and act on the worst.

mod elide;
mod object;
mod peel;
mod rules;
mod split;
#[cfg(test)]
mod tests;

pub use rules::examples;

use crate::api::FailureClass;
use crate::core::object::KindName;
use crate::core::rights::{Lacking, without_lists};

/// One cause of a failure, as far as its text tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Class of the cause, if a rule knows its text.
    pub class: Option<FailureClass>,
    /// Object that the text names.
    pub object: Option<KindName>,
    /// Field that the text names, for example spec.selector.
    pub field: Option<String>,
    /// The rights that are missing, if that is the cause.
    pub lacking: Option<Lacking>,
    /// The words of this cause, without the wrappers. Objects and lists that the API server repeats, because it calls
    /// them invalid, are left out: they are long, and hold values. About a missing right it is one sentence.
    pub message: String,
}

/// The text without what the API server repeats of objects, and of the rules of Roles: it is long, and holds values. For
/// people.
#[must_use]
pub fn shortened(text: &str) -> String {
    without_lists(&elide::shortened(text))
}

/// helm's own words about a failure: what follows the last `Error:` at the beginning of a line. helm 4 also logs the
/// failure, escaped, before that line.
#[must_use]
pub fn helm_error(stderr: &str) -> &str {
    let start = stderr.rfind("\nError: ").map(|at| at + 1).or_else(|| stderr.starts_with("Error: ").then_some(0));
    stderr.get(start.map_or(0, |at| at + "Error: ".len())..).unwrap_or_default().trim()
}

/// The cause that decides what can be done about a failure: of equals, the first.
///
/// A rollback that failed is about the whole release. What only a person can cure comes before what a repair can, and
/// what no rule knows counts as such. What time cures comes last, as one try more costs nothing.
#[must_use]
pub fn worst(text: &str) -> Cause {
    worst_of(causes(text))
}

/// The same for causes that are known already.
#[must_use]
pub fn worst_of(causes: Vec<Cause>) -> Cause {
    let rank = |cause: &Cause| match cause.class {
        Some(FailureClass::RollbackFailed) => 0,
        // A wait that was cut short follows from another cause, if one is named.
        Some(FailureClass::RolloutTimedOut) => 4,
        Some(class) if class.retryable() => 5,
        Some(class) if class.treatment().remedy.is_some() => 3,
        Some(_) => 1,
        None => 2,
    };
    causes.into_iter().min_by_key(rank).unwrap_or_default()
}

/// Every cause that a text names, in its order; at least one. A part that no rule knows is a cause without a class.
#[must_use]
pub fn causes(text: &str) -> Vec<Cause> {
    let text = elide::shortened(text);
    let mut causes = Vec::new();
    match peel::twice(&text) {
        Some(twice) => {
            causes.extend(parts(twice.first));
            let second = parts(twice.second).into_iter().next().unwrap_or_default();
            causes.push(Cause { class: Some(twice.class), field: None, ..second });
        }
        None => causes.extend(parts(&text)),
    }
    if causes.is_empty() {
        causes.push(Cause { message: text.trim().to_owned(), ..Cause::default() });
    }
    causes
}

/// The causes of a text without a failed rollback.
fn parts(text: &str) -> Vec<Cause> {
    split::parts(peel::outer(text)).iter().flat_map(|part| described(part)).collect()
}

/// The causes of one part: the API server lists all that is wrong with one object in brackets.
fn described(part: &str) -> Vec<Cause> {
    let words = peel::inner(part);
    let named = object::named(part);
    split::fields(words)
        .into_iter()
        .map(|(field, text)| {
            let class = rules::class(&text, named.kind());
            let lacking = Lacking::read(&text).filter(|_| class == Some(FailureClass::Forbidden));
            let sentence = |lacking: &Lacking| lacking.sentence(named.object.as_ref(), named.namespace.as_deref());
            Cause {
                class,
                object: named.object.clone(),
                field: field.map(ToOwned::to_owned).or_else(|| object::field(&text)),
                message: lacking.as_ref().map_or_else(|| without_lists(&text), sentence),
                lacking,
            }
        })
        .collect()
}
