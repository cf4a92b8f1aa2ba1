//! Coder goes on with its data: where the old and the new manifest say that the database is.

use super::paths::at;
use super::pods::{VariableSource, environments, templates, variable};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding};
use crate::core::helm::documents::Documents;
use crate::core::object::KindName;
use serde_json::Value;

/// Variable with the URL of Coder v2's database.
pub const URL: &str = "CODER_PG_CONNECTION_URL";

/// Variables that together say where the database of Coder Classic is, with what an absent one means.
const CLASSIC: [(&str, &str); 3] = [("DB_HOST", ""), ("DB_PORT", "5432"), ("DB_DATABASE", "coder")];

/// The bundled database of Coder Classic.
const EMBEDDED: &str = "timescale";

/// [`CheckName::DatabaseTarget`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let (Some((_, old)), Some((name, new))) = (server(&facts.old), server(&foreseen.new)) else { return Vec::new() };
    let classic = CLASSIC.iter().find_map(|(variable, default)| classic(old, new, variable, default));
    let Some((variable, change)) = classic.or_else(|| url(old, new)) else { return Vec::new() };
    let has = |documents: &Documents| documents.objects().any(|(name, _)| name.is(&format!("StatefulSet/{EMBEDDED}")));
    let embedded = has(&foreseen.new) && !has(&facts.old);
    let container = new["name"].as_str().unwrap_or_default();
    let message = format!(
        "Coder would start on another database{}: {variable} of container {container} {change}",
        if embedded { ", an empty one that the chart brings along" } else { "" }
    );
    let ignored = at(&foreseen.values, &facts.value_path("postgres.useDefault")).is_some_and(|value| value == false);
    let next = if embedded && ignored {
        "Set postgres.default.enable to false in spec.values: this chart ignores postgres.useDefault, which it replaces."
    } else {
        "Correct the values that say where the database is. If Coder shall move to another one, move its data first, then name DatabaseTarget in spec.overrides."
    };
    let field = format!("spec.template.spec.containers[{container}].env[{variable}]");
    vec![Finding::refusal(CheckName::DatabaseTarget, message, next).about(name).at(field)]
}

/// The container of Coder's API server in a manifest, with the name of its workload.
fn server(documents: &Documents) -> Option<(KindName, &Value)> {
    templates(documents).find_map(|template| Some((template.object.clone(), template.server()?)))
}

/// How a variable of Coder Classic changes. Names of hosts and databases are no secrets.
fn classic<'a>(old: &Value, new: &Value, name: &'a str, default: &str) -> Option<(&'a str, String)> {
    variable(old, "DB_HOST")?;
    let told = |container: &Value| match variable(container, name) {
        Some(VariableSource::Value(value)) if name == "DB_HOST" => service(&value).to_owned(),
        Some(VariableSource::Value(value)) => value,
        Some(VariableSource::Object(object)) => object,
        None => default.to_owned(),
    };
    let (before, after) = (told(old), told(new));
    (before != after).then(|| (name, format!("changes from {before:?} to {after:?}")))
}

/// The name of a Service with its namespace, however much of the cluster's domain follows.
fn service(host: &str) -> &str {
    host.find(".svc")
        .filter(|at| matches!(host.as_bytes().get(at + 4), None | Some(b'.')))
        .map_or(host, |at| &host[..at])
}

/// How the URL of Coder v2's database changes, without a word of it.
fn url(old: &Value, new: &Value) -> Option<(&'static str, String)> {
    let from = |container: &Value| !environments(container).is_empty();
    let change = match (variable(old, URL), variable(new, URL)) {
        (Some(VariableSource::Value(a)), Some(VariableSource::Value(b))) => {
            (target(&a) != target(&b)).then(|| "names another server or database than before".to_owned())
        }
        (Some(VariableSource::Object(a)), Some(VariableSource::Object(b))) => {
            (a != b).then(|| format!("is read from {b}, and was read from {a}"))
        }
        (Some(VariableSource::Value(_)), Some(VariableSource::Object(b))) => {
            Some(format!("is read from {b}, and stood in the values"))
        }
        (Some(VariableSource::Object(a)), Some(VariableSource::Value(_))) => {
            Some(format!("stands in the values, and was read from {a}"))
        }
        (Some(_), None) if from(new) => Some("is left to envFrom, and was named before".into()),
        (Some(_), None) => Some("is gone".into()),
        (None, Some(_)) if from(old) => Some("is named, and was left to envFrom before".into()),
        (None, Some(_)) => Some("is new: until now Coder had a database inside of its pod".into()),
        (None, None) => None,
    };
    change.map(|change| (URL, change))
}

