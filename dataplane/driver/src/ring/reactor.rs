//! The reactor of one core in io_uring mode: one ring for streams and datagrams, and the only place where the
//! core sleeps.
//!
//! ```text
//! tasks ─► submissions ─► one io_uring_enter per turn ─► completions ─► wakers
//!                         (submit, wait, run deferred work)
//! ```
//! Two kinds of completions: an [operation](Operation) has one, a [channel](Channel) (multishot) has many.
//! With DEFER_TASKRUN the kernel does nothing on our behalf but inside that call, and a turn with nothing to
//! submit and nothing deferred makes no call at all.
//!
//! One [alarm](super::alarm) in the kernel ends a sleep. It is set when a deadline comes before it. It stays
//! when deadlines move away, as those of QUIC do with every packet.
//!
//! A core's reactor is never freed: the kernel may write to what operations own until they complete.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::task::{Context, Waker};
use std::time::Instant;

use io_uring::{IoUring, cqueue, opcode, squeue};
use slab::Slab;

use super::alarm::{self, Alarm};

use crate::quic::park;

/// Submissions per call to the kernel; more of them cost another call, none is dropped.
const SUBMISSIONS: u32 = 512;

/// Completions kept before the kernel falls back to its slower overflow list. Every idle connection has
/// one receive in flight, so a burst can complete thousands at once; 8,192 take 128 KiB.
const COMPLETIONS: u32 = 8192;

/// Marks the completions of a channel; operations are numbered from 0, and the alarm has the
/// [last](alarm::NUMBER) two.
const CHANNEL: u64 = 1 << 63;

const IORING_ENTER_GETEVENTS: u32 = 1;

thread_local! {
    static HERE: Cell<Option<&'static Reactor>> = const { Cell::new(None) };
}

/// How long a turn may wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// Not at all: tasks are ready to run.
    No,
    /// For a completion, at most until then.
    Until(Option<Instant>),
}

pub(super) struct Reactor {
    inner: RefCell<Inner>,
}

struct Inner {
    ring: IoUring,
    /// Submissions for which the queue had no room.
    backlog: VecDeque<squeue::Entry>,
    operations: Slab<Operation>,
    channels: Vec<Channel>,
    alarm: Alarm,
    /// Woken when the next turn is over.
    turning: Vec<Waker>,
    /// Wakers of this turn, called when nothing is borrowed: waking may drop a task, and that a stream.
    due: Vec<Waker>,
}

/// An operation with one completion.
enum Operation {
    InFlight(Option<Waker>),
    Done(i32),
    /// Its future is gone; what the kernel may touch is kept until the completion.
    Orphaned {
        _lent: Box<dyn Any>,
    },
}

/// A multishot operation.
#[derive(Default)]
struct Channel {
    arrived: VecDeque<Arrival>,
    waker: Option<Waker>,
}

/// One completion of a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Bytes, or a negative error number.
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// Names an operation in flight.
#[derive(Debug)]
pub(super) struct Ticket(usize);

/// Makes the ring with the flags that cores use.
pub(super) fn ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)
}

impl Reactor {
    /// Makes a reactor. Dropping it is sound only while no operation is in flight.
    pub(super) fn new() -> io::Result<Self> {
        let inner = Inner {
            ring: ring()?,
            backlog: VecDeque::new(),
            operations: Slab::new(),
            channels: Vec::new(),
            alarm: Alarm::default(),
            turning: Vec::new(),
            due: Vec::new(),
        };
        Ok(Self {
            inner: RefCell::new(inner),
        })
    }

