//! Forms of texts that everybody may read.

use serde_json::Number;

/// Whether a text has a form that no secret has.
pub fn is_public(text: &str) -> bool {
    is_version(text) || is_quantity(text) || is_path(text) || is_host(text) || is_address(text)
}

/// The form of names of objects, images, hosts, paths and classes.
pub fn is_name(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._/-*".contains(c) || c == ':' || c == '@');
    plain && !text.contains("://") && (!text.contains('@') || text.contains("@sha256:"))
}

/// `v2.31.7`, `2.32.0-rc.1`, `1.35`, `>=1.19.0`.
fn is_version(text: &str) -> bool {
    let bare = text.trim_start_matches(['>', '<', '=', '~', '^', 'v', ' ']);
    let (numbers, rest) = bare.split_at(bare.find(['-', '+']).unwrap_or(bare.len()));
    let parts: Vec<&str> = numbers.split('.').collect();
    let short = |part: &&str| (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let rest = rest.get(1..).unwrap_or_default();
    (2..=4).contains(&parts.len())
        && parts.iter().all(short)
        && rest.len() <= 16
        && rest.split(['.', '-', '+']).all(|part| part.is_empty() || is_label(part))
}

/// A word, or a number: `rc`, `1`, `alpine`.
fn is_label(part: &str) -> bool {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    digits == 0 && part.bytes().all(|byte| byte.is_ascii_lowercase()) || digits == part.len() && digits <= 4
}

/// `1024Mi`, `2500m`, `1h30m0s`: few digits, each followed by a unit.
fn is_quantity(text: &str) -> bool {
    const UNITS: [&str; 17] =
        ["ms", "us", "ns", "h", "m", "s", "d", "Ki", "Mi", "Gi", "Ti", "Pi", "k", "M", "G", "T", "%"];
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if end == 0 || end > 6 {
            return false;
        }
        rest = &rest[end..];
        let unit = UNITS.iter().filter(|unit| rest.starts_with(**unit)).max_by_key(|unit| unit.len());
        let Some(unit) = unit else { return false };
        rest = &rest[unit.len()..];
    }
    true
}

/// `coder.example.com`, `*.coder.example.com`, `database.coder.svc:5432`, `10.0.0.0/8`: labels of words with few digits.
fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix("*.").unwrap_or(text);
    let (host, port) = bare.split_once(':').unwrap_or((bare, "80"));
    let (host, width) = host.split_once('/').unwrap_or((host, "0"));
    let numbers = [port, width].iter().all(|n| n.len() <= 5 && n.bytes().all(|byte| byte.is_ascii_digit()));
    let labels: Vec<&str> = host.split('.').collect();
    let is_ip = labels.len() == 4 && labels.iter().all(|label| label.parse::<u8>().is_ok());
    let named = labels
        .last()
        .is_some_and(|last| (2..=12).contains(&last.len()) && last.bytes().all(|b| b.is_ascii_lowercase()));
    let label = |label: &&str| {
        let digits = label.bytes().filter(u8::is_ascii_digit).count();
        let plain = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        !label.is_empty() && plain && label.len() <= 40 && digits <= 3
    };
    numbers && (is_ip || labels.len() >= 2 && named && labels.iter().all(label))
}

/// `/etc/coder/tls.crt`
fn is_path(text: &str) -> bool {
    let plain = |part: &str| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
            && digits <= 3
    };
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain))
}

/// `https://coder.example.com:8443/`: a host and nothing else.
fn is_address(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    scheme.bytes().all(|byte| byte.is_ascii_lowercase()) && is_host(rest.trim_end_matches('/'))
}

/// A number as programs print it: helm reads YAML numbers as floats, and prints large ones with an exponent.
pub fn spellings(number: &Number) -> Vec<String> {
    let plain = number.to_string();
    let mut found = vec![plain.trim_start_matches('-').to_owned()];
    if let Some(float) = number.as_f64().filter(|float| float.is_finite()) {
        let scientific = format!("{:e}", float.abs());
        if let Some((mantissa, exponent)) = scientific.split_once('e') {
            let sign = if exponent.starts_with('-') { '-' } else { '+' };
            found.push(format!("{mantissa}e{sign}{:0>2}", exponent.trim_start_matches('-')));
            // Whatever is made of the exponent.
            found.push(mantissa.to_owned());
        }
        found.push(format!("{}", float.abs()));
        found.push(format!("{:.0}", float.abs()));
    }
    found
}
