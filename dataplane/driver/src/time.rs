//! Timers of a core: sleeps, timeouts and ticks for tasks, in both I/O modes.
//!
//! On a core in io_uring mode timers wait in a queue that the core looks at once per turn, without a lock or
//! a system call per timer. Everywhere else they are tokio's. A timer enters a queue only when it is first
//! waited for, so a timeout around something that is ready costs nothing.
//!
//! Timers fire up to one turn late, never early. Not for measuring.

mod queue;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
pub use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

pub(crate) use queue::{fire, install, next_deadline};

/// The time at the beginning of this core's turn; elsewhere, the time.
#[must_use]
pub fn now() -> Instant {
    queue::now().unwrap_or_else(Instant::now)
}

/// Waits for `duration` from now on.
pub fn sleep(duration: Duration) -> Sleep {
    // Not the turn's time: that may be a while ago, and the timer would fire early.
    let now = Instant::now();
    // Further away than any process lives, should the sum not exist.
    let far = now + Duration::from_secs(u32::MAX.into());
    sleep_until(now.checked_add(duration).unwrap_or(far))
}

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline,
        place: Place::None,
    }
}

/// A timer; see [`sleep`]. Dropping it takes it back.
#[derive(Debug)]
pub struct Sleep {
    deadline: Instant,
    place: Place,
}

/// Where a timer waits.
#[derive(Debug)]
enum Place {
    None,
    Core(queue::Key),
    Tokio(Pin<Box<tokio::time::Sleep>>),
}

impl Sleep {
    /// When it fires.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves it; a timer that has fired may fire again.
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        match &mut self.place {
            Place::None => {}
            Place::Core(key) => queue::reset(key, deadline),
            Place::Tokio(sleep) => sleep.as_mut().reset(deadline.into()),
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Place::Tokio(sleep) = &mut this.place {
            return sleep.as_mut().poll(cx);
        }
        let Some(now) = queue::now() else {
            let mut sleep = Box::pin(tokio::time::sleep_until(this.deadline.into()));
            let polled = sleep.as_mut().poll(cx);
            this.place = Place::Tokio(sleep);
            return polled;
        };
        if this.deadline <= now {
            return Poll::Ready(());
        }
        match &this.place {
            Place::Core(key) => queue::renew(key, cx),
            Place::None | Place::Tokio(_) => this.place = Place::Core(queue::enter(this.deadline, cx)),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Place::Core(key) = &self.place {
            queue::leave(key);
        }
    }
}

/// The time ran out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time ran out")]
pub struct Elapsed;

impl From<Elapsed> for std::io::Error {
    fn from(_: Elapsed) -> Self {
        std::io::ErrorKind::TimedOut.into()
    }
}

pin_project! {
    /// A future with a time limit; see [`timeout`].
    #[derive(Debug)]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        limit: Limit,
    }
}

/// How long a future has.
#[derive(Debug)]
enum Limit {
    /// From the first time it is waited for.
    For(Duration),
    Until(Sleep),
}

/// Gives `future` at most `limit` from the first time it is waited for.
pub fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    Timeout {
        future,
        limit: Limit::For(limit),
    }
}

/// Gives `future` until `deadline`.
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout {
        future,
        limit: Limit::Until(sleep_until(deadline)),
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if let Limit::For(limit) = *this.limit {
            *this.limit = Limit::Until(sleep(limit));
        }
        match this.limit {
            Limit::Until(sleep) => Pin::new(sleep).poll(cx).map(|()| Err(Elapsed)),
            Limit::For(_) => Poll::Pending,
        }
    }
}

/// Ticks at once and then every `period`; ticks that were missed are left out.
///
/// # Panics
/// If `period` is zero.
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval has a length");
    Interval {
        period,
        sleep: sleep_until(now()),
    }
}

/// A regular tick; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    sleep: Sleep,
}

impl Interval {
    /// Waits for the next tick. Cancel-safe.
    pub async fn tick(&mut self) {
        Pin::new(&mut self.sleep).await;
        let next = self.sleep.deadline() + self.period;
        let now = now();
        self.sleep
            .reset(if next > now { next } else { now + self.period });
    }
}

#[cfg(test)]
mod tests;
