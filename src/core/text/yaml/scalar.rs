//! What the words of YAML mean to helm.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

/// Prefix of the tags that YAML itself defines.
const PREFIX: &str = "tag:yaml.org,2002:";
/// From this size on Go writes a float with an exponent, and nobody takes it for an integer any more.
const LARGEST_INTEGER: f64 = 9.2e18;

/// A scalar that has been understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Nothing.
    Null,
    /// A truth.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer beyond those.
    Large(u64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
}

/// A scalar as the scanner found it: `plain` if it stands without quotes and without a tag.
pub fn understand(tag: Option<&str>, text: String, plain: bool) -> Result<Scalar, &'static str> {
    let Some(tag) = tag else {
        return Ok(if plain { word(text) } else { Scalar::Text(text) });
    };
    let Some(kind) = tag.strip_prefix(PREFIX) else { return Ok(Scalar::Text(text)) };
    match kind {
        "binary" => {
            let bare: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            let bytes = STANDARD.decode(bare).map_err(|_| "!!binary value contains invalid base64 data")?;
            Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        "bool" | "int" | "float" | "null" => match (kind, word(text)) {
            ("bool", found @ Scalar::Bool(_))
            | ("int", found @ (Scalar::Int(_) | Scalar::Large(_)))
            | ("float", found @ Scalar::Float(_))
            | ("null", found @ Scalar::Null) => Ok(found),
            #[allow(clippy::cast_precision_loss)] // as helm does
            ("float", Scalar::Int(number)) => Ok(Scalar::Float(number as f64)),
            _ => Err("a value does not fit its tag"),
        },
        _ => Ok(Scalar::Text(text)),
    }
}

/// A word without quotes.
fn word(text: String) -> Scalar {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => float(&text),
        b'0'..=b'9' | b'+' | b'-' => {
            let plain = text.replace('_', "");
            integer(&plain).or_else(|| float(&plain))
        }
        _ => None,
    };
    number.unwrap_or(Scalar::Text(text))
}

/// A number with an optional sign, and one of the prefixes of Go: `0x`, `0o`, `0b`, or `0` for octal.
fn integer(text: &str) -> Option<Scalar> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0b", 2), ("0o", 8)];
    let with_prefix = prefixes.iter().find_map(|(prefix, base)| Some((lower.strip_prefix(prefix)?, *base)));
    let octal = lower.strip_prefix('0').filter(|rest| !rest.is_empty()).map(|rest| (rest, 8));
    let (digits, base) = with_prefix.or(octal).unwrap_or((&lower, 10));
    // Rust takes a second sign for a part of the number.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let size = u64::from_str_radix(digits, base).ok()?;
    if negative {
        return 0_i64.checked_sub_unsigned(size).map(Scalar::Int);
    }
    match i64::try_from(size) {
        Ok(number) => Some(Scalar::Int(number)),
        Err(_) if text.starts_with('+') => None,
        Err(_) => Some(Scalar::Large(size)),
    }
}

/// Digits with a point, an exponent, or both. One that is too large for a float is a text.
fn float(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_at(unsigned.find(['e', 'E']).unwrap_or(unsigned.len()));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !digits(whole) || !digits(fraction) || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let power = exponent.get(1..).map(|power| power.strip_prefix(['+', '-']).unwrap_or(power));
    if power.is_some_and(|power| power.is_empty() || !digits(power)) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    number.is_finite().then_some(Scalar::Float(number))
}

impl Scalar {
    /// The scalar as JSON, which knows neither infinity nor what is no number.
    pub fn into_value(self) -> Result<Value, &'static str> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(truth),
            Self::Int(number) => number.into(),
            Self::Large(number) => number.into(),
            #[allow(clippy::cast_possible_truncation)] // it has no fraction, and fits
            Self::Float(number) if number.fract() == 0.0 && number.abs() < LARGEST_INTEGER => (number as i64).into(),
            Self::Float(number) => {
                Number::from_f64(number).map(Value::Number).ok_or("a number is infinite, or none")?
            }
            Self::Text(text) => Value::String(text),
        })
    }

    /// The scalar as the key of a map, which is always a text.
    pub fn into_key(self) -> Result<String, &'static str> {
        match self {
            Self::Null => Err("null is the key of a map"),
            Self::Bool(truth) => Ok(truth.to_string()),
            Self::Int(number) => Ok(number.to_string()),
            Self::Large(_) => Err("a number that is too large is the key of a map"),
            Self::Float(number) => Ok(short(number)),
            Self::Text(text) => Ok(text),
        }
    }
}

/// A float as Go writes it with the precision of 32 bits and in the shortest form.
fn short(number: f64) -> String {
    #[allow(clippy::cast_possible_truncation)] // as helm does
    let number = number as f32;
    if !number.is_finite() {
        let sign = if number < 0.0 { "-" } else { "" };
        return if number.is_nan() { ".nan".into() } else { format!("{sign}.inf") };
    }
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(-4..=5) => format!("{number}"),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        Err(_) => scientific.clone(),
    }
}
