//! Texts within their limits. Whoever cuts a text cleans it first: half a secret is not recognised as one.

const ELLIPSIS: &str = "…";

/// The beginning of a text, at most `limit` bytes long, with a mark if something was cut off.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_cut_within_the_limit(text in "\\PC{0,60}", limit in 0usize..80) {
            for cut in [head(&text, limit), tail(&text, limit)] {
                prop_assert!(cut.len() <= limit);
            }
        }
    }
}
