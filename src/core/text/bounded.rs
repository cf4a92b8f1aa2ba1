//! Reading what others have written: every decoder has a limit, and an error that names it.
//!
//! A few kilobytes can unpack to gigabytes, and a megabyte of JSON or YAML can become a hundred megabytes of values. So what
//! is unpacked is cut off at a size, and what is parsed is counted before, or while, memory is taken for it.

use std::io::Read;

use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::yaml;
use super::yaml::{Limits, YamlError};

/// Greatest number of values (objects, lists, strings, numbers) in one document: the manifest of a Coder chart has some
/// thousands.
pub const VALUES: usize = 250_000;
/// Greatest depth of values in values.
pub const DEPTH: usize = 100;
/// Greatest size of YAML text, in bytes.
pub const YAML: usize = 32 << 20;

/// Why something cannot be read. Each is the end of a sentence that begins with what was read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is larger than anything of its kind has reason to be.
    #[error("takes more than {} when unpacked", size(*.0))]
    TooLarge(usize),
    /// It holds more values than anything of its kind has reason to.
    #[error("holds more than {VALUES} values")]
    TooMany,
    /// It cannot be unpacked.
    #[error("cannot be unpacked: {0}")]
    Gzip(#[from] std::io::Error),
    /// It is no JSON, or not of the form that is expected.
    #[error("is not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is no YAML.
    #[error("is no valid YAML: {0}")]
    Yaml(YamlError),
    /// It is YAML, but not of the form that is expected.
    #[error("is not the expected YAML: {0}")]
    Form(serde_json::Error),
}

impl Unreadable {
    /// Whether it goes beyond a limit, and is not merely broken.
    pub fn is_excess(&self) -> bool {
        matches!(self, Self::TooLarge(_) | Self::TooMany)
    }
}

/// A size in words.
pub fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

/// Unpacks gzip, up to `limit` bytes.
pub fn gunzip(packed: &[u8], limit: usize) -> Result<Vec<u8>, Unreadable> {
    let mut unpacked = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(packed).take(one_more).read_to_end(&mut unpacked)?;
    if unpacked.len() > limit { Err(Unreadable::TooLarge(limit)) } else { Ok(unpacked) }
}

/// Reads JSON.
pub fn json<T: DeserializeOwned>(text: &[u8]) -> Result<T, Unreadable> {
    if values_in(text) > VALUES {
        return Err(Unreadable::TooMany);
    }
    Ok(serde_json::from_slice(text)?)
}

/// How many values a JSON text holds at most: what opens a list or an object, or separates two values, begins another one.
fn values_in(text: &[u8]) -> usize {
    let (mut values, mut quoted, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'{' | b'[' | b',' if !quoted => values += 1,
            _ => {}
        }
    }
    values
}

/// Reads the first document of a YAML text, as helm does.
pub fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    check_yaml(text)?;
    let value = yaml::read(text, LIMITS, &mut VALUES.clone()).map_err(refused)?;
    serde_json::from_value(value).map_err(Unreadable::Form)
}

/// A document of a YAML text, and what stands in it.
pub type YamlDocument<'a> = (&'a str, Result<Value, YamlError>);

/// Reads all documents of a YAML text. One that cannot be read keeps no other from being read; together they hold no more
/// values than one may.
pub fn yaml_documents(text: &str) -> Result<Vec<YamlDocument<'_>>, Unreadable> {
    check_yaml(text)?;
    let mut left = VALUES;
    let read = |text| match yaml::read(text, LIMITS, &mut left) {
        Err(YamlError::TooMany) => Err(Unreadable::TooMany),
        other => Ok((text, other)),
    };
    yaml::split(text).into_iter().map(read).collect()
}

fn check_yaml(text: &str) -> Result<(), Unreadable> {
    if text.len() > YAML { Err(Unreadable::TooLarge(YAML)) } else { Ok(()) }
}

