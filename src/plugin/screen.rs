//! A screen that is drawn again, or a log where there is no terminal.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use terminal_size::{Height, Width, terminal_size};

use super::error::PluginError;
use super::output::Output;
use super::session::print;
use crate::core::overview::Overview;
use crate::core::text::display::printable;

/// Rows and columns where the terminal does not tell.
const USUAL: (usize, usize) = (24, 80);

/// Where a person, or a log, sees how an upgrade goes.
pub struct Screen {
    output: Output,
    live: bool,
    last: Option<Overview>,
}

impl Screen {
    /// The terminal of standard output; without one, lines.
    pub fn new(output: Output) -> Self {
        Self { output, live: output == Output::Text && std::io::stdout().is_terminal(), last: None }
    }

    /// Whether times are to be drawn again although nothing has happened.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether the object has been seen.
    pub fn has_shown(&self) -> bool {
        self.last.is_some()
    }

    /// Shows where the upgrade stands by now.
    pub fn show(&mut self, overview: Overview) -> Result<(), PluginError> {
        if self.live {
            let clear = if self.last.is_none() { "\x1b[2J" } else { "" };
            let size = terminal_size().map_or(USUAL, |(Width(w), Height(h))| (usize::from(h), usize::from(w)));
            print(&format!("{clear}{}", frame(&printable(&overview.text()), size)))?;
        } else if let Some(line) = overview.news(self.last.as_ref()) {
            let line = format!("{:.0}  {}", Timestamp::now(), printable(&line));
            if self.output == Output::Text {
                print(&(line + "\n"))?;
            } else {
                // Standard output is for the result. Nobody is left to be told when the terminal is gone.
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
        self.last = Some(overview);
        Ok(())
    }

    /// Ends with the whole of what was shown last, and returns it.
    pub fn finish(self) -> Result<Option<Overview>, PluginError> {
        let Some(last) = self.last else { return Ok(None) };
        let before = match (self.live, self.output) {
            (true, _) => "\x1b[2J\x1b[H",
            (false, Output::Text) => "\n",
            _ => "",
        };
        print(&format!("{before}{}", self.output.of(&last, Overview::text)?))?;
        Ok(Some(last))
    }
}

/// The text from the upper left corner on, as far as it fits: a line that is broken would move all others.
fn frame(text: &str, (rows, columns): (usize, usize)) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let most = rows.saturating_sub(1);
    let shown = if lines.len() > most { most.saturating_sub(1) } else { lines.len() };
    let mut frame = String::from("\x1b[H");
    for line in &lines[..shown] {
        frame.extend(line.chars().take(columns));
        frame.push_str("\x1b[K\r\n");
    }
    if shown < lines.len() {
        let rest: String = format!("... {} more lines", lines.len() - shown).chars().take(columns).collect();
        frame.push_str(&rest);
        frame.push_str("\x1b[K\r\n");
    }
    frame + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal() {
        assert_eq!(frame("abc\nde\n", (10, 2)), "\x1b[Hab\x1b[K\r\nde\x1b[K\r\n\x1b[J");
        let long = frame("1\n2\n3\n4\n5\n", (4, 20));
        assert_eq!(long, "\x1b[H1\x1b[K\r\n2\x1b[K\r\n... 3 more lines\x1b[K\r\n\x1b[J");
        assert_eq!(frame("1\n2\n3\n", (4, 20)), "\x1b[H1\x1b[K\r\n2\x1b[K\r\n3\x1b[K\r\n\x1b[J");
    }
}
