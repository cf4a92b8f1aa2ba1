//! What of a secret is a secret by itself: a password in a URL, a line of a file, a text that is base64.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::pattern;
use crate::core::text::confidential;

/// How often a part is taken apart again: a file in base64 in a JSON document.
const DEPTH: usize = 4;
/// Shortest text that is tried as base64.
const SHORTEST_BASE64: usize = 12;

/// The secret, and every part of it that programs may repeat alone.
pub fn of(secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(secret, DEPTH, &mut found);
    found
}

fn collect(secret: &str, depth: usize, found: &mut Vec<String>) {
    let secret = secret.trim();
    found.push(secret.to_owned());
    if depth == 0 {
        return;
    }
    let depth = depth - 1;
    let written = if secret.contains([':', '=']) { pattern::found(secret) } else { Vec::new() };
    for part in written.into_iter().map(|range| &secret[range]).filter(|part| *part != secret) {
        found.push(part.to_owned());
        found.push(percent_decoded(part));
        // A parser that takes a part of the password for a host or a port repeats that part.
        found.extend(part.split(['/', '?', '#', '@', ':']).filter(|piece| piece.len() != part.len()).map(Into::into));
    }
    if secret.lines().nth(1).is_some() {
        for line in secret.lines().map(str::trim) {
            let value =
                line.split_once([':', '=']).map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\''])));
            let shown = |text: &str| confidential::is_public("", text);
            found.extend(Some(line).filter(|line| !shown(line)).map(Into::into));
            if let Some((key, value)) = value.filter(|(key, value)| !confidential::is_public(key, value)) {
                found.extend(Some(value).filter(|_| confidential::is_sensitive(key)).map(Into::into));
            }
        }
    }
    if secret.starts_with(['{', '['])
        && let Ok(document) = serde_json::from_str::<Value>(secret)
    {
        for inner in confidential::secrets(&document) {
            collect(&inner, depth, found);
        }
    }
    if let Some(decoded) = decoded(secret) {
        collect(&decoded, depth, found);
    }
}

/// The text that this is the base64 of.
fn decoded(text: &str) -> Option<String> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace() && *c != '=').collect();
    if bare.len() < SHORTEST_BASE64 {
        return None;
    }
    let bytes = STANDARD_NO_PAD.decode(&bare).or_else(|_| URL_SAFE_NO_PAD.decode(&bare)).ok()?;
    let decoded = String::from_utf8(bytes).ok()?;
    decoded.chars().all(|c| !c.is_control() || c.is_whitespace()).then_some(decoded)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(code) = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(code);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
