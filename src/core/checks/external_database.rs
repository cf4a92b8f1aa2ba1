//! Without a database of its own, Coder v2 starts one inside of its pod, and every upgrade begins with an empty one.

use serde_json::Value;

use super::database::URL;
use super::pods::{Template, environments, list, templates, variable};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, ProductLine};

/// [`CheckName::ExternalDatabase`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    if facts.line() != ProductLine::V2 || !facts.runs_servers() {
        return Vec::new();
    }
    let servers = templates(&foreseen.new).filter_map(|template| Some((template.server()?, template)));
    let missing = servers.filter(|(server, _)| !told(server, foreseen));
    let finding = |(server, template): (&Value, Template<'_>)| {
        let message = format!(
            "container {} of {} is not told a database ({URL}): Coder would keep its data inside of the pod, and lose it with the pod",
            server["name"].as_str().unwrap_or_default(),
            template.name
        );
        let next = format!("Set {URL} in coder.env, from a Secret with the URL of a PostgreSQL.");
        Finding::refusal(CheckName::ExternalDatabase, message, next).about(&template.name).at("coder.env")
    };
    missing.map(finding).collect()
}

/// Whether a server is told its database; what nobody could look into counts.
fn told(server: &Value, foreseen: &Foreseen) -> bool {
    let named = list(&server["env"]).iter().any(|entry| entry["name"] == URL && !entry["valueFrom"].is_null());
    let argument = |word: &Value| word.as_str().is_some_and(|word| word.starts_with("--postgres-url"));
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
    use crate::core::checks::sample;

    #[rstest]
    #[case::value(json!({"env": [{"name": URL, "value": "postgres://db/coder"}]}), &[], true)]
    #[case::secret(json!({"env": [{"name": URL, "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}]}), &[], true)]
    #[case::argument(json!({"args": ["server", "--postgres-url=x"]}), &[], true)]
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
        let keys = keys.iter().map(|(object, key)| ((*object).into(), [(*key).into()].into()));
        foreseen.surroundings.environments = keys.collect();
        assert_eq!(check(&sample::facts("2.30.0", "2.31.7"), &foreseen).is_empty(), told);
        assert!(check(&sample::facts("1.43.0", "1.44.3"), &foreseen).is_empty(), "Coder Classic brings its own");
    }
}
