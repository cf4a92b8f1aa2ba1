//! What the manifest of a release has that its chart and its values do not give, and that an upgrade takes away: what a
//! post-renderer of helm has patched.
//!
//! A chart may render something else each time: by chance, by the clock, by what it looks up in the cluster, by the versions of
//! Kubernetes and helm. So it is rendered twice under different conditions, and only what is the same both times counts.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

use super::ChangeKind;
use super::fields::{self, Leaf, PathSegment};
use super::mask::Mask;
use crate::core::helm::documents::Documents;
use crate::core::object::ObjectRef;

/// Functions and objects of templates that tell the time, may give the same by chance, or tell the version of helm.
const UNSTEADY: [&str; 5] = ["now", "randInt", "randNumeric", "shuffle", "HelmVersion"];
/// Length from which a text of hexadecimal digits counts as a digest, which changes with the text that it is made of.
const DIGEST: usize = 32;

/// What the installed chart gives with the installed values.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// Name of the chart.
    pub chart: String,
    /// As for a first install without a cluster.
    pub one: Documents,
    /// As for an upgrade in the cluster.
    pub other: Documents,
    /// Two renderings may agree and a third may not: see [`unsteady`].
    pub unsteady: bool,
}

/// An object that a post-renderer has added, removed or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The object.
    pub object: ObjectRef,
    /// What was done to it.
    pub kind: ChangeKind,
    /// Paths of the fields that were changed.
    pub fields: Vec<String>,
}

/// Whether a file of a chart, or a value that is a template, may render something else although the cluster is the same.
pub fn unsteady(text: &str) -> bool {
    let actions = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    let code = actions.filter(|action| !action.trim_start_matches('-').trim_start().starts_with("/*"));
    code.flat_map(|action| action.split(|c: char| !c.is_ascii_alphanumeric())).any(|word| UNSTEADY.contains(&word))
}

/// What was patched of the manifest that helm has `stored`, as far as the manifest of the `new` chart does not have it. Keys of
/// labels and annotations for which `foreign` is true do not count. Each manifest comes with the values that it is made of.
pub fn patches(
    rendered: &Rendered,
    (stored, old_values): (&Documents, &Map<String, Value>),
    (new, new_values): (&Documents, &Map<String, Value>),
    foreign: impl Fn(&str) -> bool,
) -> Vec<Patch> {
    let mask = Mask::new(old_values, new_values);
    let Rendered { chart, one, other, unsteady } = rendered;
    if [stored, one, other].iter().any(|documents| documents.unread().next().is_some()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (name, object) in stored.objects() {
        if only(stored, &name).is_none() {
            continue;
        }
        let patch = |kind, fields| Patch { object: name.clone(), kind, fields };
        match (only(one, &name), only(other, &name), only(new, &name)) {
            (Some(one), Some(other), Some(new)) if one["apiVersion"] == object["apiVersion"] => {
                let kept =
                    DifferenceFilter { unstable: &leaves(one, other), lost: &leaves(object, new), unsteady: *unsteady };
                let leaves = leaves(one, object);
                let patched = leaves.iter().filter(|leaf| kept.counts(&name, leaf, &foreign));
                let fields: Vec<String> = patched.map(|leaf| fields::written(&leaf.path, &mask)).collect();
                if !fields.is_empty() {
                    found.push(patch(ChangeKind::Changed, fields));
                }
            }
            // What a template of the chart has rendered once, it leaves out under the present conditions.
            (None, None, None) if !stored.template(&name).is_some_and(|template| is_below(template, chart)) => {
                found.push(patch(ChangeKind::Added, Vec::new()));
            }
            _ => {}
        }
    }
    let removed = one.objects().map(|(name, _)| name).filter(|name| {
        let everywhere = [one, other, new].iter().all(|documents| only(documents, name).is_some());
        everywhere && !stored.objects().any(|(known, _)| known.same(name))
    });
    found.extend(removed.map(|object| Patch { object, kind: ChangeKind::Removed, fields: Vec::new() }));
    found
}

/// Whether a template lies in the chart of that name.
fn is_below(template: &str, chart: &str) -> bool {
    template.strip_prefix(chart).is_some_and(|rest| rest.starts_with('/'))
}

/// The object of that name, if there is exactly one.
fn only<'a>(documents: &'a Documents, name: &ObjectRef) -> Option<&'a Value> {
    let mut same = documents.objects().filter(|(known, _)| known.same(name)).map(|(_, object)| object);
    same.next().filter(|_| same.next().is_none())
}

fn leaves<'a>(before: &'a Value, after: &'a Value) -> Vec<Leaf<'a>> {
    let mut leaves = Vec::new();
    fields::compare(&mut Vec::new(), Some(before), Some(after), &mut leaves);
    leaves
}

