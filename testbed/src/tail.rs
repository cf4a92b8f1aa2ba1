//! The end of a log, for error messages.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How many lines an error message shows.
const LINES: usize = 12;
/// More than that many lines of a component's log.
const BYTES: u64 = 8 * 1024;

/// The last lines of a log file; a sentence instead if it cannot be read, as this only ever explains another error.
#[must_use]
pub fn of_file(path: &Path) -> String {
    read_end(path).map_or_else(|error| format!("  (cannot be read: {error})"), |text| of_text(&text))
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn of_text(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    if last.is_empty() { "  (empty)".to_owned() } else { format!("  {}", last.join("\n  ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_shown() {
        let text = (1..=40).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
        let shown = of_text(&text);
        assert_eq!(shown.lines().count(), LINES);
        assert!(shown.starts_with("  line 29") && shown.ends_with("line 40"), "{shown}");
        assert_eq!(of_text("\n"), "  (empty)");
    }

    #[test]
    fn a_missing_log_explains_itself() {
        assert!(of_file(Path::new("/no/such/log")).contains("cannot be read"));
    }
}
