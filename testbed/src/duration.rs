//! Durations as people write them in variables, files and annotations: `1500ms`, `2s`, `5m`, `1h`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Reads a duration: a whole number with one of the units `ms`, `s`, `m`, `h`; a bare `0` needs none.
///
/// # Errors
/// A sentence that quotes the text and names the units.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let refusal = || format!("`{text}` is no duration; write a whole number with ms, s, m or h, such as 2s");
    let number: u64 = text[..digits].parse().map_err(|_| refusal())?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs).ok_or_else(refusal);
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "" if number == 0 => Ok(Duration::ZERO),
        _ => Err(refusal()),
    }
}

/// For serde fields of type [`Duration`].
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_required_and_named() {
        assert_eq!(parse("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        for text in ["", "5", "s", "1.5s", "-1s", "99999999999999999999s"] {
            assert!(parse(text).unwrap_err().contains("2s"), "{text}");
        }
    }
}
