//! Keeps values and credentials out of every text that leaves the runner, and texts within their limits.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What stands in the place of a secret.
pub const MASK: &str = "[redacted]";

/// Knows the secrets of a step. Grows while the step reads values and credentials.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Each secret in each spelling in which a program may repeat it.
    spellings: BTreeSet<String>,
}

impl Redactor {
    /// Hides these strings from now on, also as base64 (a Secret in an error of the API server), quoted and escaped (Go's
    /// `%q`, JSON), and each line of those that have several.
    pub fn hide(&mut self, secrets: impl IntoIterator<Item = String>) {
        for secret in secrets {
            let trimmed = secret.trim();
            if trimmed.is_empty() {
                continue;
            }
            self.add(STANDARD.encode(&secret));
            self.add(STANDARD.encode(trimmed));
            self.add(trimmed.escape_debug().to_string());
            self.add(serde_json::Value::from(trimmed).to_string().trim_matches('"').to_owned());
            // A line of a PEM file is a secret, a short word at the end of a text is not.
            for line in trimmed.lines().map(str::trim).filter(|line| line.len() > 5) {
                self.add(line.to_owned());
            }
            self.add(trimmed.to_owned());
        }
    }

    fn add(&mut self, spelling: String) {
        // A megabyte of values has a hundred thousand texts: to look for each among all others took hours.
        self.spellings.insert(spelling);
    }

    /// The text with every secret, and every password in an URL, replaced by [`MASK`].
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        let mut hits: Vec<(usize, usize)> = self.spellings.iter().flat_map(|s| occurrences(text, s)).collect();
        hits.extend(url_passwords(text));
        hits.sort_unstable();
        let mut clean = String::with_capacity(text.len());
        let mut at = 0;
        for (start, end) in hits {
            if end <= at {
                continue;
            }
            // Overlapping hits are one: the part of the second that the first did not cover is dropped, too.
            if start >= at {
                clean.push_str(&text[at..start]);
                clean.push_str(MASK);
            }
            at = end;
        }
        clean.push_str(&text[at..]);
        clean
    }
}

/// Where `needle` stands in `text`, overlapping occurrences included.
fn occurrences<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text.get(from..)?.find(needle)?;
        from = start + text[start..].chars().next().map_or(1, char::len_utf8);
        Some((start, start + needle.len()))
    })
}

/// Where the passwords of `scheme://user:password@host` stand.
fn url_passwords(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (scheme, _) in text.match_indices("://") {
        let start = scheme + 3;
        let rest = &text[start..];
        let authority =
            &rest[..rest.find(|c: char| c.is_whitespace() || "/?#\"'<>`".contains(c)).unwrap_or(rest.len())];
        if let (Some(colon), Some(at)) = (authority.find(':'), authority.rfind('@'))
            && colon + 1 < at
        {
            found.push((start + colon + 1, start + at));
        }
    }
    found
}

/// The beginning of a text, at most `limit` bytes long, with a mark if something was cut off.
#[must_use]
pub fn head(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if limit < ELLIPSIS.len() { String::new() } else { format!("{}{ELLIPSIS}", &text[..end]) }
}

/// The end of a text, at most `limit` bytes long, with a mark if something was cut off.
#[must_use]
pub fn tail(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut start = text.len() - limit.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(start) {
        start += 1;
    }
    if limit < ELLIPSIS.len() { String::new() } else { format!("{ELLIPSIS}{}", &text[start..]) }
}

const ELLIPSIS: &str = "…";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        redactor.hide(secrets.iter().map(ToString::to_string));
        redactor
    }

    #[test]
    fn secrets_go_in_every_spelling() {
        let redactor = redactor(&["hunter2 \"x\"", "-----BEGIN KEY-----\nMIIBVQ\n-----END KEY-----"]);
        for text in [
            r#"bad value hunter2 "x" in it"#,
            r#"msg="bad value hunter2 \"x\" in it""#,
            "data: aHVudGVyMiAieCI= !",
            "line 2: MIIBVQ",
        ] {
            let clean = redactor.clean(text);
            assert!(clean.contains(MASK), "{text} became {clean}");
            assert!(!clean.contains("hunter2") && !clean.contains("MIIBVQ") && !clean.contains("aHVu"), "{clean}");
        }
        assert_eq!(redactor.clean("nothing to hide"), "nothing to hide");
    }

    #[test]
    fn overlapping_secrets_leave_no_rest() {
        assert_eq!(redactor(&["abcdef", "defghi"]).clean("xabcdefghix"), format!("x{MASK}x"));
        assert_eq!(redactor(&["secret", "secret-long"]).clean("secret-long"), MASK);
    }

    #[test]
    fn passwords_in_urls_go_even_if_nobody_knows_them() {
        let redactor = Redactor::default();
        assert_eq!(
            redactor.clean("dial postgres://coder:p@ss:w@db:5432/coder?x=1 failed"),
            format!("dial postgres://coder:{MASK}@db:5432/coder?x=1 failed")
        );
        assert_eq!(redactor.clean("GET https://host:8080/a@b: 404"), "GET https://host:8080/a@b: 404");
    }

    proptest! {
        #[test]
        fn planted_secrets_never_survive(
            secrets in prop::collection::vec("[a-zA-Z0-9é€\"\\\\$%/+=-]{3,20}9!", 1..6),
            texts in prop::collection::vec("\\PC{0,12}", 1..6),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        ) {
            let redactor = redactor(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
            let words = order.iter().enumerate().map(|(i, n)| [texts[i % texts.len()].as_str(), n.get(&secrets).as_str()]);
            let text: String = words.flatten().collect();
            let clean = redactor.clean(&text);
            for secret in &secrets {
                prop_assert!(!clean.contains(secret.as_str()), "{secret} survived in {clean}");
            }
        }

        #[test]
        fn any_text_is_cut_within_the_limit(text in "\\PC{0,60}", limit in 0usize..80) {
            for cut in [head(&text, limit), tail(&text, limit)] {
                prop_assert!(cut.len() <= limit);
            }
            prop_assert_eq!(Redactor::default().clean("").len(), 0);
        }
    }
}
