//! Without a database of its own, Coder v2 starts one inside of its pod. Unless its directory lies on a claim, every upgrade
//! begins with an empty one.

use std::path::Path;

use serde_json::Value;

use super::database::URL;
use super::pods::{Template, VariableSource, environments, list, templates, variable};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, ProductLine, Strategy};

/// [`CheckName::ExternalDatabase`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    if facts.line() != ProductLine::V2 || !facts.runs_servers() {
        return Vec::new();
    }
    let servers = templates(&foreseen.new).filter_map(|template| Some((template.server()?, template)));
    let missing = servers.filter(|(server, _)| !told(server, foreseen));
    let finding = |(server, template): (&Value, Template<'_>)| {
        let found = format!(
            "container {} of {} is not told a database ({URL})",
            server["name"].as_str().unwrap_or_default(),
            template.object
        );
        let next = format!("Set {URL} in coder.env, from a Secret with the URL of a PostgreSQL.");
        let pauses = facts.spec.strategy == Strategy::Recreate || template.spec["strategy"]["type"] == "Recreate";
        let finding = match claim(server, &template) {
            Some(claim) if pauses => Finding::warning(
                CheckName::ExternalDatabase,
                format!("{found}: Coder runs one inside of its pod, with its data on PersistentVolumeClaim/{claim}"),
                format!("To have one that is backed up and may be shared, move the data to a PostgreSQL. {next}"),
            ),
            Some(claim) => Finding::refusal(
                CheckName::ExternalDatabase,
                format!(
                    "{found}: Coder runs one inside of its pod, with its data on PersistentVolumeClaim/{claim}, and the old and \
                     the new pod would work on the same files for a while"
                ),
                format!("Set spec.strategy to Recreate, or move the data to a PostgreSQL. {next}"),
            ),
            None => Finding::refusal(
                CheckName::ExternalDatabase,
                format!("{found}: Coder would keep its data inside of the pod, and lose it with the pod"),
                next,
            ),
        };
        finding.about(&template.object).at("coder.env")
    };
    missing.map(finding).collect()
}

/// Where Coder keeps the database that it runs itself, if `CODER_CONFIG_DIR` does not say otherwise.
const CONFIG_DIR: &str = "/home/coder/.config/coderv2";

/// The claim on which the database inside of the pod would lie.
fn claim(server: &Value, template: &Template<'_>) -> Option<String> {
    let directory = match variable(server, "CODER_CONFIG_DIR") {
        Some(VariableSource::Value(directory)) => directory,
        Some(VariableSource::Object(_)) => return None,
        None => CONFIG_DIR.to_owned(),
    };
    let mounts = list(&server["volumeMounts"]).iter();
    // Of nested mounts the innermost one holds the directory.
    let path = |mount: &&Value| mount["mountPath"].as_str().is_some_and(|path| Path::new(&directory).starts_with(path));
    let mount = mounts.filter(path).max_by_key(|mount| mount["mountPath"].as_str().map(str::len))?;
    let volume = list(&template.pod["volumes"]).iter().find(|volume| volume["name"] == mount["name"])?;
    volume["persistentVolumeClaim"]["claimName"].as_str().map(ToOwned::to_owned)
}

