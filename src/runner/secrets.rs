//! The secrets of a step, known to everything that speaks: the log, the report, the terminal.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::core::text::confidential;
use crate::core::text::redact::{Cleaned, Redactor};

/// A [`Redactor`] that parts of a step may teach new secrets while others use it.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    redactor: Arc<RwLock<Redactor>>,
    /// Names of the Secrets whose content is hidden.
    hidden: Arc<Mutex<BTreeSet<String>>>,
}

impl Secrets {
    /// Hides these strings from now on.
    pub fn hide(&self, secrets: impl IntoIterator<Item = String>) {
        self.redactor.write().unwrap_or_else(PoisonError::into_inner).hide(secrets);
    }

    /// Hides the content of the Secret of this name.
    pub fn hide_secret(&self, name: &str, content: impl IntoIterator<Item = String>) {
        self.hide(content);
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Whether the content of a Secret, as it was at some time in this step, is hidden.
    pub fn is_hidden(&self, name: &str) -> bool {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Hides the secrets in these values.
    pub fn hide_values(&self, values: &Value) {
        self.hide(confidential::secrets(values));
    }

    /// The text without secrets. For texts that are cut; everything else is cleaned where it leaves the program.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        self.clean_after("", text).text
    }

    /// The text without secrets, if it follows another one that ended in the middle of a secret.
    #[must_use]
    pub fn clean_after(&self, before: &str, text: &str) -> Cleaned {
        self.redactor.read().unwrap_or_else(PoisonError::into_inner).clean_after(before, text)
    }

    /// The same with every text in it cleaned, but for names, versions and UIDs.
    pub fn cleaned<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<T, serde_json::Error> {
        self.redactor.read().unwrap_or_else(PoisonError::into_inner).cleaned(value)
    }

    /// Writes a line to standard error, for a person at a terminal.
    pub fn say(&self, line: &str) {
        // Nobody is left to be told when the terminal is gone.
        let _ = writeln!(io::stderr(), "{}", self.clean(line));
    }
}
