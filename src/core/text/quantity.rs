//! Quantities of Kubernetes, as far as sizes need them.

/// A size in billionths of a byte: the finest that Kubernetes knows. None if the text is no quantity, or is beyond all
/// measure.
pub fn parse(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let places = u32::try_from(fraction.len()).ok().filter(|places| *places <= 9)?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let fine = digits.checked_mul(10i128.checked_pow(9 - places)?)?;
    scale(fine, suffix)
}

fn scale(value: i128, suffix: &str) -> Option<i128> {
    let power = |base: i128, exponent: u32| value.checked_mul(base.checked_pow(exponent)?);
    match suffix {
        "n" => Some(value / 1_000_000_000),
        "u" => Some(value / 1_000_000),
        "m" => Some(value / 1000),
        "" => Some(value),
        "k" => power(10, 3),
        "M" => power(10, 6),
        "G" => power(10, 9),
        "T" => power(10, 12),
        "P" => power(10, 15),
        "E" => power(10, 18),
        "Ki" => power(2, 10),
        "Mi" => power(2, 20),
        "Gi" => power(2, 30),
        "Ti" => power(2, 40),
        "Pi" => power(2, 50),
        "Ei" => power(2, 60),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { Some(value / factor) } else { value.checked_mul(factor) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1Gi", "1024Mi")]
    #[case("1.5Gi", "1536Mi")]
    #[case("1G", "1000M")]
    #[case("1e9", "1G")]
    #[case("12E3", "12k")]
    #[case("0.5", "500m")]
    #[case("1E", "1000P")]
    #[case("2Ei", "2048Pi")]
    fn the_same_size_is_written_in_many_ways(#[case] one: &str, #[case] other: &str) {
        assert_eq!(parse(one), parse(other));
        assert!(parse(one).is_some());
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in ["", "Gi", "1 Gi", "1gi", "1.2.3", "--1", "1e", "9999999999999999999999999999999Ei"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn sizes_are_ordered(a in 0u32..100_000, b in 0u32..100_000) {
            prop_assert_eq!(parse(&format!("{a}Mi")).cmp(&parse(&format!("{b}Mi"))), a.cmp(&b));
        }
    }
}
