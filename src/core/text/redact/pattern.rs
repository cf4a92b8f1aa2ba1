//! What is a secret by the way it is written, whoever it belongs to: keys, tokens, headers, assignments.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::url;

/// Words in the names of fields whose values are secrets.
const NAMES: &str = "password|passwd|passphrase|token|api[-_]?key|access[-_]?key|private[-_]?key|secret[-_]?key|client[-_]?secret|credentials?";

/// Values that say nothing.
const EMPTY: [&str; 9] = ["true", "false", "null", "none", "nil", "<nil>", "\"\"", "[redacted]", "[redacted"];

/// What is hidden is the first group that takes part.
static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let patterns = [
        // A PEM block, or what is left of one that was cut.
        r"((?s:-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\z)))".to_owned(),
        r"((?:[A-Za-z0-9+/=]+[ \t]*(?:\r?\n|\\+n)[ \t]*)+-----END [A-Z0-9 ]+-----)".to_owned(),
        // Go repeats what it could not take for a port.
        r#"invalid port \\?"?:?([^"\\\s]+)"#.to_owned(),
        r#"(?i)\bauthorization\\?"?\s*[:=]\s*\[?\\?"?(?:(?:bearer|basic|token|negotiate|digest)\s+)?([^\s"\\,;\]]+)"#.to_owned(),
        r"(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{16,})".to_owned(),
        r#"(?i)\b(?:x-api-key|x-auth-token|[a-z]+-session-token|x-vault-token|(?:set-)?cookie)\\?"?\s*[:=]\s*\[?\\?"?([^\r\n"\\\]]+)"#.to_owned(),
        // JSON Web Tokens, and tokens of well-known makers.
        r"\b(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?)".to_owned(),
        r"\b((?:gh[opsur]_|github_pat_|glpat-|xox[abprs]-|AKIA)[A-Za-z0-9_-]{12,})".to_owned(),
        // Assignments of connection strings, environments and queries.
        format!(r#"(?i)(?:{NAMES}|\bpwd|\bpass)[a-z0-9_-]*\s?=\s?(?:'([^']*)|\\?"([^"\\]*)|([^\s&;,'"\\)\]}}=~][^\s&;,'"\\)\]}}]*))"#),
        format!(r#"(?i)"[^"\\\s]*(?:{NAMES})"\s*:\s*"((?:[^"\\]|\\.)*)"#),
        format!(r#"(?i)\\"[^"\\\s]*(?:{NAMES})\\"\s*:\s*\\"((?:[^"\\]|\\\\.|\\[^"\\])*)"#),
        format!(r#"(?im)^[ \t]*[a-z0-9_.-]*(?:{NAMES})[ \t]*:[ \t]+["']?([^\s"']+)["']?[ \t]*$"#),
        // Variables of containers, as the API server repeats them.
        r#"\{"name":"[^"\\]*","value":"((?:[^"\\]|\\.)*)"#.to_owned(),
        r#"\{\\"name\\":\\"[^"\\]*\\",\\"value\\":\\"((?:[^"\\]|\\\\.|\\[^"\\])*)"#.to_owned(),
        r#"EnvVar\{Name:"[^"]*", Value:"((?:[^"\\]|\\.)*)"#.to_owned(),
    ];
    #[allow(clippy::expect_used)] // the patterns are constant, and every test of this module compiles them
    patterns.iter().map(|pattern| Regex::new(pattern).expect("a valid pattern")).collect()
});

/// A line of a key, told apart from words and paths by what it is made of.
static KEY: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::expect_used)] // the pattern is constant, and every test of this module compiles it
    Regex::new(r"(?m)^[ \t]*([A-Za-z0-9+/]{40,80}={0,2})[ \t]*$").expect("a valid pattern")
});

/// Where such secrets stand.
pub fn found(text: &str) -> Vec<Range<usize>> {
    let mut found = url::passwords(text);
    found.extend(KEY.captures_iter(text).filter_map(|hit| hit.get(1)).filter(is_key).map(|key| key.range()));
    for pattern in PATTERNS.iter() {
        let secrets = pattern.captures_iter(text).filter_map(|hit| hit.iter().skip(1).flatten().next());
        found.extend(secrets.filter(|secret| tells(secret.as_str())).map(|secret| secret.range()));
    }
    found
}

/// Whether a text ends in the middle of a PEM block.
pub fn is_open(text: &str) -> bool {
    text.rfind("-----BEGIN ").is_some_and(|begin| !text[begin..].contains("-----END "))
}

/// Capitals, small letters and digits, and no more slashes than base64 has.
fn is_key(line: &regex::Match<'_>) -> bool {
    let count = |test: fn(&u8) -> bool| line.as_str().bytes().filter(test).count();
    let kinds = [count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase), count(u8::is_ascii_digit)];
    kinds.iter().all(|count| *count > 0) && count(|byte| *byte == b'/') * 8 < line.len()
}

/// Whether it is worth hiding: no empty word, and no port.
fn tells(secret: &str) -> bool {
    let port = secret.len() <= 5 && secret.bytes().all(|byte| byte.is_ascii_digit());
    !(secret.trim().is_empty() || port || EMPTY.contains(&secret))
}