/// Server and database of a URL, without user, password and options.
fn target(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let end = rest.find('/').unwrap_or(rest.len());
    rest[..end].rfind('@').map_or(rest, |user| &rest[user + 1..])
}

/// Secrets and `ConfigMaps` whose keys tell whether the servers of a manifest learn the URL of their database.
pub fn environment_sources(new: &Documents) -> Vec<KindName> {
    let silent =
        templates(new).filter_map(|template| template.server()).filter(|server| variable(server, URL).is_none());
    silent.flat_map(environments).map(|(object, _)| object).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::sample;

    fn found(old: &Value, new: &Value) -> Option<String> {
        let documents =
            |env: &Value| sample::documents(&[sample::deployment("coder", &json!({"name": "coder", "env": env}))]);
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.old = documents(old);
        let found = check(&facts, &Foreseen { new: documents(new), ..sample::foreseen() });
        found.into_iter().next().map(|finding| finding.message)
    }

    fn inline(url: &str) -> Value {
        json!([{"name": URL, "value": url}])
    }

    fn secret(name: &str) -> Value {
        json!([{"name": URL, "valueFrom": {"secretKeyRef": {"name": name, "key": "url"}}}])
    }

    #[rstest]
    #[case::same(secret("db"), secret("db"), None)]
    #[case::other_secret(
        secret("db"),
        secret("other"),
        Some("key url of Secret/other, and was read from key url of Secret/db")
    )]
    #[case::other_password(
        inline("postgres://a:b@db:5432/coder"),
        inline("postgres://a:c@db:5432/coder?sslmode=disable"),
        None
    )]
    #[case::other_server(
        inline("postgres://a:b@db/coder"),
        inline("postgres://a:b@new/coder"),
        Some("names another server")
    )]
    #[case::other_database(
        inline("postgres://a:p/q@db/coder"),
        inline("postgres://a:p/q@db/empty"),
        Some("names another")
    )]
    #[case::gone(secret("db"), json!([]), Some("is gone"))]
    #[case::empty(secret("db"), inline(""), Some("is gone"))]
    #[case::from_inside(json!([]), secret("db"), Some("inside of its pod"))]
    #[case::into_a_secret(inline("postgres://db/coder"), secret("db"), Some("and stood in the values"))]
    #[case::nothing(json!([]), json!([]), None)]
    fn the_database_of_v2_stays(#[case] old: Value, #[case] new: Value, #[case] expected: Option<&str>) {
        let found = found(&old, &new);
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
        let message = found.unwrap_or_default();
        assert!(message.contains(expected.unwrap_or_default()), "{message}");
        assert!(!message.contains("postgres:") && !message.contains("new/"), "no word of the URL: {message}");
    }

    #[rstest]
    #[case::same("timescale.ns.svc.cluster.local", "timescale.ns", None)]
    #[case::other_suffix("timescale.ns.svc", "timescale.ns.svc.example.org", None)]
    #[case::embedded(
        "db.example.com",
        "timescale.ns.svc.cluster.local",
        Some(r#"DB_HOST of container coderd changes from "db.example.com" to "timescale.ns""#)
    )]
    fn the_database_of_classic_stays(#[case] before: &str, #[case] after: &str, #[case] expected: Option<&str>) {
        let documents = |host: &str, more: &[Value]| {
            let env = json!([{"name": "DB_HOST", "value": host}]);
            let server = sample::deployment("coderd", &json!({"name": "coderd", "env": env}));
            sample::documents(&[&[server], more].concat())
        };
        let mut facts = sample::facts("1.26.0", "1.27.0");
        facts.old = documents(before, &[]);
        let timescale = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "timescale"}});
        let values = sample::map(&json!({"postgres": {"useDefault": false}}));
        let foreseen = Foreseen { new: documents(after, &[timescale]), values, ..sample::foreseen() };
        let found = check(&facts, &foreseen);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        for finding in found {
            assert!(finding.message.contains(expected.unwrap_or_default()), "{finding:?}");
            assert!(finding.message.contains("an empty one"), "{finding:?}");
            assert!(finding.next_step.contains("postgres.default.enable"), "{finding:?}");
        }
    }

    #[test]
    fn only_sources_that_matter_are_read() {
        let of = |container: &Value| environment_sources(&sample::documents(&[sample::deployment("coder", container)]));
        let from = json!([{"secretRef": {"name": "all"}}]);
        assert_eq!(of(&json!({"name": "coder", "envFrom": from})), [KindName::new("Secret", "all")]);
        assert!(of(&json!({"name": "coder", "envFrom": from, "env": secret("db")})).is_empty());
        assert!(of(&json!({"name": "other", "envFrom": from})).is_empty());
    }
}