    /// Makes this thread's reactor. It lives as long as the process.
    pub(super) fn install() -> io::Result<&'static Self> {
        let reactor: &'static Self = Box::leak(Box::new(Self::new()?));
        HERE.set(Some(reactor));
        Ok(reactor)
    }

    /// The reactor of the core this runs on.
    ///
    /// # Panics
    /// On a thread that is no core in io_uring mode, which only a defect in this crate can cause.
    pub(super) fn here() -> &'static Self {
        HERE.get().expect("ring operations run on cores in io_uring mode")
    }

    /// Queues an operation.
    ///
    /// # Safety
    /// What `entry` points at must stay valid and unmoved until the completion: owned by the caller until
    /// [`poll`](Self::poll) has returned the result, or handed over by [`orphan`](Self::orphan).
    pub(super) unsafe fn start(&self, entry: squeue::Entry) -> Ticket {
        let mut inner = self.inner.borrow_mut();
        let key = inner.operations.insert(Operation::InFlight(None));
        inner.push(entry.user_data(key as u64));
        Ticket(key)
    }

    /// The result of an operation, once. Not to be asked again afterwards.
    pub(super) fn poll(&self, ticket: &Ticket, cx: &Context<'_>) -> Option<i32> {
        let mut inner = self.inner.borrow_mut();
        match inner.operations.get_mut(ticket.0) {
            Some(Operation::InFlight(waker)) => {
                let old = park(waker, cx);
                drop(inner);
                drop(old);
                None
            }
            Some(Operation::Done(result)) => {
                let result = *result;
                inner.operations.remove(ticket.0);
                Some(result)
            }
            Some(Operation::Orphaned { .. }) | None => {
                unreachable!("a ticket is given up with its result or its memory")
            }
        }
    }

    /// Gives up an operation whose result nobody wants; `lent` is what the kernel may still touch.
    pub(super) fn orphan(&self, ticket: &Ticket, lent: Box<dyn Any>) {
        let mut inner = self.inner.borrow_mut();
        let given_up = match inner.operations.get_mut(ticket.0) {
            Some(operation @ Operation::InFlight(_)) => {
                Some(std::mem::replace(operation, Operation::Orphaned { _lent: lent }))
            }
            Some(Operation::Done(_)) => inner.operations.try_remove(ticket.0),
            Some(Operation::Orphaned { .. }) | None => None,
        };
        drop(inner);
        drop(given_up);
    }

    /// Opens a channel for a multishot operation and lets `set_up` register what it needs under that number.
    pub(super) fn open_channel<R>(
        &self,
        set_up: impl FnOnce(&IoUring, u16) -> io::Result<R>,
    ) -> io::Result<(u16, R)> {
        let mut inner = self.inner.borrow_mut();
        let number = u16::try_from(inner.channels.len()).map_err(io::Error::other)?;
        let result = set_up(&inner.ring, number)?;
        inner.channels.push(Channel::default());
        Ok((number, result))
    }

    /// Queues the multishot operation of a channel.
    ///
    /// # Safety
    /// What `entry` points at must stay valid and unmoved for as long as the process lives.
    pub(super) unsafe fn start_channel(&self, number: u16, entry: squeue::Entry) {
        let entry = entry.user_data(CHANNEL | u64::from(number));
        self.inner.borrow_mut().push(entry);
    }

    /// The next completion of a channel.
    pub(super) fn next_arrival(&self, number: u16) -> Option<Arrival> {
        let mut inner = self.inner.borrow_mut();
        inner.channels.get_mut(usize::from(number))?.arrived.pop_front()
    }

    /// Whether completions wait; if none do, `cx` is woken by the next one.
    pub(super) fn has_arrivals(&self, number: u16, cx: &Context<'_>) -> bool {
        let mut inner = self.inner.borrow_mut();
        let Some(channel) = inner.channels.get_mut(usize::from(number)) else {
            return false;
        };
        if !channel.arrived.is_empty() {
            return true;
        }
        let old = park(&mut channel.waker, cx);
        drop(inner);
        drop(old);
        false
    }

    /// How many completions of a channel wait.
    pub(super) fn arrivals(&self, number: u16) -> usize {
        let inner = self.inner.borrow();
        let channel = inner.channels.get(usize::from(number));
        channel.map_or(0, |channel| channel.arrived.len())
    }

    /// Wakes `cx` when the next turn is over.
    pub(super) fn after_turn(&self, cx: &Context<'_>) {
        self.inner.borrow_mut().turning.push(cx.waker().clone());
    }

    /// Submits what is queued and waits if there is nothing else to do. Then calls `on_awake` and wakes the
    /// tasks that have a completion.
    pub(super) fn turn(&self, wait: Wait, on_awake: impl FnOnce()) {
        let mut inner = self.inner.borrow_mut();
        inner.refill();
        let wait = if inner.turning.is_empty() { wait } else { Wait::No };
        let wait = inner.set_alarm(wait);
        if let Err(error) = inner.enter(wait) {
            tracing::error!(%error, "the core's ring did not turn");
        }
        inner.reap();
        let mut due = std::mem::take(&mut inner.due);
        due.append(&mut inner.turning);
        drop(inner);
        on_awake();
        for waker in due.drain(..) {
            waker.wake();
        }
        // Nothing is due between turns, so the allocation can be taken back.
        self.inner.borrow_mut().due = due;
    }
}

