//! What is read from outside costs bounded memory and time, and what goes beyond gets an error that names it.

use std::{io::Write, time::Duration};

use crate::common::{
    World,
    steps::{HelmMajor, Steps},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use coder_upgrade_operator::{
    api::{CoderUpgrade, FailureClass},
    core::report::Problem,
};
use flate2::{Compression, write::GzEncoder};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::charts::Hostility;
use tokio::time::Instant;

/// Most that the runner itself may take, in KiB.
const RUNNER: u64 = 160 * 1024;
/// Most that its helm may take, in KiB: the memory that the runner gives it, and the file of the program itself.
const HELM: u64 = (1024 + 64) * 1024;

/// A world in which a plan reads everything and nothing is installed.
async fn world(name: &str) -> Steps {
    Steps::empty(name, HelmMajor::Four, |repositories| &repositories.v2).await
}

/// Plans what must be refused, in bounded memory and time.
async fn refused(steps: &Steps, spec: Value) -> Problem {
    let begun = Instant::now();
    let problem = steps.refused(spec).await;
    let peak = steps.peak.get();
    assert!(begun.elapsed() < Duration::from_secs(150), "it took {:?}: {problem:?}", begun.elapsed());
    assert!(peak.own > 0 && peak.own < RUNNER, "the runner took {} KiB", peak.own);
    assert!(peak.children < HELM, "helm took {} KiB", peak.children);
    assert!(problem.message.len() < 2000 && problem.field.is_some(), "{problem:?}");
    problem
}

#[rstest]
#[case::endless(Hostility::Endless, FailureClass::TooLarge, "is larger than the 32 MiB that are read of it")]
#[case::slow(Hostility::Slow, FailureClass::RepositoryUnreachable, "timed out")]
#[case::silent(Hostility::Silent, FailureClass::RepositoryUnreachable, "timed out")]
#[case::in_a_circle(Hostility::Loop, FailureClass::RepositoryUnreachable, "redirects more than 5 times")]
#[case::to_a_file(Hostility::File, FailureClass::NotAllowed, "a redirect of")]
// What nobody asks for is passed over, however large it would become.
#[case::laughs(Hostility::Laughs, FailureClass::ChartInvalid, "has no chart called coder")]
#[case::deep(Hostility::Deep, FailureClass::RepositoryUnreachable, "index.yaml of the repository cannot be read")]
#[case::packed(Hostility::Packed, FailureClass::RepositoryUnreachable, "index.yaml of the repository cannot be read")]
#[case::of_wrong_types(
    Hostility::Types,
    FailureClass::RepositoryUnreachable,
    "index.yaml of the repository cannot be read"
)]
#[case::with_many_versions(Hostility::Many, FailureClass::VersionNotFound, "has no version 9.9.9 of the chart coder")]
#[tokio::test]
async fn a_repository(#[case] hostility: Hostility, #[case] class: FailureClass, #[case] words: &str) {
    let steps = world(&format!("hostile-{hostility}")).await;
    let repository = steps.world.repositories().hostile(hostility);
    let spec = json!({"version": "9.9.9", "chart": {"repository": repository}});
    let problem = refused(&steps, spec).await;
    assert_eq!(problem.class, class, "{problem:?}");
    assert!(problem.message.contains(words) && problem.message.contains(&repository), "{problem:?}");
    assert!(!steps.log.borrow().contains("root:"), "nothing of a file was read");
    steps.world.finish().await;
}

