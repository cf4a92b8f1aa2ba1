//! Faults on request.
//!
//! Each is a variable of the container, or an entry of the same name in the file `faults.json` of the database's data
//! directory, which then holds for all its servers. With `@VERSION` behind its name it holds for that version only
//! (`CODER_SIM_CRASH@2.32.0`).
//!
//! | name | effect |
//! | --- | --- |
//! | `CODER_SIM_START_DELAY` | a duration before the listener opens (of the container only) |
//! | `CODER_SIM_CRASH` | the program ends with this message and code 1 |
//! | `CODER_SIM_HANG` | the listener is open, but never answers |
//! | `CODER_SIM_ANSWER_VERSION` | another version is answered than the one that runs |
//! | `CODER_SIM_MIGRATION` | how long a migration takes |
//! | `CODER_SIM_MIGRATIONS` | how many migrations this release has beyond those of its minor version |
//! | `CODER_SIM_MIGRATION_ERROR` | `TIMES ERROR`: so many migrations, one after the other, end with this error of `PostgreSQL` after the time that they take; all if no number precedes the error |
//! | `CODER_SIM_DIRTY` | an earlier migration was left half done |
//! | `CODER_SIM_DENIED` | what `PostgreSQL` says to the first statement of the migration, such as `permission denied for schema public` |
//! | `CODER_SIM_POSTGRES_VERSION` | the version of `PostgreSQL` as a number: `120000` is too old |
//! | `CODER_SIM_WATCHDOG` | how long after the last heartbeat a server ends itself, instead of 5 minutes (of the container only) |
//! | `CODER_SIM_BUILDS` | how many workspace builds run |
//! | `CODER_SIM_HEALTH` | what the health report says: `warning CODE…` or `error CODE…`; each code names its part |
//! | `CODER_SIM_DEAF` | only the kubelet is answered, as behind a mesh or a network policy (of the container only) |
//! | `CODER_SIM_TOKEN` | the owner's token, instead of the usual one (module `owner`) |

use std::time::Duration;

use super::SimError;
use super::record::Record;
use super::settings::Settings;

/// The text of a fault for this version: from the container, or else from the database.
pub(super) fn text(settings: &Settings, record: Option<&Record>, name: &str) -> Option<String> {
    let versioned = format!("{name}@{}", settings.version);
    let ours = [versioned.as_str(), name].into_iter().find_map(|name| settings.get(name));
    let faults = record.map(|record| &record.faults);
    let theirs = || faults.and_then(|faults| faults.get(&versioned).or_else(|| faults.get(name))).cloned();
    ours.map(str::to_owned).or_else(theirs)
}

/// The duration of a fault; zero if it was not asked for.
pub(super) fn time(settings: &Settings, record: Option<&Record>, name: &str) -> Result<Duration, SimError> {
    let Some(text) = text(settings, record, name) else { return Ok(Duration::ZERO) };
    let parsed = text.parse::<kube::core::Duration>();
    parsed.map(Into::into).map_err(|error| SimError::Settings(format!("{name}: {error}")))
}

/// How many migrations this release has beyond those of its minor version: mostly none.
pub(super) fn own_migrations(settings: &Settings, record: &Record) -> u64 {
    let own = text(settings, Some(record), "CODER_SIM_MIGRATIONS");
    own.and_then(|own| own.parse().ok()).unwrap_or_default()
}

/// Ends the program if that was asked for.
pub(super) fn crash(settings: &Settings, record: Option<&Record>) -> Result<(), SimError> {
    text(settings, record, "CODER_SIM_CRASH").map_or(Ok(()), |message| Err(SimError::Crash(message)))
}

/// Whether the listener must never answer.
pub(super) fn hangs(settings: &Settings, record: Option<&Record>) -> bool {
    text(settings, record, "CODER_SIM_HANG").is_some_and(|value| !matches!(value.as_str(), "0" | "false"))
}

/// The version that is answered, without a leading `v`.
pub(super) fn answered_version(settings: &Settings, record: Option<&Record>) -> String {
    text(settings, record, "CODER_SIM_ANSWER_VERSION").unwrap_or_else(|| settings.version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_container_comes_first_and_a_version_narrows_it_down() {
        let settings = |variables: &[(&str, &str)]| {
            let variables = variables.iter().chain(&[("CODER_SIM_VERSION", "2.32.0")]);
            Settings::new(
                &["server".to_owned()],
                variables.map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            )
            .unwrap()
        };
        let faults =
            BTreeMap::from([("CODER_SIM_CRASH@2.31.0".into(), "old".into()), ("CODER_SIM_HANG".into(), "1".into())]);
        let record = Record { deployment_id: String::new(), line: None, schema: 0, revision: 0, faults };
        assert!(crash(&settings(&[]), Some(&record)).is_ok());
        assert!(crash(&settings(&[("CODER_SIM_CRASH", "boom")]), None).is_err());
        assert!(hangs(&settings(&[]), Some(&record)));
        assert!(!hangs(&settings(&[("CODER_SIM_HANG", "0")]), Some(&record)));
        assert_eq!(answered_version(&settings(&[]), Some(&record)), "2.32.0");
    }
}
