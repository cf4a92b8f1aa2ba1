//! Kubernetes quantities (`100m`, `64Mi`), as far as `resourceFieldRef` needs them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Decimal and binary suffixes with their value in thousandths of a unit.
const SUFFIXES: [(&str, i128); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];

/// A quantity in thousandths of its unit, rounded up; `None` if it is not one.
#[must_use]
pub fn thousandths(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    if let Some(number) = text.strip_suffix('m') {
        return number.parse().ok();
    }
    let (number, factor) =
        SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor * 1_000)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?;
    let scale = 10_i128.pow(digits);
    let value: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some((value * factor + scale - 1).div_euclid(scale))
}

/// `quantity` in units of `divisor`, rounded up, as the downward API prints it.
#[must_use]
pub fn divide(quantity: &Quantity, divisor: Option<&Quantity>) -> Option<i128> {
    let divisor = match divisor {
        Some(divisor) => thousandths(divisor)?,
        None => 1_000,
    };
    // A divisor of "0" is what the API server fills in for none.
    let divisor = if divisor == 0 { 1_000 } else { divisor };
    Some((thousandths(quantity)? + divisor - 1).div_euclid(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn suffixes_fractions_and_divisors() {
        for (text, divisor, expected) in [
            ("100m", None, Some(1)),
            ("100m", Some("1m"), Some(100)),
            ("2", None, Some(2)),
            ("1.5", Some("1m"), Some(1_500)),
            ("64Mi", None, Some(67_108_864)),
            ("64Mi", Some("1Mi"), Some(64)),
            ("1G", Some("1M"), Some(1_000)),
            ("500", Some("0"), Some(500)),
            ("many", None, None),
        ] {
            assert_eq!(divide(&quantity(text), divisor.map(quantity).as_ref()), expected, "{text} / {divisor:?}");
        }
    }
}
