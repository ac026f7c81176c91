//! The runtime of one core in io_uring mode: tokio's local tasks over the core's own
//! [reactor](super::reactor).
//!
//! ```text
//! run ready tasks ─► fire timers ─► submit, and sleep if nothing is ready ─► complete ─► …
//! ```
//! One system call per turn, however many operations and datagrams it carries. None if there is nothing to
//! submit. Timers are those of [`time`](crate::time). Other parts of tokio that need a runtime run on a
//! thread shared by all cores: blocking calls such as name resolution, and its sockets in tests. That thread
//! is never on a hot path.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::LocalSet;

use super::bell::{Bell, Counter};
use super::reactor::{Reactor, Ticket, Wait, nothing};
use crate::time;

pub(crate) struct Runtime {
    reactor: &'static Reactor,
    bell: Arc<Bell>,
    tasks: ManuallyDrop<Pin<Box<LocalSet>>>,
    side: Handle,
}

impl Runtime {
    /// Makes a runtime on this thread, which must be the one that runs it. Nothing of it is ever freed.
    pub(crate) fn new() -> io::Result<Self> {
        let side = side_thread()?;
        let bell = Arc::new(Bell::new()?);
        let reactor = Reactor::install()?;
        time::install(Instant::now());
        Ok(Self {
            reactor,
            bell,
            tasks: ManuallyDrop::new(Box::pin(LocalSet::new())),
            side,
        })
    }

    /// Runs `life`, and every task spawned from it, for ever.
    pub(crate) fn block_on(&mut self, life: impl Future<Output = ()> + 'static) {
        let _side = self.side.enter();
        self.tasks.spawn_local(life);
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        // Its memory must outlive this call, however that ends: the kernel writes to it.
        let counter = Box::leak(Box::new(Counter::default()));
        let mut hearing: Option<Ticket> = None;
        loop {
            let heard = hearing.as_ref().is_none_or(|ticket| {
                let result = self.reactor.poll(ticket, &cx);
                result.is_some()
            });
            if heard {
                // SAFETY: the counter is leaked and the eventfd lives in `self.bell`, which tasks and wakers
                // hold as long as the process lives.
                hearing = Some(unsafe { self.reactor.start(self.bell.listen(counter)) });
            }
            self.bell.take();
            if self.tasks.as_mut().poll(&mut cx).is_ready() {
                return;
            }
            time::fire(Instant::now());
            if self.bell.fall_asleep() {
                // Awake before tasks are woken: ringing a sleeping core costs a system call.
                let on_awake = || self.bell.wake_up();
                self.reactor.turn(Wait::Until(time::next_deadline()), on_awake);
                time::fire(Instant::now());
            } else {
                self.reactor.turn(Wait::No, || {});
            }
        }
    }
}

/// Waits until everything queued so far is in the kernel and completions have been looked for.
pub(crate) async fn turn() {
    let mut is_over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        Reactor::here().after_turn(cx);
        Poll::Pending
    })
    .await;
}

/// Passes one operation through a fresh reactor, for the probe.
pub(super) fn try_once() -> io::Result<()> {
    let reactor = Reactor::new()?;
    // SAFETY: an empty operation points at nothing.
    let ticket = unsafe { reactor.start(nothing()) };
    reactor.turn(Wait::Until(None), || {});
    match reactor.poll(&ticket, &Context::from_waker(Waker::noop())) {
        Some(0..) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("an empty operation did not complete")),
    }
}

/// The runtime for what tokio cannot do without one.
fn side_thread() -> io::Result<Handle> {
    static SIDE: Mutex<Option<Handle>> = Mutex::new(None);
    let mut side = SIDE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*side {
        return Ok(handle.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("blocking")
        .build()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("side".to_owned()).spawn(run)?;
    *side = Some(handle.clone());
    Ok(handle)
}
