//! Passwords in URLs, also those that nobody has encoded: then a URL has slashes, question marks and at signs where none belong.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

#[allow(clippy::expect_used)] // the pattern is constant, and every test of this module compiles it
static SCHEME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"([A-Za-z][A-Za-z0-9+.-]*):(?:\\?/){2}").expect("a valid pattern"));

/// Schemes whose ports are followed by paths in which an at sign is nothing special.
const WEB: [&str; 6] = ["http", "https", "oci", "ws", "wss", "git"];

/// A name before an at sign that is longer is taken for a token.
const LONGEST_USER: usize = 24;

/// Where the passwords of `scheme://user:password@host` stand.
pub fn passwords(text: &str) -> Vec<Range<usize>> {
    let found = SCHEME.captures_iter(text).filter_map(|scheme| {
        let whole = scheme.get(0)?;
        let web = WEB.iter().any(|name| scheme[1].eq_ignore_ascii_case(name));
        let secret = password(&text[whole.end()..], web)?;
        Some(whole.end() + secret.start..whole.end() + secret.end)
    });
    found.collect()
}

fn password(rest: &str, web: bool) -> Option<Range<usize>> {
    let line = &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())];
    let token = &line[..line.find(|c: char| c.is_whitespace() || "\"'<>`".contains(c)).unwrap_or(line.len())];
    let authority = &token[..token.find(['/', '?', '#', '\\']).unwrap_or(token.len())];
    let colon = token.find(':').filter(|colon| !token[..*colon].contains(['/', '?', '#', '@']));
    let Some(colon) = colon else {
        // A token in the place of the user.
        return authority.rfind('@').filter(|at| *at > LONGEST_USER).map(|at| 0..at);
    };
    let start = colon + 1;
    let port = token[start..].find(|c: char| !c.is_ascii_digit()).map_or(token.len(), |end| start + end);
    let is_port =
        port > start && port - start <= 5 && token[port..].chars().next().is_none_or(|c| "/?#,;)]}.".contains(c));
    if is_port && (web || !token[port..].contains('@')) {
        return None;
    }
    if let Some(at) = token.rfind('@').filter(|at| *at >= start) {
        return (at > start).then_some(start..at);
    }
    // A quote or a blank in the password, or the text was cut in the middle of it.
    let user = token[..colon].chars().all(|c| c.is_ascii_alphanumeric() || "_-.%".contains(c));
    if web || !user {
        return (user && is_cut(rest, token) && !is_port)
            .then_some(start..token.len())
            .filter(|range| !range.is_empty());
    }
    match line.rfind('@').filter(|at| *at > start) {
        Some(at) => Some(start..at),
        None if is_cut(rest, token) => Some(start..token.len()).filter(|range| !range.is_empty()),
        None => None,
    }
}

/// Nothing follows, or a mark that something was cut off.
fn is_cut(rest: &str, token: &str) -> bool {
    rest.len() == token.len() || token.ends_with('…') || token.ends_with("...")
}