/// Which differences between the rendered and the stored object count.
struct DifferenceFilter<'a> {
    /// What the chart renders differently each time.
    unstable: &'a [Leaf<'a>],
    /// What the upgrade changes.
    lost: &'a [Leaf<'a>],
    unsteady: bool,
}

impl DifferenceFilter<'_> {
    fn counts(&self, object: &ObjectRef, leaf: &Leaf<'_>, foreign: impl Fn(&str) -> bool) -> bool {
        let names: Vec<&str> = leaf.path.iter().map(|part| part.name.as_str()).collect();
        let own = match names.as_slice() {
            ["metadata", "namespace", ..] => false,
            ["data" | "stringData", ..] => object.kind != "Secret",
            [.., "labels" | "annotations", key] => !foreign(key),
            _ => true,
        };
        let changed = leaf.before.is_some() && leaf.after.is_some();
        let among = |others: &[Leaf<'_>]| others.iter().any(|other| overlap(&other.path, &leaf.path));
        let same = fields::is_bookkeeping(&leaf.path) || alike(leaf.before, leaf.after);
        let varies = changed && self.unsteady || among(self.unstable);
        own && !same && !varies && among(self.lost)
    }
}

/// Whether one path is the other one, or leads to it. Items that have no name may be any of their list.
fn overlap(one: &[PathSegment], other: &[PathSegment]) -> bool {
    one.iter().zip(other).all(|(one, other)| {
        let named = |part: &PathSegment| part.item.clone().filter(|item| !item.chars().all(|c| c.is_ascii_digit()));
        one.name == other.name && named(one).zip(named(other)).is_none_or(|(one, other)| one == other)
    })
}

/// Whether two values mean the same, written by two programs, or are digests of texts that are compared themselves.
fn alike(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(Value::Array(one)), Some(Value::Array(other))) if one.len() == other.len() && !one.is_empty() => {
            one.iter().zip(other).all(|(one, other)| alike(Some(one), Some(other)))
        }
        (Some(one), Some(other)) if !is_empty(one) && !is_empty(other) => match (plain(one), plain(other)) {
            (Some(one), Some(other)) => one == other || (is_digest(&one) && is_digest(&other)),
            _ => one == other,
        },
        (one, other) => one.is_none_or(is_empty) && other.is_none_or(is_empty),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A number as Go writes it when it was a whole one in a file of values: 1e+06.
#[allow(clippy::expect_used)] // Fixed text; a test compiles it.
static EXPONENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9](?:\.[0-9]+)?e\+[0-9]+").expect("a valid pattern"));