/// Whether a server is told its database; what nobody could look into counts.
fn told(server: &Value, foreseen: &Foreseen) -> bool {
    let named = list(&server["env"]).iter().any(|entry| entry["name"] == URL && !entry["valueFrom"].is_null());
    // A shell that reads the URL from a file names one of them as well: Coder itself has no setting for that.
    let argument =
        |word: &Value| word.as_str().is_some_and(|word| word.contains("--postgres-url") || word.contains(URL));
    if named
        || variable(server, URL).is_some()
        || ["command", "args"].iter().any(|key| list(&server[*key]).iter().any(argument))
    {
        return true;
    }
    environments(server).iter().any(|(object, prefix)| {
        let keys = foreseen.surroundings.environments.get(object);
        keys.is_none_or(|keys| keys.iter().any(|key| format!("{prefix}{key}") == URL))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::Severity;
    use crate::core::object::KindName;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::value(json!({"env": [{"name": URL, "value": "postgres://db/coder"}]}), &[], true)]
    #[case::secret(json!({"env": [{"name": URL, "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}]}), &[], true)]
    #[case::argument(json!({"args": ["server", "--postgres-url=x"]}), &[], true)]
    #[case::from_a_file(json!({"command": ["sh", "-c", "CODER_PG_CONNECTION_URL=$(cat /db/url) exec coder server"]}), &[], true)]
    #[case::proxy(json!({"args": ["wsproxy", "server"]}), &[], true)]
    #[case::nothing(json!({}), &[], false)]
    #[case::empty(json!({"env": [{"name": URL, "value": ""}]}), &[], false)]
    #[case::unknown_source(json!({"envFrom": [{"secretRef": {"name": "x"}}]}), &[], true)]
    #[case::source_with_it(json!({"envFrom": [{"secretRef": {"name": "x"}, "prefix": "CODER_"}]}), &[("Secret/x", "PG_CONNECTION_URL")], true)]
    #[case::source_without_it(json!({"envFrom": [{"secretRef": {"name": "x"}}]}), &[("Secret/x", "OTHER")], false)]
    fn a_server_is_told_its_database(#[case] mut server: Value, #[case] keys: &[(&str, &str)], #[case] told: bool) {
        server["name"] = "coder".into();
        let mut foreseen = sample::foreseen();
        foreseen.new = sample::documents(&[sample::deployment("coder", &server)]);
        let keys = keys.iter().map(|(object, key)| (KindName::read(object).unwrap(), [(*key).into()].into()));
        foreseen.surroundings.environments = keys.collect();
        assert_eq!(check(&sample::facts("2.30.0", "2.31.7"), &foreseen).is_empty(), told);
        assert!(check(&sample::facts("1.43.0", "1.44.3"), &foreseen).is_empty(), "Coder Classic brings its own");
    }

    #[rstest]
    #[case::nothing_mounted(json!([]), json!([]), Strategy::Recreate, Severity::Refusal, "lose it with the pod")]
    #[case::home("/home/coder", json!([]), Strategy::RollingUpdate, Severity::Refusal, "work on the same files")]
    #[case::home_and_recreate("/home/coder", json!([]), Strategy::Recreate, Severity::Warning, "on PersistentVolumeClaim/home")]
    #[case::elsewhere("/var/lib/data", json!([]), Strategy::Recreate, Severity::Refusal, "lose it with the pod")]
    #[case::sibling("/home/coder/.config/coderv2-old", json!([]), Strategy::Recreate, Severity::Refusal, "lose it with the pod")]
    #[case::told_where("/data", json!([{"name": "CODER_CONFIG_DIR", "value": "/data/coder"}]), Strategy::Recreate, Severity::Warning, "/home")]
    fn a_claim_keeps_the_database_inside_of_the_pod(
        #[case] path: impl Into<Value>,
        #[case] env: Value,
        #[case] strategy: Strategy,
        #[case] severity: Severity,
        #[case] words: &str,
    ) {
        let path: Value = path.into();
        let mounts = if path.is_string() { json!([{"name": "data", "mountPath": path}]) } else { path };
        let mut deployment = sample::deployment("coder", &json!({"name": "coder", "env": env, "volumeMounts": mounts}));
        deployment["spec"]["template"]["spec"]["volumes"] =
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": "home"}}]);
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.spec.strategy = strategy;
        let found = check(&facts, &Foreseen { new: sample::documents(&[deployment]), ..sample::foreseen() });
        assert_eq!(found[0].severity, severity, "{found:?}");
        assert!(found[0].message.contains(words), "{found:?}");
    }
}
