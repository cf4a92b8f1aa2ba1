//! Several upgrades, a line for each.

use super::Overview;
use crate::core::text::layout::table;

/// The upgrades as a table.
#[must_use]
pub fn list(overviews: &[Overview]) -> String {
    let head = ["NAMESPACE", "NAME", "RELEASE", "INSTALLED", "WANTED", "STANDING", "PHASE", "MESSAGE"];
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |overview: &Overview| {
        [
            overview.namespace.clone(),
            overview.upgrade.clone(),
            overview.release.clone(),
            or_none(overview.installed.as_ref().map(|installed| installed.version.clone())),
            or_none(overview.wanted.clone()),
            overview.standing.to_string(),
            overview.phase.to_string(),
            overview.message.clone(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(overviews.iter().map(row)).collect();
    table(&rows).join("\n") + "\n"
}
