//! Secrets in all their spellings, and words that stay.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIIBVQIBADANBgkqhkiG9w0BAQEFAASCAT8wggE7AgEAAkEAq7BFUpkGp3+LQmlQ\nYx2eqzDV+xeG8kx/sQFV18S5JhzGeIJNA72wSeukEPojtqUyX2J0CciPBh7eqclQ\n2zpAswIDAQABAkAgisq4\n-----END PRIVATE KEY-----\n";

fn redactor(secrets: &[&str]) -> Redactor {
    let mut redactor = Redactor::default();
    redactor.hide(secrets.iter().map(ToString::to_string));
    redactor
}

const SECRET: &str = "hunter/2&<planted>+\"x\"";

/// The spellings that programs make of a text.
fn spellings(secret: &str) -> Vec<String> {
    let go = serde_json::Value::from(secret)
        .to_string()
        .replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e");
    let bytes = |text: &str, spelled: fn(u8) -> String| text.bytes().map(spelled).collect::<Vec<_>>().concat();
    let percent = bytes(secret, |b| format!("%{b:02X}"));
    let query: String = secret
        .chars()
        .map(|c| match c {
            ' ' => "+".to_owned(),
            c if c.is_ascii_alphanumeric() => c.to_string(),
            c => bytes(&c.to_string(), |b| format!("%{b:02x}")),
        })
        .collect();
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
    let mut all = vec![
        secret.to_owned(),
        go.clone(),
        serde_json::Value::from(go.as_str()).to_string(),
        format!("{secret:?}"),
        percent,
        query,
        html,
        format!("'{}'", secret.replace('\'', "''")),
        bytes(secret, |b| format!("{b:02x}")),
    ];
    if secret.is_ascii() {
        all.push(bytes(secret, |b| format!("\\x{b:02x}")));
    }
    for before in ["", "a", "ab", "key: value\npassword: "] {
        let text = format!("{before}{secret} and more");
        all.push(STANDARD.encode(&text));
        all.push(STANDARD_NO_PAD.encode(&text));
        all.push(URL_SAFE.encode(&text));
        all.push(URL_SAFE_NO_PAD.encode(format!("{before}{secret}")));
        let wrapped = STANDARD.encode(format!("{text} {text}"));
        all.push(wrapped.as_bytes().chunks(16).map(|line| String::from_utf8_lossy(line).into_owned() + "\n").collect());
        all.push(STANDARD.encode(STANDARD.encode(&text)));
        all.push(STANDARD.encode(json!({"password": secret}).to_string()));
    }
    all
}

/// Whether some spelling of a text is left.
fn survives(secret: &str, clean: &str) -> bool {
    clean.contains(secret) || spellings(secret).iter().any(|spelling| clean.contains(spelling.trim()))
}

#[test]
fn secrets_go_in_every_spelling() {
    let redactor = redactor(&[SECRET, "hunter2 planted", "пароль-planted"]);
    for secret in [SECRET, "hunter2 planted", "пароль-planted"] {
        for spelling in spellings(secret) {
            let clean = redactor.clean(&format!("cannot use {spelling} for this"));
            assert!(clean.contains(MASK), "{spelling} stays");
            assert!(clean.starts_with("cannot use ") || spelling.len() > 60, "{spelling} became {clean}");
            assert!(!survives(secret, &clean), "{spelling} became {clean}");
        }
    }
    assert_eq!(redactor.clean("nothing to hide"), "nothing to hide");
}

#[test]
fn secrets_go_where_lines_are_wrapped_and_folded() {
    let redactor = redactor(&["hunter2-planted-Zq8", "four words are here"]);
    for text in [
        "hunter2-pla\nnted-Zq8",
        "  hunter2-pla\r\n    nted-Zq8",
        "\"hunter2-pla\\\n   nted-Zq8\"",
        "four words\n  are here",
        "\"four words\\\n  \\ are here\"",
        "log: hunter2-pla",
        "nted-Zq8 was refused",
        "log: hunter2-pla\nnted-Zq8",
    ] {
        let clean = redactor.clean(text);
        for part in ["hunter2", "Zq8", "words", "are"] {
            assert!(!clean.contains(part), "{text} became {clean}");
        }
    }
    assert_eq!(redactor.clean("hunter2 -planted -Zq8"), "hunter2 -planted -Zq8", "these are other words");
}