/// A tar of entries: name, type, and content or target.
fn tar(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, kind, content) in entries {
        let link = matches!(kind, b'1' | b'2');
        let size = if link { 0 } else { content.len() };
        let mut header = [0; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644\0");
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[*kind]);
        if link {
            put(157, content);
        }
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend(header);
        if !link {
            tar.extend_from_slice(content);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

const CHART: &[u8] = b"apiVersion: v2\nname: coder\nversion: 2.31.7\n";

/// A chart with these files besides its Chart.yaml.
fn chart(files: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let own = [("coder/Chart.yaml", b'0', CHART)];
    packed(&tar(&own.iter().chain(files).copied().collect::<Vec<_>>()))
}

fn yaml(content: &[u8]) -> Vec<u8> {
    packed(&tar(&[("coder/Chart.yaml", b'0', content)]))
}

fn many_files() -> Vec<u8> {
    let names: Vec<String> = (0..100_000).map(|n| format!("coder/files/{n}")).collect();
    chart(&names.iter().map(|name| (name.as_str(), b'0', &b""[..])).collect::<Vec<_>>())
}

#[rstest]
#[case::that_is_a_bomb(packed(&vec![0; 300 << 20]), "the chart archive takes more than 32 MiB when unpacked")]
#[case::with_a_large_file(chart(&[("coder/values.yaml", b'0', &vec![b'#'; 33 << 20])]), "takes more than 32 MiB")]
#[case::with_a_hundred_thousand_files(many_files(), "takes more than 32 MiB")]
#[case::with_a_file_that_helm_takes_for_too_large(chart(&[("coder/values.yaml", b'0', &vec![b'#'; 6 << 20])]), "larger than the maximum file size")]
#[case::that_leads_up(chart(&[("coder/../../../etc/cron.d/x", b'0', b"x")]), "")]
#[case::that_ends_early(chart(&[("coder/a", b'0', &[7; 4000])])[..100].to_vec(), "the chart archive cannot be read")]
#[case::with_lists_for_words(yaml(b"apiVersion: v2\nname: [coder]\nversion: {}\n"), "Chart.yaml")]
#[case::with_aliases(
    yaml(b"apiVersion: &a v2\nname: coder\nversion: 2.31.7\nannotations: {a: &x [*a,*a], b: &y [*x,*x], c: *y}\n"),
    "Chart.yaml"
)]
#[case::that_is_nested(yaml(format!("apiVersion: v2\nname: coder\nversion: 2.31.7\nannotations: {}{}\n", "[".repeat(20_000), "]".repeat(20_000)).as_bytes()), "")]
#[case::that_is_no_text(yaml(b"apiVersion: v2\nname: \xff\xfe\x00\nversion: 2.31.7\n"), "")]
#[case::without_a_chart_in_it(packed(&tar(&[("coder/Chart.yaml", b'2', b"/etc/passwd")])), "chart.metadata.name is required")]
#[tokio::test]
async fn an_archive(#[case] archive: Vec<u8>, #[case] words: &str) {
    let steps = world("hostile-archive").await;
    let spec = from_archive(&steps.world, &archive).await;
    let problem = refused(&steps, spec).await;
    assert_eq!(problem.class, FailureClass::ChartInvalid, "{problem:?}");
    assert!(problem.message.contains(words), "{problem:?}");
    assert!(problem.field.as_deref().unwrap().starts_with("spec.chart"), "{problem:?}");
    steps.world.finish().await;
}

async fn from_archive(world: &World, archive: &[u8]) -> Value {
    assert!(archive.len() < 1 << 20, "it fits into a ConfigMap");
    let map = json!({"metadata": {"name": "chart"}, "binaryData": {"coder.tgz": STANDARD.encode(archive)}});
    let map: ConfigMap = serde_json::from_value(map).unwrap();
    world.api().create(&PostParams::default(), &map).await.unwrap();
    let archive = json!({"configMapKeyRef": {"name": "chart", "key": "coder.tgz"}});
    // What is looked at after the chart was read is not the subject here.
    let overrides = ["DatabaseTarget", "ExternalDatabase", "ImagePin", "RemovedValues"];
    json!({"version": "2.31.7", "chart": {"archive": archive}, "overrides": overrides})
}

/// What helm does with charts that it can read: its memory has a limit, and its refusal a field.
#[rstest]
#[case::a_template_without_end(chart(&[("coder/templates/a.yaml", b'0', b"{{ range until 2000000000 }}a: b\n{{ end }}")]), &[FailureClass::TooLarge, FailureClass::RenderFailed])]
#[case::a_template_that_grows(chart(&[("coder/templates/a.yaml", b'0', b"{{ $x := \"0123456789\" }}{{ range until 40 }}{{ $x = print $x $x }}{{ end }}{{ $x }}")]), &[FailureClass::TooLarge])]
#[case::a_template_that_takes_much_at_once(chart(&[("coder/templates/a.yaml", b'0', b"{{ $x := repeat 90000000 \"0123456789\" }}{{ $y := repeat 90000000 \"9876543210\" }}{{ $x }}{{ $y }}")]), &[FailureClass::TooLarge])]
#[case::a_template_of_itself(chart(&[("coder/templates/a.yaml", b'0', b"{{ define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}")]), &[FailureClass::RenderFailed])]
#[tokio::test]
async fn a_chart_that_takes_helm_beyond_its_limits(#[case] archive: Vec<u8>, #[case] classes: &[FailureClass]) {
    let steps = world("hostile-chart").await;
    let spec = from_archive(&steps.world, &archive).await;
    let problem = steps.refused(spec).await;
    assert!(classes.contains(&problem.class), "{problem:?}");
    let peak = steps.peak.get();
    assert!(peak.own < RUNNER && peak.children < HELM, "{peak:?}");
    steps.world.finish().await;
}