fn refused(why: YamlError) -> Unreadable {
    if why == YamlError::TooMany { Unreadable::TooMany } else { Unreadable::Yaml(why) }
}

const LIMITS: Limits<'_> = Limits { depth: DEPTH, keys: &[], below: None, fields: &[] };

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_cut_off_at_the_limit() {
        let bomb = packed(&vec![0; 16 << 20]);
        assert!(bomb.len() < 100_000);
        let error = gunzip(&bomb, 1 << 20).unwrap_err();
        assert!(error.is_excess());
        assert_eq!(error.to_string(), "takes more than 1 MiB when unpacked");
        assert_eq!(gunzip(&bomb, 16 << 20).unwrap().len(), 16 << 20, "the limit itself is allowed");
        assert!(matches!(gunzip(&bomb[..bomb.len() / 2], 16 << 20), Err(Unreadable::Gzip(_))), "a half is not a whole");
    }

    #[test]
    fn json_is_counted_before_it_takes_memory() {
        for bomb in [r#"{"a":0},"#, "[],", r#""","#, "0,"] {
            let text = format!("[{}0]", bomb.repeat(VALUES));
            assert!(matches!(json::<Value>(text.as_bytes()), Err(Unreadable::TooMany)), "{bomb}");
        }
        let text = format!("[{}0]", "0,".repeat(VALUES - 10));
        assert!(json::<Value>(text.as_bytes()).is_ok());
        let commas = Value::from(vec![",[{\\\"".repeat(VALUES)]).to_string();
        assert!(json::<Value>(commas.as_bytes()).is_ok(), "what stands in a string is no value");
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(json::<Value>(deep.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
    }

    #[test]
    fn yaml_that_grows_is_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            laughs.push_str(&["a", &level.to_string(), ": &a", &level.to_string(), " ["].concat());
            laughs.push_str(before.trim_end_matches(", "));
            laughs.push_str("]\n");
        }
        let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
        let many = "- x\n".repeat(VALUES + 10);
        for (name, text) in [("aliases", laughs), ("depth", deep), ("nodes", many)] {
            let error = yaml::<Value>(&text).unwrap_err().to_string();
            let words = if name == "depth" { "is no valid YAML: line 1: " } else { "holds more than 250000 values" };
            assert!(error.starts_with(words) && error.lines().count() == 1, "{name}: {error}");
        }
        let large = "#".repeat(YAML + 1);
        assert!(yaml::<Value>(&large).unwrap_err().is_excess());
    }

    #[test]
    fn an_error_quotes_nothing_of_the_text() {
        for text in ["password: [hunter2\n", "!!int hunter2", "&hunter2 [*hunter2]", "? {hunter2: 1}\n: 2"] {
            let error = yaml::<Value>(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = json::<Value>(&bytes);
            let _ = yaml::<Value>(&String::from_utf8_lossy(&bytes));
            prop_assert!(gunzip(&bytes, 1000).map_or(true, |unpacked| unpacked.len() <= 1000));
            prop_assert_eq!(gunzip(&packed(&bytes), 1000).unwrap(), bytes);
        }

        /// Text that is nearly YAML or JSON gets further into a parser than noise.
        #[test]
        fn near_misses_are_read_or_refused(text in "([\\[\\]{},:&*!|>\"'\\-?#%@` \\n\\t]|[a-z0-9~.]){0,200}") {
            let _ = json::<Value>(text.as_bytes());
            let _ = yaml_documents(&text);
        }

        /// The count before parsing is never less than what is parsed.
        #[test]
        fn no_value_is_missed(text in "([\\[\\]{},:\" \\\\]|[01]){0,60}") {
            fn count(value: &Value) -> usize {
                1 + match value {
                    Value::Array(items) => items.iter().map(count).sum(),
                    Value::Object(map) => map.values().map(count).sum(),
                    _ => 0,
                }
            }
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert!(values_in(text.as_bytes()) >= count(&value), "{}", text);
            }
        }
    }
}
