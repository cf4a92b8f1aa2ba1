//! A preview at a terminal.

use super::Preview;
use super::sections::{facts, sections};
use crate::core::text::layout::screen;

/// The whole of it.
pub fn render(preview: &Preview) -> String {
    let Preview { upgrade, namespace, release, summary, .. } = preview;
    let title = format!("CoderUpgrade {upgrade} in namespace {namespace}, Helm release {release}\n{summary}\n");
    screen(&title, &facts(preview), sections(preview).into_iter().map(|section| (section.title, section.lines)))
}