#[rstest]
#[case::of_small_objects(format!(r#"{{"hooks": [{}{{}}]}}"#, r#"{"a":0},"#.repeat(8 << 20)), FailureClass::TooLarge, "takes more than 24 MiB when unpacked")]
#[case::of_many_values(format!(r#"{{"hooks": [{}0]}}"#, "0,".repeat(4 << 20)), FailureClass::TooLarge, "holds more than 250000 values")]
#[case::of_text(format!(r#"{{"manifest": "{}"}}"#, "x".repeat(200 << 20)), FailureClass::TooLarge, "takes more than 24 MiB when unpacked")]
#[case::of_another_type("[]".to_owned(), FailureClass::Unknown, "has no fields")]
#[case::of_nothing("{}".to_owned(), FailureClass::Unknown, "is not the expected JSON")]
#[tokio::test]
async fn a_record(#[case] record: String, #[case] class: FailureClass, #[case] words: &str) {
    let steps = world("hostile-record").await;
    let record = STANDARD.encode(packed(record.as_bytes()));
    let secret = json!({
        "metadata": {"name": "sh.helm.release.v1.coder.v1", "labels": {
            "owner": "helm", "name": "coder", "version": "1", "status": "deployed"}},
        "type": "helm.sh/release.v1",
        "stringData": {"release": record},
    });
    let secret: Secret = serde_json::from_value(secret).unwrap();
    steps.world.api().create(&PostParams::default(), &secret).await.unwrap();
    let problem = steps.refused(json!({"version": "2.31.7"})).await;
    assert_eq!(problem.class, class, "{problem:?}");
    assert_eq!(problem.object.as_deref(), Some("Secret/sh.helm.release.v1.coder.v1"), "{problem:?}");
    assert!(problem.message.contains(words), "{problem:?}");
    assert!(steps.peak.get().own < RUNNER, "{:?}", steps.peak.get());
    steps.world.finish().await;
}

fn laughs() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        text = [text, format!("a{level}: &a{level} [{before}]\n")].concat();
    }
    text
}

#[rstest]
#[case::aliases(laughs())]
#[case::depth(format!("a: {}{}\n", "[".repeat(50_000), "]".repeat(50_000)))]
#[case::a_key_that_is_no_text("? [a, b]\n: c\n".to_owned())]
#[tokio::test]
async fn values_that_grow(#[case] text: String) {
    let steps = world("hostile-values").await;
    steps.world.create_secret("values", json!({"values.yaml": text})).await;
    let spec = json!({"version": "2.31.7", "valuesFrom": [{"kind": "Secret", "name": "values"}]});
    let problem = refused(&steps, spec).await;
    assert_eq!(problem.class, FailureClass::ValuesInvalid, "{problem:?}");
    assert_eq!(problem.field.as_deref(), Some("spec.valuesFrom[0]"));
    steps.world.finish().await;
}

/// Every one of a hundred thousand texts may be a secret: to hide them takes no longer than to read them.
#[tokio::test]
async fn many_values_are_hidden_in_time() {
    let steps = world("hostile-many").await;
    let text = (0..60_000).map(|n| format!("k{n}: s{n}x\n")).collect::<Vec<_>>().concat();
    steps.world.create_secret("values", json!({"values.yaml": text})).await;
    let begun = Instant::now();
    let spec = json!({"version": "2.31.7", "valuesFrom": [{"kind": "Secret", "name": "values"}]});
    let _ = steps.refused(spec).await;
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
    steps.world.finish().await;
}

/// Thirty thousand zeros in one object, three thousand levels in another: they are not read, its status says so, and others go on.
#[tokio::test]
async fn values_in_the_spec_beyond_the_limit_hold_up_no_other() {
    let world = World::new("hostile-object").await;
    let failed = |upgrade: &CoderUpgrade| upgrade.status.as_ref().is_some_and(|status| status.failure.is_some());
    world.declare("many", json!({"release": "many", "values": {"a": vec![0; 30_000]}})).await;
    let many = world.until("many", "refused", failed).await.status.unwrap().failure.unwrap();
    assert_eq!((many.class, many.field.as_deref()), (FailureClass::SpecInvalid, Some("spec.values")));
    assert!(many.message.contains("holds more than 20000 values"), "{many:?}");
    // Deeper than a reader of JSON goes, in the list of all objects: only kubectl can read it here.
    let deep = json!({"apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": "deep"},
        "spec": {"release": "deep", "values": {"a": "here"}}});
    let nested = format!("{}1{}", r#"{"a":["#.repeat(1500), "]}".repeat(1500));
    let arguments = ["create", "--namespace", &world.namespace, "-f", "-"];
    world.cluster.kubectl_with_input(&arguments, &deep.to_string().replace("\"here\"", &nested)).await.unwrap();
    let refused = "--for=jsonpath={.status.failure.field}=spec.values";
    world.kubectl(&["wait", refused, "coderupgrade/deep", "--timeout=60s"]).await;
    let broken = json!({"window": {"start": "22:00", "end": "04:00", "timeZone": "Nowhere/Town"}});
    world.declare("other", broken).await;
    let other = world.until("other", "refused", failed).await.status.unwrap().failure.unwrap();
    assert_eq!(other.field.as_deref(), Some("spec.window.timeZone"));
    world.finish().await;
}
