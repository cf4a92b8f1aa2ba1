//! What the generated pages share: the text of a word, and the place of a failure class.

use coder_upgrade_operator::api::FailureClass;
use strum::EnumMessage;

/// What the documentation of a word says, on one line.
pub fn meaning(word: &impl EnumMessage) -> String {
    word.get_documentation().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The anchor of a class on the page about failures, as Markdown viewers make it.
pub fn anchor(class: FailureClass) -> String {
    class.to_string().to_lowercase()
}
