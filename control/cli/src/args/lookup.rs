//! Finds a flag's value: the innermost place on the command line, then its environment variables.
//!
//! cloudflared wants each flag in its place; here `tunnel --edge A run` and `tunnel run --edge A` mean the
//! same. A command may own a flag of the same name with another meaning (`list --output`): that one hides
//! the tunnel's flag on that level only. Configuration files are read by whoever knows their keys.

use std::str::FromStr;
use std::time::Duration;

use clap::ArgMatches;

use super::flag::Flag;
use super::values::{parse_duration, parse_switch};
use crate::failure::Failure;

/// Looks a variable up; a function so that tests need not touch the process's environment.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One view over the command line: which flags it knows and where their values may stand.
pub(crate) struct Lookup<'a> {
    tables: Vec<&'static [Flag]>,
    levels: Vec<(&'a ArgMatches, &'static [Flag])>,
    environment: Environment<'a>,
}

impl<'a> Lookup<'a> {
    /// A view of `tables`; nothing is known of the command line yet.
    pub(crate) fn new(tables: Vec<&'static [Flag]>, environment: Environment<'a>) -> Self {
        Self {
            tables,
            levels: Vec::new(),
            environment,
        }
    }

    /// Adds the next inner level; flags in `hiding` have another meaning there and are not looked at.
    pub(crate) fn add_level(&mut self, matches: &'a ArgMatches, hiding: &'static [Flag]) {
        self.levels.push((matches, hiding));
    }

    /// The value of a flag with one value.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.written(name)
            .and_then(|(values, _)| values.into_iter().next_back())
    }

    /// Every value of a flag with many; commas separate values as well.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let written = self.written(name).map(|(values, _)| values).unwrap_or_default();
        let parts = written.iter().flat_map(|value| value.split(','));
        parts
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Whether a switch is on or off, `None` when nobody said.
    pub(crate) fn switch(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.convert(name, parse_switch)
    }

    /// A duration in Go's notation.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        self.convert(name, parse_duration)
    }

    /// Anything else that can be read from text.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure>
    where
        T::Err: std::fmt::Display,
    {
        self.convert(name, |text| {
            text.parse().map_err(|error: T::Err| error.to_string())
        })
    }

    fn convert<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Failure> {
        let Some((values, place)) = self.written(name) else {
            return Ok(None);
        };
        let Some(text) = values.last() else {
            return Ok(None);
        };
        read(text)
            .map(Some)
            .map_err(|why| Failure::usage(format!("invalid value for {place}: {why}")))
    }

    /// The values as written and the place they come from; an empty variable counts as unset.
    fn written(&self, name: &str) -> Option<(Vec<String>, String)> {
        let flag = self
            .tables
            .iter()
            .flat_map(|table| table.iter())
            .find(|flag| flag.name == name)?;
        let hidden = |hiding: &[Flag]| hiding.iter().any(|flag| flag.is_called(name));
        let on_line = self
            .levels
            .iter()
            .rev()
            .filter(|(_, hiding)| !hidden(hiding))
            .find_map(|(matches, _)| {
                let values = matches.try_get_many::<String>(name).ok().flatten()?;
                Some(values.cloned().collect())
            });
        if let Some(values) = on_line {
            return Some((values, format!("--{name}")));
        }
        let from_variable = |variable: &&'static str| {
            let value = (self.environment)(variable).filter(|value| !value.is_empty())?;
            Some((vec![value], format!("the environment variable {variable}")))
        };
        flag.env.iter().find_map(from_variable)
    }
}
