//! How what is told to people at a terminal is laid out.

use std::fmt::Write;

/// A title, facts in two columns, and parts with a heading. Parts without lines are left out.
pub fn screen(title: &str, facts: &[(&str, String)], parts: impl IntoIterator<Item = (String, Vec<String>)>) -> String {
    let mut text = title.to_owned();
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    if !facts.is_empty() {
        text.push('\n');
    }
    for (name, fact) in facts {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  {name:width$}  {fact}");
    }
    for (heading, lines) in parts.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = write!(text, "\n{heading}\n");
        for line in lines.iter().flat_map(|line| line.lines()) {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// Rows with their cells below each other. The last cell of a row is as long as it is.
pub fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// How far something is, as a bar of that many characters.
pub fn bar(done: i32, of: i32, width: usize) -> String {
    let (done, of) = (done.max(0), of.max(1));
    let filled = usize::try_from(done.min(of)).unwrap_or_default() * width / usize::try_from(of).unwrap_or(1);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(width - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_below_each_other() {
        let rows = [["a", "größer", "x"], ["long", "b", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), ["a     größer  x", "long  b"]);
    }

    #[test]
    fn a_bar_is_full_only_when_all_is_done() {
        for (done, of, shown) in [(0, 3, "[------]"), (1, 3, "[##----]"), (3, 3, "[######]"), (5, 3, "[######]")] {
            assert_eq!(bar(done, of, 6), shown);
        }
        assert_eq!(bar(0, 0, 2), "[--]");
    }
}
