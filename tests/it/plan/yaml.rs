//! What helm reads, the operator reads, and takes for the same.

use std::path::Path;

use crate::common::{World, program};
use coder_upgrade_operator::core::text::yaml;
use coder_upgrade_operator::core::text::yaml::Limits;
use indoc::indoc;
use proptest::{
    prelude::{Just, Strategy, any, prop},
    prop_oneof,
    strategy::ValueTree,
    test_runner::TestRunner,
};
use serde_json::{Value, json};
use testbed::components::Component;
use tokio::process::Command;

/// A template that reads each file as helm reads a manifest.
const TEMPLATE: &str = r#"{{- $read := dict -}}
{{- range $path, $_ := .Files.Glob "documents/*" -}}
{{- $_ := set $read (base $path) ($.Files.Get $path | fromYaml | toJson) -}}
{{- end -}}
{{- dict "apiVersion" "v1" "kind" "ConfigMap" "metadata" (dict "name" "read") "data" $read | toJson }}
"#;

/// What the real helm takes each document for; none for those that it refuses.
async fn read_by(helm: Component, documents: &[String]) -> Vec<Option<Value>> {
    let directory = tempfile::tempdir().unwrap();
    let file = |path: &str, text: &str| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    file("Chart.yaml", "apiVersion: v2\nname: reader\nversion: 1.0.0\n");
    file("templates/read.yaml", TEMPLATE);
    for (index, document) in documents.iter().enumerate() {
        file(&format!("documents/{index}"), document);
    }
    let helm = tokio::task::spawn_blocking(move || program(helm)).await.unwrap();
    let printed = template(&helm, directory.path()).await;
    let printed: Value = serde_json::from_str(printed.split_once("read.yaml\n").unwrap().1).unwrap();
    let read = |index: usize| {
        let text = printed["data"][index.to_string()].as_str().unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        Some(value).filter(|value| value["Error"].is_null())
    };
    (0..documents.len()).map(read).collect()
}

