//! The three children together: started one after the other, watched all the time, stopped in order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::future::select_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::child::Child;
use crate::failure::Failure;

/// How long a child may take to end after SIGTERM before it is killed: longer than any grace period.
const STOP_TIME_MAX: Duration = Duration::from_secs(40);

/// What a child is, in the order they are stopped: whoever takes new work first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Connector,
    Edge,
    Control,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Connector => "connector",
            Self::Edge => "edge",
            Self::Control => "control",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The children that run.
#[derive(Debug, Default)]
pub(super) struct Family {
    children: BTreeMap<Role, Child>,
    pids: Pids,
}

/// Whom signals are passed on to.
#[derive(Clone, Debug, Default)]
pub(super) struct Pids(Rc<RefCell<Vec<Pid>>>);

impl Pids {
    /// Has every child read its files again.
    pub(super) fn hang_up(&self) {
        for pid in self.0.borrow().iter() {
            // One that has ended ends the family within a second; its number is not given away so soon.
            let _already_gone = kill(*pid, Signal::SIGHUP);
        }
    }
}

impl Family {
    /// Starts a child.
    pub(super) fn start(&mut self, role: Role, arguments: Vec<String>) -> Result<(), Failure> {
        let child = Child::start(role.name(), &arguments)?;
        self.pids.0.borrow_mut().extend(child.pid());
        self.children.insert(role, child);
        Ok(())
    }

    /// Whom signals are passed on to, also those who are started later.
    pub(super) fn pids(&self) -> Pids {
        self.pids.clone()
    }

    /// Awaits `work` unless a child ends before.
    pub(super) async fn while_running<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            failure = self.first_end() => Err(failure),
            done = work => done,
        }
    }

    /// Waits until a child ends, which none should, and says why it did.
    pub(super) async fn first_end(&mut self) -> Failure {
        if self.children.is_empty() {
            return std::future::pending().await;
        }
        let ends = self
            .children
            .iter_mut()
            .map(|(role, child)| Box::pin(explain(*role, child)));
        let (failure, _, _) = select_all(ends).await;
        failure
    }

    /// Stops the children one after the other, each with time to finish what it does.
    pub(super) async fn stop(&mut self) {
        for (role, child) in &mut self.children {
            child.terminate();
            if tokio::time::timeout(STOP_TIME_MAX, child.ended()).await.is_err() {
                tracing::warn!("the {role} did not stop within {STOP_TIME_MAX:?} and is killed");
                child.kill().await;
            }
            // Its pipes are read to the end, so that its last lines are shown before ours.
            let _shown_already = child.last_words().await;
        }
    }

    /// Ends all children at once.
    pub(super) async fn kill(&mut self) {
        for child in self.children.values_mut() {
            child.kill().await;
        }
    }
}

async fn explain(role: Role, child: &mut Child) -> Failure {
    let end = match child.ended().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let reason = child
        .last_words()
        .await
        .unwrap_or_else(|| "it said nothing about the reason".to_owned());
    let is_port_taken = role == Role::Edge && reason.contains("in use");
    let failure = Failure::from(anyhow!("the {role} ended ({end}): {reason}"));
    if is_port_taken {
        failure.next("adit up with another --http or --https address")
    } else {
        failure
    }
}
