//! The page about checks, generated from their names, their meaning, and a section that was written for each.

use std::fmt::Write;

use coder_upgrade_operator::api::CheckName;
use coder_upgrade_operator::core::plan::checks;
use coder_upgrade_operator::core::plan::checks::order;
use strum::IntoEnumIterator;

use crate::markdown::{anchor, meaning};

/// Where the page is kept, from the root of the repository.
pub const PATH: &str = "docs/checks.md";

/// The sections, each under the name of its check.
const SECTIONS: &str = include_str!("sections.md");

/// The whole page as Markdown.
pub fn markdown() -> String {
    let mut text = String::from(include_str!("intro.md"));
    text.push_str(
        "\n## The worst first\n\nThe message of a refusal, the list in the status, the output of the command `plan` and its comment on a pull \
         request begin with the refusal that keeps the worst from happening; the others are counted and named. That order \
         is:\n\n",
    );
    for (place, (harm, checks)) in order::ORDER.iter().enumerate() {
        let checks: Vec<String> = checks.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "{}. {harm}: {}", place + 1, checks.join(", "));
    }
    text.push_str(
        "\n## The checks\n\n| check | what is so if it passes | class of its refusal |\n| --- | --- | --- |\n",
    );
    for check in CheckName::iter() {
        let class = checks::class(check);
        let place = check.to_string().to_lowercase();
        let class = format!("[{class}](failures.md#{})", anchor(class));
        let _ = writeln!(text, "| [{check}](#{place}) | {} | {class} |", meaning(&check));
    }
    for check in CheckName::iter() {
        let section = section(check).unwrap_or_default();
        let _ = write!(text, "\n## {check}\n\n{}\n\n{section}\n", meaning(&check));
    }
    text
}

/// What was written about a check.
fn section(check: CheckName) -> Option<&'static str> {
    let name = check.to_string();
    sections().find(|(heading, _)| *heading == name).map(|(_, text)| text)
}

/// Headings with what stands under them.
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    let parts = SECTIONS.split("\n# ").map(|part| part.trim_start_matches("# "));
    parts.filter_map(|part| part.split_once('\n')).map(|(heading, text)| (heading.trim(), text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_one_section_and_every_section_a_check() {
        let headings: Vec<&str> = sections().map(|(heading, _)| heading).collect();
        let checks: Vec<String> = CheckName::iter().map(|check| check.to_string()).collect();
        assert_eq!(headings, checks, "in the same order");
        for (heading, text) in sections() {
            for part in ["**How it is found.**", "**What to do.**"] {
                assert!(text.contains(part), "{heading} has no {part}");
            }
        }
    }
}