#[test]
fn what_is_written_line_by_line_is_cleaned_as_a_whole() {
    let secret = "a long sentence that nobody knows, which is folded and folded again, twice in all";
    let redactor = redactor(&[secret]);
    let mut before = String::new();
    for line in [
        "note: a long sentence that nobody",
        "knows, which is folded",
        "and folded again, twice in all!",
        "the next line",
    ] {
        let cleaned = redactor.clean_after(&before, line);
        assert!(!cleaned.text.contains("folded") && !cleaned.text.contains("nobody"), "{}", cleaned.text);
        before = if cleaned.open { format!("{before}{line}\n") } else { String::new() };
    }
    let unknown = Redactor::default();
    let mut before = String::new();
    for line in PEM.lines() {
        let cleaned = unknown.clean_after(&before, line);
        assert_eq!(cleaned.text, MASK, "{line}");
        before = if cleaned.open { format!("{before}{line}\n") } else { String::new() };
    }
}

#[test]
fn overlapping_secrets_leave_no_rest() {
    assert_eq!(redactor(&["abcdef", "defghi"]).clean("xabcdefghix"), format!("x{MASK}x"));
    assert_eq!(redactor(&["secret", "secret-long"]).clean("secret-long"), MASK);
    assert_eq!(redactor(&["aaaaaa", "aaaaaab"]).clean("aaaaaaaaab"), MASK);
}

#[rstest]
#[case(
    "dial postgres://coder:p@ss:w@db:5432/coder?x=1 failed",
    "dial postgres://coder:[redacted]@db:5432/coder?x=1 failed"
)]
#[case("parse \"postgres://coder:hunter/2pl#a?nted@db/coder\": x", "parse \"postgres://coder:[redacted]@db/coder\": x")]
#[case("postgres://coder:my pass@db/x", "postgres://coder:[redacted]@db/x")]
#[case("postgres://coder:a\"b@db/x", "postgres://coder:[redacted]@db/x")]
#[case("postgres://coder:hunter2pla", "postgres://coder:[redacted]")]
#[case("postgres://coder:hunter2pla… and more", "postgres://coder:[redacted] and more")]
#[case("postgres:\\/\\/coder:hunter2@db", "postgres:\\/\\/coder:[redacted]@db")]
#[case("https://0123456789abcdef0123456789@git.example.com/x", "https://[redacted]@git.example.com/x")]
#[case("GET https://host:8080/a@b: 404", "GET https://host:8080/a@b: 404")]
#[case("dial redis://cache:6379/0: refused", "dial redis://cache:6379/0: refused")]
#[case("see https://coder.com/docs: it helps", "see https://coder.com/docs: it helps")]
#[case("fetch http://127.0.0.1:34215/v2", "fetch http://127.0.0.1:34215/v2")]
#[case("ssh://git@github.com/coder", "ssh://git@github.com/coder")]
#[case("invalid port \":hunter\" after host", "invalid port \":[redacted]\" after host")]
#[case("host=db user=coder password='a b' dbname=x", "host=db user=coder password='[redacted]' dbname=x")]
#[case("CODER_PASSWORD=hunter2 x", "CODER_PASSWORD=[redacted] x")]
#[case("?token=abcdef&x=1", "?token=[redacted]&x=1")]
#[case("Authorization: Bearer abcdefgh", "Authorization: Bearer [redacted]")]
#[case("Authorization:[Basic Zm9vOmJhcg==]", "Authorization:[Basic [redacted]]")]
#[case("{\"password\": \"hun\\\"ter\"}", "{\"password\": \"[redacted]\"}")]
#[case("{\"name\":\"X\",\"value\":\"hunter\"}", "{\"name\":\"X\",\"value\":\"[redacted]\"}")]
#[case("smtp:\n  password: hunter\n", "smtp:\n  password: [redacted]\n")]
#[case("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "[redacted]")]
#[case("Secret/coder has no key password: it must be there", "Secret/coder has no key password: it must be there")]
#[case("spec.verify.tokenSecretKeyRef: must be a name", "spec.verify.tokenSecretKeyRef: must be a name")]
#[case(
    "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
)]
fn what_is_a_secret_by_the_way_it_is_written_goes_even_if_nobody_knows_it(#[case] text: &str, #[case] clean: &str) {
    let redactor = Redactor::default();
    assert_eq!(redactor.clean(text), clean);
    assert_eq!(redactor.clean(clean), clean, "cleaning again changes nothing");
}

