//! helm's release records as they would be: those of the server, and over them what helm would have written.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::core::plan::rehearsal::request::selects;
use crate::runner::helm::record::Record;

/// The records that are not as the server has them.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    prefix: String,
    /// By name of the Secret; none if helm would have deleted it.
    records: BTreeMap<String, Option<Value>>,
    /// The record that helm created last.
    created: Option<String>,
}

/// What there is over a record of the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Over<'a> {
    /// Nothing: it is as the server has it.
    Nothing,
    /// helm would have deleted it.
    Deleted,
    /// It would be this one: the whole Secret.
    Record(&'a Value),
}

impl Overlay {
    /// The records of a release.
    pub fn new(release: &str) -> Self {
        Self { prefix: format!("sh.helm.release.v1.{release}.v"), ..Self::default() }
    }

    /// Whether a Secret of that name is a record of the release.
    pub fn holds(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix).is_some_and(|number| number.parse::<u32>().is_ok())
    }

    /// What there is over the server's record.
    pub fn get(&self, name: &str) -> Over<'_> {
        match self.records.get(name) {
            None => Over::Nothing,
            Some(None) => Over::Deleted,
            Some(Some(secret)) => Over::Record(secret),
        }
    }

    /// Puts a record (its whole Secret) over that of the server.
    pub fn put(&mut self, secret: Value) {
        if let Some(name) = name(&secret) {
            self.records.insert(name.to_owned(), Some(secret));
        }
    }

    /// As [`Self::put`], for a record that helm creates.
    pub fn create(&mut self, secret: Value) {
        self.created = name(&secret).map(ToOwned::to_owned);
        self.put(secret);
    }

    /// Whether helm created the record itself, so that the server does not have it.
    pub fn is_created(&self, name: &str) -> bool {
        self.created.as_deref() == Some(name)
    }

    /// Hides the server's record.
    pub fn delete(&mut self, name: &str) {
        self.records.insert(name.to_owned(), None);
    }

    /// Makes a list of the server's Secrets what it would be. None if the selector is not one of helm's.
    pub fn merge(&self, list: &mut Value, selector: &str) -> Option<()> {
        let items = list["items"].as_array_mut()?;
        items.retain(|item| name(item).is_none_or(|name| !self.records.contains_key(name)));
        for secret in self.records.values().flatten() {
            if selects(selector, &secret["metadata"]["labels"])? {
                items.push(secret.clone());
            }
        }
        Some(())
    }

    /// The record that helm created last, as it is by now.
    pub fn newest(&self) -> Option<Record> {
        let secret = self.records.get(self.created.as_ref()?)?.as_ref()?;
        let stored = STANDARD.decode(secret["data"]["release"].as_str()?).ok()?;
        Record::decode(&stored).ok()
    }
}

fn name(secret: &Value) -> Option<&str> {
    secret["metadata"]["name"].as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(number: u32, status: &str) -> Value {
        let record = Record::from(json!({"version": number, "manifest": format!("# {status}")})).encode().unwrap();
        json!({
            "metadata": {
                "name": format!("sh.helm.release.v1.coder.v{number}"),
                "labels": {"owner": "helm", "name": "coder", "status": status},
            },
            "data": {"release": STANDARD.encode(record)},
        })
    }

    fn names(list: &Value) -> Vec<&str> {
        list["items"].as_array().unwrap().iter().filter_map(name).collect()
    }

    #[test]
    fn a_list_holds_what_helm_has_written_and_not_what_it_replaced() {
        let mut overlay = Overlay::new("coder");
        overlay.put(secret(2, "failed"));
        overlay.create(secret(3, "pending-upgrade"));
        overlay.put(secret(3, "deployed"));
        overlay.delete("sh.helm.release.v1.coder.v1");
        let server =
            json!({"items": [secret(1, "superseded"), secret(2, "pending-upgrade"), {"metadata": {"name": "other"}}]});

        let mut all = server.clone();
        overlay.merge(&mut all, "owner=helm").unwrap();
        assert_eq!(names(&all), ["other", "sh.helm.release.v1.coder.v2", "sh.helm.release.v1.coder.v3"]);
        let mut deployed = json!({"items": []});
        overlay.merge(&mut deployed, "name=coder,owner=helm,status=deployed").unwrap();
        assert_eq!(names(&deployed), ["sh.helm.release.v1.coder.v3"]);
        assert!(overlay.merge(&mut all, "name notin (x)").is_none());
        assert_eq!(overlay.newest().unwrap().manifest(), "# deployed");
        assert_eq!(overlay.get("sh.helm.release.v1.coder.v1"), Over::Deleted);
        assert_eq!(overlay.get("sh.helm.release.v1.coder.v2"), Over::Record(&secret(2, "failed")));
    }

    #[test]
    fn only_records_of_the_release_are_kept_back() {
        let overlay = Overlay::new("coder");
        assert!(overlay.holds("sh.helm.release.v1.coder.v12"));
        for other in
            ["sh.helm.release.v1.coder.vx", "sh.helm.release.v1.coder-2.v1", "coder", "sh.helm.release.v1.coder.v"]
        {
            assert!(!overlay.holds(other), "{other}");
        }
        assert!(overlay.newest().is_none() && overlay.get("sh.helm.release.v1.coder.v12") == Over::Nothing);
    }
}
