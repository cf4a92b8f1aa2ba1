//! The spellings in which programs repeat a text: escaped, percent-encoded, as base64 or in hex. Each is undone on the whole
//! text, so that a secret is found whatever surrounds it and in whichever part of a larger text it was encoded.

use super::view::{Gap, View};

/// Shortest base64 and hex of a secret, in characters.
const SHORTEST_RUN: usize = 8;
/// Decoded bytes are decoded again only if so many of them in a row are text.
const SHORTEST_TEXT: usize = 12;

/// All that the bytes of a view may be a spelling of, the likeliest first.
pub fn all(view: &View) -> Vec<View> {
    let escapes = [escapes(view), percents(view, false), percents(view, true), entities(view)];
    let runs = (0..4).filter_map(|skip| base64(view, skip)).chain((0..2).filter_map(|skip| hex(view, skip)));
    escapes.into_iter().flatten().chain(runs).collect()
}

/// Whether it is worth decoding a view once more: most alignments of base64 give no text.
pub fn is_text(view: &View) -> bool {
    let mut run = 0;
    view.bytes().iter().any(|byte| {
        run = if byte.is_ascii_graphic() { run + 1 } else { 0 };
        run >= SHORTEST_TEXT
    })
}

/// Backslashes of JSON, Go, YAML and Markdown.
fn escapes(view: &View) -> Option<View> {
    let bytes = view.bytes();
    bytes.contains(&b'\\').then(|| {
        let mut decoded = View::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            copy_gap(view, at, &mut decoded);
            let next = bytes.get(at + 1).copied().filter(|_| bytes[at] == b'\\' && view.gaps()[at + 1] == Gap::None);
            let Some(next) = next else {
                // A backslash at the end of a line, or before a blank that YAML keeps, stands for nothing.
                if bytes[at] != b'\\' {
                    decoded.push_byte(bytes[at], view.span(at));
                }
                at += 1;
                continue;
            };
            let digits = match next {
                b'x' => 2,
                b'u' => 4,
                b'U' => 8,
                _ => 0,
            };
            let number = |from: usize, count: usize| {
                let text = bytes.get(from..from + count).and_then(|digits| std::str::from_utf8(digits).ok());
                text.filter(|_| count > 0).and_then(|digits| u32::from_str_radix(digits, 16).ok())
            };
            let mut length = 2 + digits;
            let code = number(at + 2, digits);
            if let Some(high @ 0xD800..0xDC00) = code
                && let Some(low @ 0xDC00..0xE000) = number(at + 8, 4)
            {
                length = 12;
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                decoded.push_char(char::from_u32(code).unwrap_or('\u{FFFD}'), view.spans(at, at + length));
                at += length;
                continue;
            }
            let c = match (next, code) {
                (b'n' | b'r' | b'N' | b'L' | b'P', _) => '\n',
                (b't' | b'_', _) => '\t',
                (_, Some(code)) => char::from_u32(code).unwrap_or('\u{FFFD}'),
                (b'x' | b'u' | b'U', None) => {
                    length = 2;
                    char::from(next)
                }
                (next, None) => {
                    decoded.push_byte(next, view.spans(at, at + 2));
                    at += 2;
                    continue;
                }
            };
            decoded.push_char(c, view.spans(at, at + length));
            at += length;
        }
        decoded
    })
}

/// `%2F` of URLs; in a query, a plus is a blank.
fn percents(view: &View, query: bool) -> Option<View> {
    let bytes = view.bytes();
    let worth = if query { bytes.contains(&b'+') } else { bytes.contains(&b'%') };
    worth.then(|| {
        let mut decoded = View::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            copy_gap(view, at, &mut decoded);
            let pair = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
            let code = pair.and_then(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?));
            let length = if code.is_some() { 3 } else { 1 };
            match (code, bytes[at]) {
                (Some(code), _) => decoded.push_byte(code, view.spans(at, at + 3)),
                (None, b'+') if query => decoded.gap(Gap::Blank),
                (None, byte) => decoded.push_byte(byte, view.span(at)),
            }
            at += length;
        }
        decoded
    })
}

/// `&amp;` of HTML, and the doubled quote of YAML.
fn entities(view: &View) -> Option<View> {
    const NAMED: [(&[u8], char); 7] = [
        (b"&amp;", '&'),
        (b"&lt;", '<'),
        (b"&gt;", '>'),
        (b"&quot;", '"'),
        (b"&apos;", '\''),
        (b"&nbsp;", ' '),
        (b"''", '\''),
    ];
    let bytes = view.bytes();
    let worth = bytes.contains(&b'&') || bytes.windows(2).any(|pair| pair == b"''");
    worth.then(|| {
        let mut decoded = View::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            copy_gap(view, at, &mut decoded);
            let rest = &bytes[at..];
            let named = NAMED.iter().find(|(name, _)| rest.starts_with(name)).map(|(name, c)| (name.len(), *c));
            if let Some((length, c)) = named.or_else(|| numbered(rest)) {
                decoded.push_char(c, view.spans(at, at + length));
                at += length;
            } else {
                decoded.push_byte(bytes[at], view.span(at));
                at += 1;
            }
        }
        decoded
    })
}

/// `&#34;` or `&#x22;`: its length, and the character.
fn numbered(bytes: &[u8]) -> Option<(usize, char)> {
    let digits = bytes.strip_prefix(b"&#")?;
    let end = digits.iter().take(9).position(|byte| *byte == b';')?;
    let text = std::str::from_utf8(&digits[..end]).ok()?;
    let code = match text.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    Some((end + 3, char::from_u32(code)?))
}

/// Every run of base64, standard or for URLs, also wrapped, read from its `skip`th character on: of a larger text, any of
/// the four may be the right one.
fn base64(view: &View, skip: usize) -> Option<View> {
    let sextet = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    runs(view, skip, 6, sextet)
}

/// Every run of hexadecimal digits.
fn hex(view: &View, skip: usize) -> Option<View> {
    runs(view, skip, 4, nibble)
}

fn nibble(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn runs(view: &View, skip: usize, bits: u32, digit: impl Fn(u8) -> Option<u8>) -> Option<View> {
    let bytes = view.bytes();
    let mut decoded = View::default();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        while at < bytes.len() && digit(bytes[at]).is_some() && (at == start || view.gaps()[at] != Gap::Blank) {
            at += 1;
        }
        if at - start < SHORTEST_RUN + skip {
            at = at.max(start + 1);
            continue;
        }
        let (mut held, mut count, mut since) = (0_u32, 0, start + skip);
        // What was decoded before belongs to another run.
        decoded.push_byte(0, view.span(start));
        for (position, byte) in bytes.iter().enumerate().take(at).skip(start + skip) {
            held = held << bits | u32::from(digit(*byte).unwrap_or_default());
            count += bits;
            if count >= 8 {
                count -= 8;
                let byte = u8::try_from(held >> count & 0xFF).unwrap_or_default();
                decoded.push_byte(byte, view.spans(since, position + 1));
                since = if count == 0 { position + 1 } else { position };
            }
        }
    }
    (!decoded.bytes().is_empty()).then_some(decoded)
}

fn copy_gap(view: &View, at: usize, decoded: &mut View) {
    if view.gaps()[at] != Gap::None {
        decoded.gap(view.gaps()[at]);
    }
}