async fn template(helm: &Path, chart: &Path) -> String {
    let output = Command::new(helm).args(["template", "x"]).arg(chart).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn read(text: &str) -> Option<Value> {
    let limits = Limits { depth: 100, keys: &[], below: None, fields: &[] };
    yaml::read(text, limits, &mut 250_000).ok()
}

/// Whether both are the same, but for the precision of floats, which is all that helm's templates know of numbers.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

/// Words that mean something else to other readers of YAML, or nothing.
const WORDS: [&str; 74] = [
    "y",
    "Y",
    "yes",
    "Yes",
    "YES",
    "yES",
    "n",
    "No",
    "on",
    "On",
    "oN",
    "off",
    "OFF",
    "true",
    "True",
    "tRUE",
    "FALSE",
    "~",
    "null",
    "Null",
    "nULL",
    "0640",
    "0o17",
    "0O17",
    "0x1F",
    "0XFF",
    "0b11",
    "0B11",
    "-0b11",
    "-0x1f",
    "08",
    "09.5",
    "1_000",
    "_1",
    "1_",
    "1__0",
    "+7",
    "-0",
    "+-7",
    "--7",
    "0x",
    "0x-7",
    "1e3",
    "1E+3",
    "1e",
    "1.e3",
    ".5",
    "-.5",
    "+.5e1",
    ".",
    "..",
    "1e99999",
    "-1e99999",
    "1e-99999",
    "1.2.3",
    "12:30:45",
    "2001-01-01",
    "2001-01-01T00:00:00Z",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "-9223372036854775809",
    "inf",
    "nan",
    "=",
    "<<",
    "!!str 1",
    "!!int 0x1F",
    "!!float 1",
    "!!binary aGk=",
    "!!timestamp 2001-01-01",
    "!own 1",
    "! 1",
    "0.1e1_0",
];

/// Texts that other readers of YAML refuse, or read otherwise.
const TEXTS: &[&str] = &[
    "a: \"x\"#note\n",
    "a: [cat, -]\nb: [-]\nc: {-: -}\n",
    "a: [\"x\"#c\n, y]\n",
    "a:\t1\nb: \t[1,\t2\t]\t\n",
    "a:\n  - b\n\t\n  - c\n",
    "a: 1\t# tab\n",
    "a: |\n\tx\n",
    "a:\n\tb: 1\n",
    "a: 1\r\nb: |\r\n  x\r\n  y\r\nc: 'l\r\n  m'\r\n",
    "a: 1\rb: 2\r",
    "\u{feff}a: 1\n",
    "a: 1\n\u{feff}b: 2\n",
    "a: |\n  \u{feff}x: 1\nb: \u{feff}\n",
    "\u{feff}a: \u{feff}b\u{e000}\n",
    "a: \u{7f}\n",
    "a: x\u{85}y\nb: 'x\u{2028}y'\nc: \u{1f600}\u{a0}\n",
    "%YAML 1.1\n---\na: 1\n",
    "%TAG ! tag:yaml.org,2002:\n---\na: !str 1\n",
    "%FOO bar\n---\na: 1\n",
    "a: 1\n...\nb: 2\n",
    "a: 1\na: 2\n",
    "{1: a, true: c, 1.5: d, 1e6: e, 100000.5: f, 0.00001: g, 08: h}",
    "{.inf: a}",
    "{~: a}",
    "? a\n: b\n? c\n",
    "? [a]\n: b\n",
    "? {a: b}\n: c\n",
    "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: {q: 4, <<: *x}\nd: {<<: [*x, {q: 5, r: 6}]}\n",
    "a: {<<: 1}\n",
    "a: {\"<<\": {b: 1}}\n",
    "a: {<<: {b: {c: 1}}, b: {d: 2}}\n",
    "a: &v [x]\nb: [*v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v, *v]\n",
    "a: &a [*a]\n",
    "a: *none\n",
    "&k a: 1\nb: *k\n",
    "&k a: 1\n*k : 2\n",
    "a: &x 1\nb: &x 2\nc: *x\n",
    "a: !!int x\n",
    "a: !!bool yes\nb: !!null ''\n",
    "a: !!binary '@'\n",
    "a: !!map {b: 1}\nc: !!seq [d]\ne: !!set {f: ~}\n",
    "a: 'it''s'\nb: \"\\x41\\u00e9\\n\\e\"\n",
    "a: \"\\q\"\n",
    "a: >-\n  one\n  two\n\n  three\nb: |+\n  x\n\nc: |2\n    y\n",
    "a: http://x/y?z=1#f\nb: a:b\nc: {d: e:f}\n",
    "a: {b, c: , d: }\n",
    "a: [b: c, ? d : e]\n",
    "a: {\"b\":1,'c':2}\n",
    "a: @x\n",
    "a: `x`\n",
    "a: %x\n",
    "- a\n",
    "a: b: c\n",
    "a: - b\n",
];

#[tokio::test]
async fn words_and_texts_mean_what_helm_takes_them_for() {
    let words = WORDS
        .iter()
        .flat_map(|word| [format!("a: {word}\n"), format!("a: ['{word}', {word}]\n"), format!("{word}: b\n")]);
    let documents: Vec<String> = words.chain(TEXTS.iter().map(|text| (*text).to_owned())).collect();
    for helm in [Component::Helm, Component::Helm3] {
        let read_by = read_by(helm, &documents).await;
        let differ = documents.iter().zip(&read_by).filter_map(|(document, expected)| {
            let found = read(document).filter(Value::is_object);
            let alike = match (&found, expected) {
                (Some(found), Some(expected)) => same(found, expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            (!alike).then(|| format!("{document:?}: {found:?} instead of {expected:?}"))
        });
        assert_eq!(differ.collect::<Vec<_>>(), [""; 0]);
    }
}

/// Documents that are nearly YAML: a few marks in a row, of a small alphabet.
fn nearly() -> impl Strategy<Value = String> {
    let mark = prop::sample::select(
        [
            "a", "b: ", "- ", "[", "]", "{", "}", ", ", ",", ":", " ", "\n", "\n  ", "\n    ", "\t", "#", " # c", "'",
            "\"", "|\n  ", ">\n  ", "&x ", "*x", "!!str ", "!", "%", "? ", "?", "<<: ", "1", "yes", "-", "...", "\r\n",
            "\\", "@", "~",
        ]
        .as_slice(),
    );
    let key = prop_oneof![Just("a: "), Just("a:\n  "), Just("\"a\": "), Just("{a: "), Just("")];
    (key, prop::collection::vec(mark, 0..9), any::<bool>())
        .prop_map(|(key, marks, end)| format!("{key}{}{}", marks.concat(), if end { "\n" } else { "" }))
}

#[tokio::test]
async fn whatever_helm_reads_is_read_and_is_the_same() {
    let mut runner = TestRunner::deterministic();
    let documents: Vec<String> = (0..4000).map(|_| nearly().new_tree(&mut runner).unwrap().current()).collect();
    let read_by = read_by(Component::Helm, &documents).await;
    // A tag, or a colon without a blank, that a bracket follows at once: what both libraries cut differently.
    let cut = |document: &str| ["![", "!{", "!]", "!}", "!,"].iter().any(|marks| document.contains(marks));
    let (mut read_by_both, mut differ) = (0, Vec::new());
    for (document, expected) in documents.iter().zip(&read_by).filter(|(document, _)| !cut(document)) {
        let Some(expected) = expected.as_ref() else { continue };
        let found = read(document);
        read_by_both += 1;
        // An empty document is no map to anybody, and helm's function makes one of it.
        let alike =
            found.as_ref().is_some_and(|found| same(found, expected) || found.is_null() && *expected == json!({}));
        if !alike {
            differ.push(format!("{document:?}: {found:?} instead of {expected}"));
        }
    }
    assert_eq!(differ, [""; 0]);
    assert!(read_by_both > 500, "most of them are no YAML, but not all: {read_by_both}");
}

/// What the public charts render of values, where a reader of YAML 1.2 sees no YAML.
const COMMENT: &str = indoc! {r##"
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: comment}
    data:
      a: "x"#note
"##};
const DASH: &str = indoc! {"
    apiVersion: batch/v1
    kind: CronJob
    metadata: {name: dash}
    spec:
      schedule: '0 0 * * *'
      suspend: yes
      jobTemplate:
        spec:
          template:
            spec:
              restartPolicy: Never
              containers:
                - name: dash
                  image: ghcr.io/coder/coder:v2.30.0
                  command: [cat, -]
"};
const COMMIT: &str = indoc! {"
    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: commit
      labels: {commit: 1e99999}
"};
const ANCHOR: &str = indoc! {r#"
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: anchor}
    data:
      a: &v x
    {{- range $i := until 300 }}
      "k{{ $i }}": *v
    {{- end }}
"#};
const TAB: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tab}\ndata:\n  a:\t\"x\"\t# tabs\n";
const MODE: &str = indoc! {"
    apiVersion: v1
    kind: Secret
    metadata: {name: tagged}
    immutable: no
    stringData: {mode: !!str 0640, date: !!str 2001-01-01}
"};

#[tokio::test]
async fn a_release_of_whatever_helm_reads_is_upgraded() {
    let world = World::with_v2("yaml", "2.30.0", &[]).await;
    let account = format!("--serviceaccount={}:coder-upgrade-runner", world.namespace);
    world.kubectl(&["create", "rolebinding", "wide", "--clusterrole=admin", &account]).await;
    let many: String = "---\n# nothing\n".repeat(1100);
    let templates = [COMMENT, DASH, COMMIT, ANCHOR, TAB, MODE, &many];
    let values = json!({"extraTemplates": templates});
    let before = world.values().await;
    world.create_secret("odd", json!({"values.yaml": values.to_string()})).await;
    let declare = async |version: &str| {
        let chart = json!({"repository": world.repositories().v2});
        let from = json!([{"kind": "Secret", "name": "odd"}]);
        world.declare("coder", json!({"version": version, "chart": chart, "valuesFrom": from})).await;
        world.ready("coder").await
    };
    // Rendered by the new version, and then read of the old one.
    declare("2.31.6").await;
    let status = declare("2.31.7").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, "2.31.7");
    let checks: Vec<_> = status.checks.iter().map(|finding| finding.check.to_string()).collect();
    assert!(!checks.contains(&"Manifest".to_owned()), "{checks:?}");
    assert_eq!(world.kubectl(&["get", "configmap", "comment", "-o", "jsonpath={.data.a}"]).await, "x");
    assert_eq!(
        world.kubectl(&["get", "configmap", "commit", "-o", "jsonpath={.metadata.labels.commit}"]).await,
        "1e99999"
    );
    assert_eq!(world.kubectl(&["get", "cronjob", "dash", "-o", "jsonpath={.spec.suspend}"]).await, "true");
    assert_eq!(before["coder"], world.values().await["coder"]);
    world.finish().await;
}
