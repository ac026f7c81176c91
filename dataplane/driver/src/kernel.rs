//! Decides how this process talks to the kernel: io_uring where it works, the portable reactor elsewhere.
//!
//! The probe runs what the dataplane runs: a ring with our flags, its operations, a buffer ring, one turn of
//! the runtime. A version number would not do, because containers, seccomp policies and sysctls forbid
//! io_uring on kernels that have it. It costs a few milliseconds, once, at start.
//!
//! Does not: change its mind later. A process keeps one [`IoMode`] for its life.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::ring;

/// How a core performs I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoMode {
    /// Completions: one ring per core for streams, datagrams and sleep.
    Uring,
    /// Readiness: tokio's reactor for everything. Works on every Linux, only slower.
    Portable,
}

impl fmt::Display for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Portable => "portable",
        })
    }
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring if the probe succeeds, else portable.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// Portable, without probing.
    Portable,
}

impl FromStr for IoChoice {
    type Err = UnknownIoChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "portable" => Ok(Self::Portable),
            _ => Err(UnknownIoChoice {
                given: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for IoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Portable => "portable",
        })
    }
}

/// A text that names no [`IoChoice`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown I/O mode {given:?}: expected auto, uring or portable")]
pub struct UnknownIoChoice {
    given: String,
}

/// The mode this process uses, and a sentence for the log that says why.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Pass this to every core.
    pub mode: IoMode,
    /// Complete sentence part, e.g. `creating a ring failed: Operation not permitted (...)`.
    pub reason: String,
}

/// The asked-for mode does not work here.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// io_uring was demanded, and one of its steps failed.
    #[error("io_uring was asked for but does not work here: {0}")]
    Unavailable(Shortfall),
}

/// Chooses the mode, trying everything the dataplane uses of io_uring unless the choice is portable.
///
/// # Errors
/// [`ProbeError::Unavailable`] if `choice` is [`IoChoice::Uring`] and a step fails. With
/// [`IoChoice::Auto`] the same failure becomes the reason for [`IoMode::Portable`].
pub fn probe(choice: IoChoice) -> Result<Probe, ProbeError> {
    let attempt = match choice {
        IoChoice::Portable => {
            return Ok(Probe {
                mode: IoMode::Portable,
                reason: "asked for by configuration".to_owned(),
            });
        }
        IoChoice::Auto | IoChoice::Uring => ring::probe::try_everything(),
    };
    match (attempt, choice) {
        (Ok(()), _) => {
            let reason = "every io_uring operation the dataplane uses works here".to_owned();
            Ok(Probe {
                mode: IoMode::Uring,
                reason,
            })
        }
        (Err(shortfall), IoChoice::Uring) => Err(ProbeError::Unavailable(shortfall)),
        (Err(shortfall), IoChoice::Auto | IoChoice::Portable) => Ok(Probe {
            mode: IoMode::Portable,
            reason: shortfall.to_string(),
        }),
    }
}

/// The first io_uring step that failed. Its text contains the kernel's error and what usually causes it.
#[derive(Debug)]
pub struct Shortfall {
    step: Step,
    error: io::Error,
}

/// What the probe was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Thread,
    Ring,
    Operations,
    BufferRing,
    Runtime,
}

impl Shortfall {
    pub(crate) fn new(step: Step, error: io::Error) -> Self {
        Self { step, error }
    }

    fn likely_cause(&self) -> Option<&'static str> {
        match self.error.raw_os_error()? {
            libc::EPERM | libc::EACCES => Some(
                "forbidden by a seccomp policy, as containers have by default, or by the sysctl \
                 kernel.io_uring_disabled",
            ),
            libc::ENOSYS => Some("this kernel has no io_uring, or a seccomp policy hides it"),
            libc::EINVAL => Some("this kernel is older than Linux 6.1"),
            libc::ENOMEM => Some("the memory lock limit (ulimit -l) or the memory cgroup is too small"),
            libc::EMFILE | libc::ENFILE => Some("no file descriptors left (ulimit -n)"),
            _ => None,
        }
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.step {
            Step::Thread => "starting the probe's thread",
            Step::Ring => "creating a ring",
            Step::Operations => "listing the ring's operations",
            Step::BufferRing => "registering a buffer ring",
            Step::Runtime => "starting the runtime's ring",
        };
        write!(f, "{doing} failed: {}", self.error)?;
        match self.likely_cause() {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_parse_and_print_the_same_word() {
        for (text, choice) in [
            ("auto", IoChoice::Auto),
            ("uring", IoChoice::Uring),
            ("portable", IoChoice::Portable),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert!("epoll".parse::<IoChoice>().is_err());
    }

    #[test]
    fn portable_is_chosen_without_probing() {
        let probe = probe(IoChoice::Portable).unwrap();
        assert_eq!(probe.mode, IoMode::Portable);
    }

    #[test]
    fn auto_agrees_with_uring() {
        let auto = probe(IoChoice::Auto).unwrap();
        match probe(IoChoice::Uring) {
            Ok(_) => assert_eq!(auto.mode, IoMode::Uring),
            Err(error) => {
                assert_eq!(auto.mode, IoMode::Portable);
                assert!(error.to_string().contains(&auto.reason));
            }
        }
    }

    #[test]
    fn a_shortfall_says_what_failed_and_why() {
        let forbidden = Shortfall::new(Step::Ring, io::Error::from_raw_os_error(libc::EPERM));
        let text = forbidden.to_string();
        assert!(text.contains("creating a ring"), "{text}");
        assert!(text.contains("seccomp"), "{text}");
    }
}
