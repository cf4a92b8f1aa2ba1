//! The forms in which a result is printed.

use clap::ValueEnum;
use serde::Serialize;

use super::error::PluginError;
use crate::core::text::display::printable;

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people at a terminal
    #[default]
    Text,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
}

impl Output {
    /// The result in this form.
    pub fn of<T: Serialize>(self, result: &T, text: impl FnOnce(&T) -> String) -> Result<String, PluginError> {
        match self {
            // Charts, pods and other people choose their words, and a terminal must not obey them.
            Self::Text => Ok(printable(&text(result))),
            Self::Json => serde_json::to_string_pretty(result)
                .map(|text| text + "\n")
                .map_err(|error| PluginError::Print(error.to_string())),
            Self::Yaml => serde_saphyr::to_string(result).map_err(|error| PluginError::Print(error.to_string())),
        }
    }
}
