//! Sets up logging: lines for people or JSON on standard error, JSON in a file if asked for.
//!
//! ```text
//! 2026-01-02T03:04:05Z INF Registered tunnel connection connIndex=0 location=lab01
//! ```
//! Levels apply to our own crates; libraries are heard from `warn` on. Does not decide what is logged and
//! never sees secrets: those are types that cannot be formatted.

mod file;
mod layer;
mod line;
mod live;
mod rolling;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use adit_connector::LiveLog;
use anyhow::{Context as _, anyhow};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::file::Reopened;
use self::layer::{LineLayer, Sink};
use self::line::Shape;
use self::live::{LiveLayer, WhileStreaming};
use self::rolling::Rolling;
use crate::args::lookup::Lookup;
use crate::failure::Failure;

/// Begins the names of our crates, which are what the level applies to.
const OUR_CRATES: &str = "adit";

/// The driver's transport and the protocol library below it, which have a level of their own.
const TRANSPORT: &str = "adit_driver::quic";
const TRANSPORT_LIBRARY: &str = "quinn_proto";

/// File name below `--log-directory`: cloudflared's, so that what collects its logs finds ours.
const FILE_IN_DIRECTORY: &str = "cloudflared.log";

/// The process has one logger.
static CONNECTOR: OnceLock<ConnectorLog> = OnceLock::new();

/// What a connector tells others of its log.
#[derive(Debug, Default)]
pub(crate) struct ConnectorLog {
    /// Where its lines are streamed from.
    pub(crate) live: LiveLog,
    /// Where they are also written.
    pub(crate) file: Option<PathBuf>,
}

/// What the connector of this process tells others of its log.
pub(crate) fn connector() -> &'static ConnectorLog {
    CONNECTOR.get_or_init(ConnectorLog::default)
}

/// Where log lines go and which.
#[derive(Debug)]
pub(crate) struct Options {
    level: LevelFilter,
    transport_level: Option<LevelFilter>,
    shape: Shape,
    file: Option<LogFile>,
    /// Values that mean nothing.
    odd: Vec<String>,
    /// What else is to be told.
    complaints: Vec<String>,
}

/// Where lines are also written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LogFile {
    /// `--logfile`: grows, whoever wants less moves it away.
    Named(PathBuf),
    /// `--log-directory`: put aside when it is full.
    InDirectory(PathBuf),
}

/// How long a process logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// As long as its command takes.
    Command,
    /// Until it is stopped: a SIGHUP has it open its file anew.
    Service,
}

impl LogFile {
    fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::InDirectory(path) => path,
        }
    }
}

impl Options {
    /// Reads the log flags of a command that has no file with them. An odd value is refused.
    pub(crate) fn from_flags(flags: &Lookup<'_>) -> Result<Self, Failure> {
        let options = Self::read(|name| Ok(flags.text(name)))?;
        if let Some(odd) = options.odd.first() {
            return Err(Failure::usage(odd.clone()));
        }
        Ok(options)
    }

    /// Reads the log settings wherever `setting` finds them. An odd value is reported and ignored: with
    /// cloudflared it keeps no tunnel from running.
    pub(crate) fn read(setting: impl Fn(&str) -> Result<Option<String>, Failure>) -> Result<Self, Failure> {
        let mut odd = Vec::new();
        let mut level = |name: &str| {
            let text = setting(name)?.filter(|text| !text.is_empty());
            let parsed = text.and_then(|text| parse_level(name, &text).map_err(|text| odd.push(text)).ok());
            Ok::<_, Failure>(parsed)
        };
        let chosen = level("loglevel")?.unwrap_or(LevelFilter::INFO);
        let transport_level = level("transport-loglevel")?;
        let shape = match setting("output")?.as_deref() {
            None | Some("default" | "") => Shape::Text,
            Some("json") => Shape::Json,
            Some(other) => {
                odd.push(format!(
                    "invalid value for --output: '{other}' is neither default nor json"
                ));
                Shape::Text
            }
        };
        let text = |name: &str| Ok::<_, Failure>(setting(name)?.filter(|text| !text.is_empty()));
        let (logfile, directory) = (text("logfile")?, text("log-directory")?);
        let mut complaints = Vec::new();
        if let (Some(logfile), Some(directory)) = (&logfile, &directory) {
            complaints.push(format!(
                "Your config includes values for both logfile ({logfile}) and log-directory ({directory}), but they are incompatible. logfile takes precedence."
            ));
        }
        let in_directory = |directory| LogFile::InDirectory(Path::new(&directory).join(FILE_IN_DIRECTORY));
        let named = logfile.map(|path| LogFile::Named(PathBuf::from(path)));
        Ok(Self {
            level: chosen,
            transport_level,
            shape,
            file: named.or_else(|| directory.map(in_directory)),
            odd,
            complaints,
        })
    }

