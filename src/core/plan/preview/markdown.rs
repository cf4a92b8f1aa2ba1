//! A preview as a comment on a pull request.

use std::fmt::Write;

use super::sections::{Form, Section, facts, sections};
use super::{Preview, Verdict};

/// Longest comment in bytes, without what closes it: GitHub takes 65536 characters, GitLab more.
const LIMIT: usize = 60_000;

/// The whole of it.
pub fn render(preview: &Preview) -> String {
    let heading = match preview.verdict {
        Verdict::UpToDate => "nothing to do",
        Verdict::Changes => "changes",
        Verdict::NeedsApproval => "needs an approval",
        Verdict::Refused => "refused",
    };
    let Preview { upgrade, namespace, release, summary, .. } = preview;
    let mut text = format!("### Coder upgrade `{namespace}/{upgrade}`: {heading}\n\n{}\n", escaped(summary));
    let facts = facts(preview);
    if !facts.is_empty() {
        let _ = write!(text, "\n| | |\n| --- | --- |\n| release | `{release}` |\n");
    }
    for (name, fact) in facts {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| {name} | {} |", escaped(&fact));
    }
    for section in sections(preview) {
        let part = match section.form {
            Form::List => list(&section),
            Form::Detail => detail(&section),
            Form::Command => command(&section),
        };
        if text.len() + part.len() > LIMIT {
            let _ = write!(text, "\n**{}**: too long for a comment\n", escaped(&section.title));
        } else {
            text.push_str(&part);
        }
    }
    text
}

fn list(section: &Section) -> String {
    let mut text = format!("\n**{}**\n\n", escaped(&section.title));
    for line in &section.lines {
        let more = line.trim_start();
        // A line that belongs to the one before goes on in its item.
        let begin = if more.len() < line.len() { "  <br>" } else { "- " };
        let _ = writeln!(text, "{begin}{}", escaped(more));
    }
    text
}

fn detail(section: &Section) -> String {
    let lines = section.lines.join("\n");
    let fence = "`".repeat(longest_run(&lines).max(2) + 1);
    format!(
        "\n<details><summary>{}</summary>\n\n{fence}diff\n{lines}\n{fence}\n\n</details>\n",
        escaped(&section.title)
    )
}

fn command(section: &Section) -> String {
    format!("\n**{}**\n\n```sh\n{}\n```\n", escaped(&section.title), section.lines.join("\n"))
}

/// The longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}

/// A line in which nothing is Markdown or HTML. An address stays one.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\n' => escaped.push_str("<br>"),
            '\\' | '`' | '*' | '[' | ']' | '|' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}
