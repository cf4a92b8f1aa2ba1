//! The API server repeats what it calls invalid, as JSON: whole pod templates, with every variable. That says little to
//! people, holds values, and could be mistaken for the text around it.

/// What stands before a repeated value.
const MARKER: &str = "Invalid value: ";

/// Longest value in bytes that is kept, for example a selector or a port.
const KEPT: usize = 80;

/// The text, with an ellipsis in place of what the API server repeats of objects: it is long, and holds values.
pub fn shortened(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARKER) {
        let (before, after) = rest.split_at(at + MARKER.len());
        short.push_str(before);
        let length = value(after);
        match after.as_bytes().first() {
            Some(b'{') if length > KEPT => short.push_str("{…}"),
            Some(b'[') if length > KEPT => short.push_str("[…]"),
            Some(b'"') if length > KEPT => short.push_str("\"…\""),
            _ => short.push_str(&after[..length]),
        }
        rest = &after[length..];
    }
    short.push_str(rest);
    short
}

/// Length in bytes of the JSON value that a text begins with: 0 for what is neither object, list nor string.
fn value(text: &str) -> usize {
    let mut depth = 0_usize;
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => return 0,
            _ => {}
        }
        if depth == 0 && !quoted {
            return at + c.len_utf8();
        }
    }
    // It was cut off: all of it may be values.
    text.len()
}