    fn absolute_file(&self) -> Option<PathBuf> {
        let file = self.file.as_ref()?.path();
        Some(std::path::absolute(file).unwrap_or_else(|_| file.to_owned()))
    }

    /// Installs the logger of a command that ends by itself.
    pub(crate) fn install(&self) -> Result<(), Failure> {
        self.install_for(Life::Command)
    }

    /// Installs the logger of a command that runs until it is stopped, whose file others may rotate
    /// meanwhile.
    pub(crate) fn install_for_service(&self) -> Result<(), Failure> {
        self.install_for(Life::Service)
    }

    fn install_for(&self, life: Life) -> Result<(), Failure> {
        let (console, file) = self.layers(life)?;
        tracing_subscriber::registry()
            .with(self.filter())
            .with(console)
            .with(file)
            .try_init()
            .context("cannot set up logging")?;
        log_panics();
        self.complain();
        Ok(())
    }

    /// Installs the logger of a connector, which also hands its lines to [`ConnectorLog::live`], whatever
    /// their level.
    pub(crate) fn install_for_connector(&self) -> Result<(), Failure> {
        let live = LiveLog::default();
        let told = ConnectorLog {
            live: live.clone(),
            file: self.absolute_file(),
        };
        CONNECTOR
            .set(told)
            .map_err(|_| anyhow!("logging is set up already"))?;
        let (console, file) = self.layers(Life::Service)?;
        tracing_subscriber::registry()
            .with(console.with_filter(self.filter()))
            .with(file.map(|file| file.with_filter(self.filter())))
            .with(LiveLayer(live.clone()).with_filter(WhileStreaming(live)))
            .try_init()
            .context("cannot set up logging")?;
        log_panics();
        self.complain();
        Ok(())
    }

    fn layers(&self, life: Life) -> Result<(LineLayer, Option<LineLayer>), Failure> {
        let console = LineLayer::new(self.shape, Sink::Console);
        let file = self.file.as_ref().map(|file| open(file, life)).transpose()?;
        Ok((console, file.map(|sink| LineLayer::new(Shape::Json, sink))))
    }

    fn complain(&self) {
        for complaint in self.odd.iter().chain(&self.complaints) {
            tracing::error!("{complaint}");
        }
    }

    fn filter(&self) -> Targets {
        let others = self.level.min(LevelFilter::WARN);
        Targets::new()
            .with_default(others)
            .with_target(OUR_CRATES, self.level)
            .with_target(TRANSPORT, self.transport_level.unwrap_or(self.level))
            .with_target(TRANSPORT_LIBRARY, self.transport_level.unwrap_or(others))
    }
}

/// Panics reach the log as well as standard error, so that a log file tells of them.
fn log_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(%panic, "a task panicked; this is a bug");
        default(panic);
    }));
}

fn parse_level(flag: &str, text: &str) -> Result<LevelFilter, String> {
    match text {
        "trace" => Ok(LevelFilter::TRACE),
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warn" => Ok(LevelFilter::WARN),
        "error" | "fatal" | "panic" => Ok(LevelFilter::ERROR),
        "disabled" => Ok(LevelFilter::OFF),
        _ => Err(format!(
            "invalid value for --{flag}: '{text}' is none of debug, info, warn, error and fatal"
        )),
    }
}

fn open(file: &LogFile, life: Life) -> Result<Sink, Failure> {
    Ok(match file {
        LogFile::Named(path) => {
            let file = Reopened::open(path)?;
            if life == Life::Service {
                file.follow_signals()?;
            }
            Sink::File(file)
        }
        LogFile::InDirectory(path) => {
            let opened = Rolling::open(path);
            Sink::Rolling(opened.with_context(|| format!("cannot open the log file {}", path.display()))?)
        }
    })
}