impl Inner {
    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        // SAFETY: promised by the callers of `start` and `start_channel`.
        if unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return;
        }
        // Full. If the kernel takes none now, the next turn tries again.
        if let Err(error) = self.ring.submit() {
            tracing::debug!(%error, "submissions wait for the next turn");
        }
        self.backlog.push_back(entry);
        self.refill();
    }

    fn refill(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: promised by the callers of `start` and `start_channel`.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Makes the alarm end a wait in time; says how to wait.
    fn set_alarm(&mut self, wait: Wait) -> Wait {
        let Wait::Until(deadline) = wait else {
            return wait;
        };
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Wait::No;
            }
            if let Some(entry) = self.alarm.set(deadline, left) {
                self.push(entry);
            }
        }
        // What the kernel does not have yet could not end the wait.
        if self.backlog.is_empty() { wait } else { Wait::No }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let (queued, has_deferred) = {
            let submission = self.ring.submission();
            let has_deferred = submission.taskrun() || submission.cq_overflow();
            (submission.len(), has_deferred)
        };
        let has_completions = !self.ring.completion().is_empty();
        let entered = match wait {
            _ if has_completions && queued == 0 && !has_deferred => return Ok(()),
            Wait::No if queued == 0 && !has_deferred => return Ok(()),
            Wait::No => self.poll(queued),
            Wait::Until(_) if has_completions => self.poll(queued),
            Wait::Until(_) => self.ring.submitter().submit_and_wait(1),
        };
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            // A signal has come, or completions must be taken first: both are turns.
            Ok(_) | Err((Some(libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    /// Submits and runs deferred work without waiting.
    fn poll(&self, queued: usize) -> io::Result<usize> {
        let queued = u32::try_from(queued).unwrap_or(u32::MAX);
        // SAFETY: no argument is passed; every queued entry was promised to be sound when it was pushed.
        unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(queued, 0, IORING_ENTER_GETEVENTS, None)
        }
    }

    fn reap(&mut self) {
        let Self {
            ring,
            operations,
            channels,
            alarm,
            due,
            ..
        } = self;
        for completion in ring.completion() {
            let waker = match completion.user_data() {
                alarm::NUMBER => {
                    alarm.on_completion();
                    None
                }
                alarm::NOT_MOVED => None,
                number if number & CHANNEL != 0 => arrive(channels, number & !CHANNEL, &completion),
                key => complete(operations, key, completion.result()),
            };
            due.extend(waker);
        }
    }
}

fn arrive(channels: &mut [Channel], number: u64, completion: &cqueue::Entry) -> Option<Waker> {
    let channel = channels.get_mut(usize::try_from(number).ok()?)?;
    channel.arrived.push_back(Arrival {
        result: completion.result(),
        flags: completion.flags(),
    });
    channel.waker.take()
}

fn complete(operations: &mut Slab<Operation>, key: u64, result: i32) -> Option<Waker> {
    let key = usize::try_from(key).ok()?;
    let operation = operations.get_mut(key)?;
    match std::mem::replace(operation, Operation::Done(result)) {
        Operation::InFlight(waker) => waker,
        Operation::Orphaned { .. } => {
            operations.remove(key);
            None
        }
        Operation::Done(_) => None,
    }
}

/// An entry that does nothing but complete.
pub(super) fn nothing() -> squeue::Entry {
    opcode::Nop::new().build()
}