/// A text or a number as a text, however it is wrapped and its numbers are written.
fn plain(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64()?.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => return None,
    };
    let whole = |found: &Captures<'_>| found[0].parse::<f64>().map_or_else(|_| found[0].to_owned(), |n| n.to_string());
    let text = EXPONENT.replace_all(&text, whole);
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn is_digest(text: &str) -> bool {
    text.len() >= DIGEST && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn documents(objects: &[Value]) -> Documents {
        let text: Vec<String> = objects.iter().map(|object| format!("---\n{object}\n")).collect();
        Documents::parse(&text.concat(), "ns").unwrap()
    }

    fn config(name: &str, more: &Value) -> Value {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    }

    fn all(rendered: &Rendered, stored: &Documents, new: &[Value]) -> Vec<(ChangeKind, String)> {
        let (new, none) = (documents(new), Map::new());
        let found = patches(rendered, (stored, &none), (&new, &none), |key| key.starts_with("flux/"));
        found.into_iter().map(|patch| (patch.kind, patch.fields.join(" "))).collect()
    }

    /// What counts of a `ConfigMap` that is rendered like this twice, is stored like that, and is in the new chart as it was first.
    fn found(one: &Value, other: &Value, stored: &Value) -> String {
        let of = |more: &Value| [config("a", more)];
        let rendered =
            Rendered { chart: "coder".into(), one: documents(&of(one)), other: documents(&of(other)), unsteady: false };
        let found = all(&rendered, &documents(&of(stored)), &of(one));
        found.into_iter().map(|(_, fields)| fields).collect()
    }

    #[rstest]
    #[case::added(json!({}), json!({"data": {"a": "1"}}), "data.a")]
    #[case::removed(json!({"data": {"a": "1"}}), json!({}), "data.a")]
    #[case::changed(json!({"data": {"a": "1"}}), json!({"data": {"a": "2"}}), "data.a")]
    #[case::label(json!({}), json!({"metadata": {"name": "a", "labels": {"team": "x"}}}), "metadata.labels.team")]
    #[case::label_of_a_tool(json!({}), json!({"metadata": {"name": "a", "labels": {"flux/name": "x"}}}), "")]
    #[case::namespace(json!({}), json!({"metadata": {"name": "a", "namespace": "ns"}}), "")]
    #[case::written_by_a_typed_program(json!({}), json!({"metadata": {"name": "a", "creationTimestamp": null}, "status": {}}), "")]
    #[case::empty(json!({"data": {}}), json!({"data": null}), "")]
    #[case::number(json!({"data": {"a": "--most=1e+06"}}), json!({"data": {"a": "--most=1000000"}}), "")]
    #[case::another_number(json!({"data": {"a": "--most=2e+06"}}), json!({"data": {"a": "--most=1000000"}}), "data.a")]
    #[case::kind_of_number(json!({"data": {"a": 8080}}), json!({"data": {"a": "8080"}}), "")]
    #[case::wrapped(json!({"data": {"a": "b: c\nd: e\n"}}), json!({"data": {"a": "b: c\n\nd: e"}}), "")]
    #[case::digest(
        json!({"data": {"a": "0123456789abcdef0123456789abcdef"}}),
        json!({"data": {"a": "1123456789abcdef0123456789abcdef"}}),
        ""
    )]
    #[case::list(json!({"args": ["a"]}), json!({"args": ["a", "b"]}), "args")]
    fn what_the_chart_does_not_give_is_found(#[case] chart: Value, #[case] stored: Value, #[case] expected: &str) {
        assert_eq!(found(&chart, &chart, &stored), expected);
    }

    #[test]
    fn what_varies_does_not_count() {
        let data = |a: &str, b: &str| json!({"data": {"a": a, "b": b}});
        assert_eq!(found(&data("x", "1"), &data("y", "1"), &data("z", "1")), "");
        assert_eq!(found(&data("x", "1"), &data("y", "1"), &data("z", "2")), "data.b");
        assert_eq!(found(&data("x", "1"), &json!({}), &data("z", "2")), "", "a part of it is left out");
    }

    #[test]
    fn what_the_new_chart_has_as_well_is_not_lost() {
        let (chart, stored) = (json!({"data": {}}), config("a", &json!({"data": {"a": "1"}})));
        let once = documents(&[config("a", &chart)]);
        let rendered = Rendered { chart: "coder".into(), one: once.clone(), other: once, unsteady: false };
        let stored = [stored];
        assert_eq!(all(&rendered, &documents(&stored), &stored), []);
        assert_eq!(all(&rendered, &documents(&stored), &[]), [], "the object goes");
    }

    #[test]
    fn objects_come_and_go_unless_the_chart_has_them_at_times() {
        let (chart, more) = (config("a", &json!({})), config("b", &json!({})));
        let rendered = |one: &[Value], other: &[Value]| Rendered {
            chart: "coder".into(),
            one: documents(one),
            other: documents(other),
            unsteady: false,
        };
        let (one, both) = ([chart.clone()], [chart.clone(), more.clone()]);
        assert_eq!(all(&rendered(&one, &one), &documents(&both), &one), [(ChangeKind::Added, String::new())]);
        assert_eq!(all(&rendered(&both, &both), &documents(&one), &both), [(ChangeKind::Removed, String::new())]);
        assert_eq!(all(&rendered(&one, &both), &documents(&both), &one), []);
        assert_eq!(all(&rendered(&both, &one), &documents(&one), &both), []);
        let text = |source: &str| format!("---\n{chart}\n---\n# Source: {source}\n{more}\n");
        let stored = |source: &str| Documents::parse(&text(source), "ns").unwrap();
        assert_eq!(all(&rendered(&one, &one), &stored("coder/templates/b.yaml"), &one), []);
        assert_eq!(all(&rendered(&one, &one), &stored("generated-by-postrender-0.yaml"), &one).len(), 1);
        let broken = Documents::parse(&format!("{}---\nkind: [\n", text("x")), "ns").unwrap();
        assert_eq!(all(&rendered(&one, &one), &broken, &one), [], "not all of it is known");
    }

    #[test]
    fn by_the_clock_only_what_comes_or_goes_counts() {
        let once = documents(&[config("a", &json!({"data": {"a": "1"}}))]);
        let rendered = Rendered { chart: "coder".into(), one: once.clone(), other: once, unsteady: true };
        let new = [config("a", &json!({"data": {"a": "3"}}))];
        let stored = documents(&[config("a", &json!({"data": {"a": "2", "b": "4"}}))]);
        assert_eq!(all(&rendered, &stored, &new), [(ChangeKind::Changed, "data.b".to_owned())]);
    }

    #[rstest]
    #[case("on: {{ now | date \"2006\" }}", true)]
    #[case("{{- $n := randInt 0 2 }}", true)]
    #[case("{{ .Capabilities.HelmVersion.Version }}", true)]
    #[case("now {{/* now */}} {{- /* now */ -}} {{ .Values.known }} {{ randAlphaNum 9 }} now", false)]
    fn the_clock_is_read_in_actions_only(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(unsteady(text), expected);
    }
}