#[test]
fn keys_go_whoever_they_belong_to_and_however_they_are_cut() {
    let escaped = serde_json::Value::from(PEM).to_string();
    let cut = &PEM[..PEM.len() - 50];
    let rest = &PEM[60..];
    for text in [PEM, &escaped, cut, rest, PEM.lines().nth(1).unwrap_or_default()] {
        let clean = Redactor::default().clean(text);
        assert!(
            !clean.contains("MIIB") && !clean.contains("kEAq7") && !clean.contains("gisq4"),
            "{text} became {clean}"
        );
    }
}

#[test]
fn parts_of_a_secret_go_alone() {
    let config = json!({"auths": {"ghcr.io": {"auth": STANDARD.encode("robot:hunter2-planted")}}}).to_string();
    let redactor = redactor(&[
        "postgres://coder:planted%2F1@db/coder",
        "# a file\napiToken = planted-2\nhost = db.example.com\n",
        &config,
    ]);
    for part in ["planted/1", "planted%2F1", "planted-2", "robot:hunter2-planted"] {
        let clean = redactor.clean(&format!("x {part} y"));
        assert_eq!(clean, format!("x {MASK} y"), "{part}");
    }
    assert_eq!(redactor.clean("lookup db.example.com"), "lookup db.example.com");
}

#[test]
fn thousands_of_secrets_take_little_time() {
    let values: Vec<String> = (0..50_000).map(|n| format!("https://x.example/{n:06}")).collect();
    let mut redactor = Redactor::default();
    redactor.hide(values);
    let log =
        "2026-01-01 10:00:00 [info] coderd: GET https://x.example/ 200 in 5 ms, path=/api/v2/workspaces%20x \\u0026\n"
            .repeat(40);
    let begun = std::time::Instant::now();
    assert_eq!(redactor.clean(&log), log);
    // Measured on two busy cores without optimisation: a tenth of this.
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(redactor.clean("https://x.example/049999").contains(MASK));
}

#[test]
fn hiding_secrets_one_by_one_and_again_takes_little_time() {
    let values = || (0..60_000).map(|n| format!("s{n:05}x"));
    let mut redactor = Redactor::default();
    let begun = std::time::Instant::now();
    values().take(20_000).for_each(|value| redactor.hide([value]));
    for round in 0..5 {
        redactor.hide(values());
        redactor.hide([format!("one-more-{round}")]);
        assert_eq!(redactor.clean("reading s00007x"), format!("reading {MASK}"));
    }
    println!("{:?}", begun.elapsed());
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn what_is_too_much_to_know_hides_everything() {
    let mut redactor = Redactor::default();
    redactor.hide(["planted-secret".to_owned(), "x".repeat(MOST + 1)]);
    assert_eq!(redactor.clean("any text"), MASK);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn planted_secrets_never_survive(
        secrets in prop::collection::vec("[a-zA-Z0-9é€\"\\\\$%/+=&<>-]{4,20}9!", 1..6),
        texts in prop::collection::vec("\\PC{0,12}", 1..6),
        order in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
    ) {
        let redactor = redactor(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
        let words = order.iter().enumerate().map(|(i, (n, how))| {
            let secret: &String = n.get(&secrets);
            let spellings = spellings(secret);
            format!("{} {}", texts[i % texts.len()], how.get(&spellings))
        });
        let text = words.collect::<Vec<_>>().join(" ");
        let clean = redactor.clean(&text);
        for secret in &secrets {
            prop_assert!(!survives(secret, &clean), "{secret} survived in {clean}");
        }
    }
}
