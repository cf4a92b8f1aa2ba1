//! The table of what the texts mean, and the only place that knows them.

mod cluster;
mod helm;

use super::peel;
use crate::api::FailureClass;

/// A text that is known by some of its words.
struct TextRule {
    /// It fits when the text holds all of these. In lower case.
    parts: &'static [&'static str],
    /// What the text means.
    class: FailureClass,
    /// The text as people see it and search for it. Empty for another wording of the rule before.
    example: &'static str,
}

const fn rule(parts: &'static [&'static str], class: FailureClass, example: &'static str) -> TextRule {
    TextRule { parts, class, example }
}

/// The same, in other words that nobody needs to read about.
const fn also(parts: &'static [&'static str], class: FailureClass) -> TextRule {
    TextRule { parts, class, example: "" }
}

/// Between a template and what the API server answered when the template asked for an object.
const LOOKUP: &str = "error calling lookup: ";

/// Class of a text about an object of that kind, if a rule knows it.
pub fn class(text: &str, kind: Option<&str>) -> Option<FailureClass> {
    let lower = text.to_lowercase();
    // A right that is missing, or a server that is away, is no fault of the template that asks.
    let answer = lower.rsplit_once(LOOKUP).and_then(|(_, answer)| find(answer));
    let class = answer.or_else(|| find(&lower))?;
    // Whatever cannot be changed about a volume is data.
    let data = matches!(kind, Some("PersistentVolumeClaim" | "PersistentVolume"));
    Some(if class == FailureClass::Immutable && data { FailureClass::ImmutableData } else { class })
}

/// Class of the first rule that fits a text in lower case.
fn find(lower: &str) -> Option<FailureClass> {
    let mut rules = RULES.iter().flat_map(|rules| rules.iter());
    Some(rules.find(|rule| rule.parts.iter().all(|part| lower.contains(part)))?.class)
}

/// Texts of a class as people see them, for the documentation.
pub fn examples(class: FailureClass) -> impl Iterator<Item = &'static str> {
    let rules = RULES.iter().flat_map(|rules| rules.iter());
    let known = rules.filter(move |rule| rule.class == class && !rule.example.is_empty()).map(|rule| rule.example);
    let wrapper = peel::SECOND.iter().filter(move |(_, wrapper)| *wrapper == class).map(|(words, _)| *words);
    wrapper.chain(known)
}

/// In the order in which they are tried: words of people (in a chart, in a policy) can hold any text, and the narrow rules
/// go before the wide ones.
const RULES: &[&[TextRule]] = &[
    helm::RENDERING,
    cluster::REFUSED_BY_RULES,
    helm::RECORDS,
    helm::CHARTS,
    cluster::APIS,
    cluster::OBJECTS,
    cluster::CONNECTION,
    helm::DELETION,
    helm::TIME,
    cluster::LAST,
];
