//! The ingress rules of a file on their own, for the commands that check and explain them.

use std::path::{Path, PathBuf};

use adit_proto::ingress::settings::OriginOverrides;
use adit_proto::ingress::{Ingress, IngressError};
use serde_json::{Map, Value};

use super::file::File;
use super::keys::{Durations, Keys, Oddity};
use super::{ConfigError, rules};

/// Valid rules and where they come from.
#[derive(Debug)]
pub struct IngressFile {
    /// The file; `None` for rules given as text.
    pub path: Option<PathBuf>,
    /// The rules.
    pub ingress: Ingress,
    /// Keys that nobody knows, some with the nearest known name.
    pub unused_keys: Vec<String>,
}

/// A file that was found and is YAML, or that there is none.
#[derive(Debug)]
pub struct Found(File);

/// Finds the given file, or the first default one there is.
///
/// # Errors
/// [`ConfigError`] if it cannot be read or is not YAML.
pub fn find(given: Option<&Path>) -> Result<Found, ConfigError> {
    Ok(Found(File::find(given)?))
}

impl Found {
    /// Where it lies; `None` for no file, and for one that says nothing.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref().filter(|_| !self.0.is_empty())
    }

    /// Reads its rules.
    ///
    /// # Errors
    /// [`ConfigError`]; [`IngressError::NoRules`] in it without a file as well.
    pub fn rules(self) -> Result<IngressFile, ConfigError> {
        let mut unused = self.0.unknown();
        let ingress = rules::read(self.0.keys(), &OriginOverrides::default(), &mut unused)?;
        Ok(IngressFile {
            ingress: ingress.ok_or(IngressError::NoRules)?,
            path: self.0.path,
            unused_keys: texts(unused),
        })
    }
}

/// Reads the rules of JSON text, `{"ingress":[…]}` or `{"Ingress":[…]}`.
///
/// # Errors
/// [`ConfigError`].
pub fn read_json(text: &str) -> Result<IngressFile, ConfigError> {
    let mut document: Map<String, Value> = serde_json::from_str(text).map_err(ConfigError::Json)?;
    if let Some(rules) = document.remove("Ingress") {
        document.insert("ingress".to_owned(), rules);
    }
    let keys = Keys::new(&document, Durations::Text);
    let mut unused = Vec::new();
    let ingress = rules::read(keys, &OriginOverrides::default(), &mut unused)?;
    Ok(IngressFile {
        ingress: ingress.ok_or(IngressError::NoRules)?,
        path: None,
        unused_keys: texts(unused),
    })
}

fn texts(oddities: Vec<Oddity>) -> Vec<String> {
    oddities.into_iter().map(|oddity| oddity.text).collect()
}
