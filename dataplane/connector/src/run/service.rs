//! The service thread's loop: performs what the supervisor decides and tells it what happened.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use adit_driver::mailbox::{Receiver, Sender};
use adit_proto::supervisor::{End, Output, Protocol, Supervisor};
use adit_wire::ConnIndex;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::reload::Reload;
use super::{ConnectorError, files};
use crate::connections::{Command, Event};
use crate::status::Status;

/// The cores as the service sees them.
pub(super) struct Crew {
    /// By core.
    pub(super) commands: Vec<Sender<Command>>,
    pub(super) events: Receiver<Event>,
    pub(super) failures: mpsc::Receiver<String>,
}

impl Crew {
    /// Sends a command to the core that owns its slot.
    fn send(&self, index: ConnIndex, command: Command) {
        let core = usize::from(index.0) % self.commands.len().max(1);
        let Some(sender) = self.commands.get(core) else {
            return;
        };
        if sender.try_send(command).is_err() {
            // Sized for more commands than a core's slots can have waiting.
            tracing::error!(core, "A core takes no commands");
        }
    }
}

/// What asks a process to stop.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from here on, also to the wish to reload, whose default would end the process.
    pub(super) fn listen() -> io::Result<(Self, Signal)> {
        let ours = Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        Ok((ours, signal(SignalKind::hangup())?))
    }

    /// Waits for the next one and names it.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupt",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

/// Whether the loop goes on.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Until this time, or the next event.
    Wait(Option<std::time::Instant>),
    Finished,
}

/// Everything the loop owns.
pub(super) struct Service {
    pub(super) supervisor: Supervisor,
    pub(super) status: Rc<RefCell<Status>>,
    pub(super) crew: Crew,
    pub(super) signals: Signals,
    pub(super) reload: Reload,
    /// Connections to restart, each after a delay, if somebody may ask for that.
    pub(super) restarts: Option<mpsc::Receiver<Duration>>,
    /// Written with the first registration.
    pub(super) pidfile: Option<PathBuf>,
    /// Whether the service manager knows of the first registration.
    pub(super) is_announced: bool,
}

impl Service {
    /// Runs until everything is drained. Dropping it lets the cores go.
    pub(super) async fn run(mut self) -> Result<(), ConnectorError> {
        let mut is_draining = false;
        loop {
            self.supervisor.handle_timeout(now());
            let Step::Wait(until) = self.perform() else {
                return Ok(());
            };
            tokio::select! {
                event = self.crew.events.recv() => match event {
                    Some(event) => self.handle_event(event),
                    None => return Ok(()),
                },
                () = wait_until(until) => {}
                failure = self.crew.failures.recv() => {
                    if let Some(text) = failure {
                        return Err(ConnectorError::CoreSetup(text));
                    }
                    // Every core has ended, which only a panic explains; whoever watches them knows it.
                    std::future::pending::<()>().await;
                }
                cause = self.reload.due() => {
                    let is_applied = self.reload.perform(cause);
                    self.status.borrow_mut().reloaded(is_applied);
                }
                delay = restart_asked(&mut self.restarts) => self.restart(delay),
                name = self.signals.next() => {
                    if is_draining {
                        return Err(ConnectorError::Interrupted);
                    }
                    is_draining = true;
                    self.status.borrow_mut().draining();
                    tracing::info!(signal = name, "Initiating graceful shutdown");
                    tell_manager(NotifyState::Stopping);
                    self.supervisor.handle_drain();
                }
            }
        }
    }

    /// Performs outputs until the supervisor waits.
    fn perform(&mut self) -> Step {
        loop {
            match self.supervisor.poll_output() {
                Output::Dial {
                    id,
                    index,
                    address,
                    protocol,
                    replaces,
                    previous_attempts,
                } => {
                    let command = Command::Dial {
                        id,
                        index,
                        address,
                        protocol,
                        replaces,
                        previous_attempts,
                    };
                    self.crew.send(index, command);
                }
                Output::Drain { id, index } => self.crew.send(index, Command::Drain { id }),
                Output::Switch { index, to } => log_switch(index, to),
                Output::Retry { index, up_to } => {
                    tracing::info!(connIndex = index.0, up_to = ?up_to, "Retrying connection");
                }
                Output::Finished => return Step::Finished,
                Output::Wait(until) => return Step::Wait(until),
            }
        }
    }

    /// Has every core ask the edges of its connections for a sign of life.
    fn check_all(&self) {
        for core in &self.crew.commands {
            // A full mailbox is full of such questions.
            let _asked_already = core.try_send(Command::Check);
        }
    }

    fn restart(&mut self, delay: Duration) {
        match self.supervisor.handle_restart(delay) {
            Some(index) => {
                tracing::info!(
                    connIndex = index.0,
                    ?delay,
                    "Restarting connection due to reconnect signal"
                );
            }
            None => tracing::warn!("No connection can be restarted now"),
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Registered {
                id,
                index,
                connection,
            } => {
                self.status.borrow_mut().registered(id, index, connection);
                self.supervisor.handle_registered(now(), id);
                if !self.is_announced {
                    self.is_announced = true;
                    tell_manager(NotifyState::Ready);
                }
                if let Some(path) = self.pidfile.take()
                    && let Err(error) = files::write_pid(&path)
                {
                    tracing::error!(path = %path.display(), %error, "Cannot write the pidfile");
                }
            }
            Event::Doubted => self.check_all(),
            Event::Ended { id, index, end } => {
                if end == End::Forgotten {
                    // The same edge has forgotten the others.
                    self.check_all();
                }
                self.status.borrow_mut().ended(id, index);
                self.supervisor.handle_ended(now(), id, end);
            }
        }
    }
}

/// Tells the service manager that started us, if one did (sd_notify(3)).
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "Cannot tell the service manager");
    }
}

fn log_switch(index: ConnIndex, to: Protocol) {
    match to {
        Protocol::Http2 => tracing::info!(connIndex = index.0, "Switching to fallback protocol http2"),
        Protocol::Quic => tracing::info!(connIndex = index.0, "Trying protocol quic again"),
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Waits for the next delay; for ever if nobody can ask any more.
async fn restart_asked(restarts: &mut Option<mpsc::Receiver<Duration>>) -> Duration {
    if let Some(asked) = restarts {
        if let Some(delay) = asked.recv().await {
            return delay;
        }
        *restarts = None;
    }
    std::future::pending().await
}

async fn wait_until(until: Option<std::time::Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
