//! `ejection:` when replicas whose origins fail are left out. Defaults are those of [`Settings`].

use std::fmt;
use std::time::Duration;

use adit_proto::ejection::Settings;

use super::resolve::Resolver;
use super::{ConfigError, file, units};

const TIME_MIN: Duration = Duration::from_millis(100);
const TIME_MAX: Duration = Duration::from_secs(3_600);

impl Resolver<'_> {
    pub(super) fn ejection(&self, written: &file::Ejection) -> Result<Settings, ConfigError> {
        let default = Settings::default();
        let percent = |key, value: Option<u32>, default| match value {
            Some(value @ 101..) => Err(self.refuse(key, format!("{value} is not between 0 and 100"))),
            Some(value) => Ok(value),
            None => Ok(default),
        };
        let time = |key, value: &Option<String>, min, default| match value {
            Some(text) => self.duration(key, text, min, TIME_MAX),
            None => Ok(default),
        };
        let settings = Settings {
            failures_in_a_row: written.failures_in_a_row.unwrap_or(default.failures_in_a_row),
            failure_percent: percent(
                "ejection.failure-percent",
                written.failure_percent,
                default.failure_percent,
            )?,
            share_percent: percent(
                "ejection.share-percent",
                written.share_percent,
                default.share_percent,
            )?,
            time: time("ejection.time", &written.time, TIME_MIN, default.time)?,
            time_max: time("ejection.time-max", &written.time_max, TIME_MIN, default.time_max)?,
            slow_start: time(
                "ejection.slow-start",
                &written.slow_start,
                Duration::ZERO,
                default.slow_start,
            )?,
        };
        if written.time_max.is_some() && settings.time_max < settings.time {
            let reason = format!(
                "{:?} is shorter than ejection.time, {:?}",
                settings.time_max, settings.time
            );
            return Err(self.refuse("ejection.time-max", reason));
        }
        Ok(settings)
    }
}

/// Writes them as they are read.
pub(super) fn show(f: &mut fmt::Formatter<'_>, settings: &Settings) -> fmt::Result {
    writeln!(f, "ejection:")?;
    writeln!(f, "  failures-in-a-row: {}", settings.failures_in_a_row)?;
    writeln!(f, "  failure-percent: {}", settings.failure_percent)?;
    writeln!(f, "  share-percent: {}", settings.share_percent)?;
    writeln!(f, "  time: {}", units::show(settings.time))?;
    writeln!(
        f,
        "  time-max: {}",
        units::show(settings.time_max.max(settings.time))
    )?;
    writeln!(f, "  slow-start: {}", units::show(settings.slow_start))
}
