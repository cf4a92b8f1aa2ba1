//! Words and texts as helm reads them. `tests/it/plan/yaml.rs` asks helm itself.

use indoc::indoc;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

const ALL: Limits<'_> = Limits { depth: 100, keys: &[], below: None, fields: &[] };

fn parsed(text: &str) -> Result<Value, YamlError> {
    read(text, ALL, &mut 100_000)
}

#[rstest]
#[case("yes", json!(true))]
#[case("Off", json!(false))]
#[case("yES", json!("yES"))]
#[case("~", json!(null))]
#[case("", json!(null))]
#[case("0640", json!(416))]
#[case("08", json!(8))]
#[case("0o17", json!(15))]
#[case("0x1F", json!(31))]
#[case("-0b11", json!(-3))]
#[case("1_000", json!(1000))]
#[case("+7", json!(7))]
#[case("+-7", json!("+-7"))]
#[case("--7", json!("--7"))]
#[case("0x-7", json!("0x-7"))]
#[case("9223372036854775808", json!(9_223_372_036_854_775_808_u64))]
#[case("12345678901234567890123", json!(1.234_567_890_123_456_8e22))]
#[case("1e3", json!(1000))]
#[case("1e99999", json!("1e99999"))]
#[case("1e", json!("1e"))]
#[case(".5", json!(0.5))]
#[case(".", json!("."))]
#[case("1.2.3", json!("1.2.3"))]
#[case("12:30:45", json!("12:30:45"))]
#[case("2001-01-01", json!("2001-01-01"))]
#[case("'yes'", json!("yes"))]
#[case("\"017\"", json!("017"))]
#[case("!!str 1", json!("1"))]
#[case("!!float 1", json!(1))]
#[case("!!binary aGk=", json!("hi"))]
#[case("!own 1", json!("1"))]
#[case("! 1", json!("1"))]
#[case("inf", json!("inf"))]
#[case("nan", json!("nan"))]
#[case("<<", json!("<<"))]
#[case("=", json!("="))]
#[case("[cat, -]", json!(["cat", "-"]))]
#[case("\"x\"#note", json!("x"))]
#[case("{a: 1, 2: 3, yes: 4, 1.5: 5}", json!({"a": 1, "2": 3, "true": 4, "1.5": 5}))]
#[case("{1e6: x, 08: y, .inf: z}", json!({"1e+06": "x", "8": true, ".inf": "z"}))]
#[case("a:\t1\nb: \t[1,\t2]\n", json!({"a": 1, "b": [1, 2]}))]
#[case("a: 1\r\nb: |\r\n  x\r\n  y\r\n", json!({"a": 1, "b": "x\ny\n"}))]
#[case("\u{feff}a: 1\n", json!({"a": 1}))]
#[case("%YAML 1.1\n---\na: 1\n", json!({"a": 1}))]
#[case("a: 1\na: 2\n", json!({"a": 2}))]
#[case("a: &x [1]\nb: *x\n", json!({"a": [1], "b": [1]}))]
#[case("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: {<<: [*x, {q: 5, r: 6}]}\n",
    json!({"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}, "c": {"p": 1, "q": 2, "r": 6}}))]
#[case("a: {\"<<\": {b: 1}}", json!({"a": {"<<": {"b": 1}}}))]
#[case("a: 1\n---\nb: 2\n", json!({"a": 1}))]
fn words_mean_what_they_mean_to_helm(#[case] text: &str, #[case] expected: Value) {
    assert_eq!(parsed(text).unwrap(), expected, "{text}");
}

#[rstest]
#[case("a: [", 2)]
#[case("a: 1\nb: 2\n c: 3\n", 3)]
#[case("a: 1\nb: .inf\n", 2)]
#[case("a: 1\nb: !!int x\n", 2)]
#[case("a: 1\n\n? [b]\n: 2\n", 3)]
#[case("a: *b\n", 1)]
#[case("a: &b [*b]\n", 1)]
#[case("\ta: 1\n", 1)]
#[case("a: 1\n~: 2\n", 2)]
#[case("a: 1\nb: {<<: 2}\n", 2)]
fn what_helm_refuses_is_refused_with_its_line(#[case] text: &str, #[case] expected: u64) {
    let refused = parsed(text).unwrap_err();
    assert!(matches!(refused, YamlError::Malformed { line, .. } if line == expected), "{text}: {refused}");
}

/// One anchor, used many times, is no attack.
#[test]
fn an_anchor_may_be_used_as_often_as_there_are_values_to_read() {
    let many = format!("a: &v [x]\nb: [{}]\n", "*v, ".repeat(5000));
    assert_eq!(parsed(&many).unwrap()["b"].as_array().unwrap().len(), 5000);
    let mut left = 1000;
    assert_eq!(read(&many, ALL, &mut left).unwrap_err(), YamlError::TooMany);
}

#[test]
fn only_what_is_wanted_takes_memory() {
    let text = indoc! {"
        junk: {coder: 1}
        entries:
          other: [{a: &x 1}]
          coder: [{b: 2, entries: 3}]
    "};
    let limits = Limits { depth: 100, keys: &["entries"], below: Some("coder"), fields: &[] };
    assert_eq!(read(text, limits, &mut 100).unwrap(), json!({"entries": {"coder": [{"b": 2, "entries": 3}]}}));
    assert_eq!(read(text, limits, &mut 10).unwrap_err(), YamlError::TooMany, "all of it is counted");
}

#[test]
fn documents_begin_where_helm_cut_them() {
    assert_eq!(
        split("# nothing\n--- # a comment\na: 1\n---\n---\nb: |\n  ---\n"),
        ["# nothing\n", "# a comment\na: 1\n", "b: |\n  ---\n"]
    );
    assert_eq!(split("a: 1"), ["a: 1"]);
    assert!(split("---\n\n---\n").is_empty());
}

proptest! {
    /// The scanner is somebody else's: nothing may make it end the program, or go on for ever.
    #[test]
    fn near_misses_are_read_or_refused(text in "([\\[\\]{},:&*!|>\"'\\-?#%@`<.=+ \\n\\t\\r]|[a-z0-9~.]|\\PC){0,300}") {
        let mut left = 10_000;
        let _ = read(&text, ALL, &mut left);
    }

    /// Whatever JSON says, YAML says as well.
    #[test]
    fn json_is_yaml(text in "[^\\p{Cc}\u{feff}]{0,20}", number in any::<i64>(), float in 0.001..0.999_f64) {
        let value = json!({"a": [text, {"b": number}], "c": float, "d": null, "e": true});
        prop_assert_eq!(parsed(&value.to_string()).unwrap(), value);
    }
}
