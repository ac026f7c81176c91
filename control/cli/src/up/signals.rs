//! The signals that `adit up` obeys: all that would otherwise end it before it has cleaned up.

use std::fs::File;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The terminal of the process that opens it.
const TERMINAL: &str = "/dev/tty";

/// The number of SIGHUP: signal(7).
const HANGUP: u32 = 1;

/// Listens from its creation on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    /// Not used, and not to end us either.
    user: [Signal; 2],
    /// Whether there was a terminal whose loss ends us.
    had_terminal: bool,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        // Asked before listening, which ends it.
        let had_terminal = has_terminal() && !ignores_hangups();
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            quit: listen(SignalKind::quit())?,
            hangup: listen(SignalKind::hangup())?,
            user: [
                listen(SignalKind::user_defined1())?,
                listen(SignalKind::user_defined2())?,
            ],
            had_terminal,
        })
    }

    /// Waits until somebody wants us to stop, and calls `reload` when somebody wants files read again.
    pub(super) async fn received(&mut self, reload: impl Fn()) {
        let [first, second] = &mut self.user;
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hangup.recv() => {
                    if self.had_terminal && !has_terminal() {
                        return;
                    }
                    reload();
                }
                _ = first.recv() => {}
                _ = second.recv() => {}
            }
        }
    }
}

/// Whether whoever started us, such as nohup(1), wants us to outlive the terminal: proc_pid_status(5).
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (HANGUP - 1)) != 0)
}

/// A terminal that has hung up cannot be opened any more.
fn has_terminal() -> bool {
    File::open(TERMINAL).is_ok()
}
