//! Owns the threads of the dataplane: one per core, pinned, each with its own runtime.
//!
//! ```text
//! spawn ─► pin ─► runtime ─► main(context) ─► returned or panicked ─► parked for ever
//! ```
//! Inside `main`, in both I/O modes, `tokio::task::spawn_local`, the timers of [`time`](crate::time) and the
//! sockets of this crate work; so do tokio's own timers and sockets, which in io_uring mode cost a wake from
//! another thread and are not for hot paths.
//! Nothing that lives on a core is shared with another; cores meet in [`mailbox`](crate::mailbox) and
//! [`pipe`](crate::pipe).
//!
//! A core thread never ends and never drops its runtime, because the kernel may use the memory of operations
//! in flight. A process ends by `std::process::exit` once [`Cores::wait`] or [`Cores::finished`] has
//! returned. Until then tasks left over by `main` keep running.
//!
//! A wakeup costs one `io_uring_enter`, however many operations and datagrams it carries. The core submits
//! when the runtime has nothing left to run. So a task that has more to do awaits an operation and does not
//! yield in a loop.

use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use tokio::sync::Notify;
use tokio::task::{JoinError, LocalSet, spawn_local};

use crate::cpus::{self, Cpus};
use crate::kernel::IoMode;
use crate::ring;

/// Most cores of one process: the core's place in a connection id is one byte.
pub const CORES_MAX: usize = 256;

/// Which core of this process, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a core knows about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreContext {
    /// This core.
    pub id: CoreId,
    /// How many cores the group has.
    pub count: usize,
    /// How this core performs I/O.
    pub io: IoMode,
}

/// Why cores could not start, or stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CoreError {
    /// Zero cores, or more than [`CORES_MAX`].
    #[error("{asked} cores asked for, 1 to {CORES_MAX} are possible")]
    Count {
        /// The number asked for.
        asked: usize,
    },
    /// The thread or its runtime could not be made. Cores started before it keep running.
    #[error("core {core} could not start")]
    Start {
        /// The core that failed.
        core: CoreId,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The core's `main` panicked. Other tasks of that core keep running.
    #[error("core {core} panicked: {message}")]
    Panicked {
        /// The core that failed.
        core: CoreId,
        /// The panic's own words, if it had any.
        message: String,
    },
}

/// The number of cores to use when nobody says otherwise: what this process may use, by affinity and quota.
pub fn default_count() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(CORES_MAX)
}

/// A group of running cores. Dropping it stops nothing.
#[derive(Debug)]
pub struct Cores {
    progress: Arc<Progress>,
}

impl Cores {
    /// Starts `count` cores on the CPUs this process may use. See [`spawn_on`](Self::spawn_on).
    ///
    /// # Errors
    /// [`CoreError::Count`] and [`CoreError::Start`].
    pub fn spawn<F, Fut>(count: usize, io: IoMode, name: &'static str, main: F) -> Result<Self, CoreError>
    where
        F: Fn(CoreContext) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        Self::spawn_on(&Cpus::allowed(), count, io, name, main)
    }

    /// Starts `count` cores, each running `main` with its own context, and returns when all runtimes run.
    ///
    /// Core `i` is pinned to the `i`-th of `cpus`, round robin when there are more cores than CPUs. A
    /// refused pin is logged and the core runs unpinned. Threads are called `{name}-{i}`.
    ///
    /// # Errors
    /// [`CoreError::Count`] and [`CoreError::Start`].
    pub fn spawn_on<F, Fut>(
        cpus: &Cpus,
        count: usize,
        io: IoMode,
        name: &'static str,
        main: F,
    ) -> Result<Self, CoreError>
    where
        F: Fn(CoreContext) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        if !(1..=CORES_MAX).contains(&count) {
            return Err(CoreError::Count { asked: count });
        }
        let progress = Arc::new(Progress::new(count));
        let (report_start, starts) = mpsc::channel();
        for index in 0..count {
            let id = CoreId(u16::try_from(index).expect("the count is at most CORES_MAX"));
            let context = CoreContext { id, count, io };
            let life = Life {
                context,
                main: main.clone(),
                progress: Arc::clone(&progress),
            };
            let cpu = cpus.of_core(index);
            let report_start = report_start.clone();
            let start = move || {
                pin(id, cpu);
                life.run(&report_start);
            };
            let thread = thread::Builder::new().name(format!("{name}-{index}"));
            thread.spawn(start).map_err(|error| start_error(id, error))?;
        }
        for _ in 0..count {
            let (core, started) = starts.recv().expect("this function holds a sender");
            started.map_err(|error| start_error(core, error))?;
        }
        Ok(Self { progress })
    }

    /// Blocks until every `main` has returned, or one has panicked.
    ///
    /// # Errors
    /// [`CoreError::Panicked`], as soon as it happens.
    pub fn wait(&self) -> Result<(), CoreError> {
        let mut tally = self.progress.tally();
        loop {
            if let Some(end) = tally.end() {
                return end;
            }
            tally = self
                .progress
                .changed
                .wait(tally)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Like [`wait`](Self::wait), for a thread that has a runtime.
    ///
    /// # Errors
    /// [`CoreError::Panicked`], as soon as it happens.
    pub async fn finished(&self) -> Result<(), CoreError> {
        loop {
            // Registered before the look, so that a change in between is not missed.
            let notified = self.progress.notify.notified();
            let end = self.progress.tally().end();
            if let Some(end) = end {
                return end;
            }
            notified.await;
        }
    }
}

/// One core's thread from its first instruction.
struct Life<F> {
    context: CoreContext,
    main: F,
    progress: Arc<Progress>,
}

type Start = (CoreId, io::Result<()>);

impl<F, Fut> Life<F>
where
    F: Fn(CoreContext) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    fn run(self, report_start: &mpsc::Sender<Start>) {
        let id = self.context.id;
        let progress = Arc::clone(&self.progress);
        let mut runtime = match Runtime::new(self.context.io) {
            Ok(runtime) => runtime,
            Err(error) => {
                // The receiver is gone only if another core has already failed to start.
                let _ = report_start.send((id, Err(error)));
                return;
            }
        };
        let _ = report_start.send((id, Ok(())));
        // `main` runs in a task of its own, so only a defect in the runtime can end this call.
        let _ = catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.live())));
        progress.report(id, Some("its runtime ended".to_owned()));
    }

    async fn live(self) {
        let Self {
            context,
            main,
            progress,
        } = self;
        let ended = spawn_local(async move { main(context).await }).await;
        if context.io == IoMode::Uring {
            // The owner may exit the process on this report; replies queued by `main` go out before.
            ring::runtime::turn().await;
        }
        progress.report(context.id, ended.err().map(panic_message));
        pending().await
    }
}

/// The runtime of either mode. Both run local tasks on this thread only.
enum Runtime {
    Uring(ring::runtime::Runtime),
    Portable(ManuallyDrop<(tokio::runtime::Runtime, LocalSet)>),
}

impl Runtime {
    fn new(io: IoMode) -> io::Result<Self> {
        match io {
            IoMode::Uring => ring::runtime::Runtime::new().map(Self::Uring),
            IoMode::Portable => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                Ok(Self::Portable(ManuallyDrop::new((runtime, LocalSet::new()))))
            }
        }
    }

    fn block_on(&mut self, life: impl Future<Output = ()> + 'static) {
        match self {
            Self::Uring(runtime) => runtime.block_on(life),
            Self::Portable(runtime) => {
                let (runtime, tasks) = &**runtime;
                tasks.block_on(runtime, life);
            }
        }
    }
}

/// Which cores are still in `main`. Touched once per core, so a lock is fine.
#[derive(Debug)]
struct Progress {
    tally: Mutex<Tally>,
    changed: Condvar,
    notify: Notify,
}

#[derive(Debug)]
struct Tally {
    running: usize,
    failure: Option<CoreError>,
}

impl Tally {
    fn end(&self) -> Option<Result<(), CoreError>> {
        match &self.failure {
            Some(failure) => Some(Err(failure.clone())),
            None => (self.running == 0).then_some(Ok(())),
        }
    }
}

impl Progress {
    fn new(running: usize) -> Self {
        let tally = Mutex::new(Tally {
            running,
            failure: None,
        });
        Self {
            tally,
            changed: Condvar::new(),
            notify: Notify::new(),
        }
    }

    fn report(&self, core: CoreId, panic: Option<String>) {
        let mut tally = self.tally();
        tally.running = tally.running.saturating_sub(1);
        if let Some(message) = panic {
            tally.failure.get_or_insert(CoreError::Panicked { core, message });
        }
        drop(tally);
        self.changed.notify_all();
        self.notify.notify_waiters();
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start_error(core: CoreId, error: io::Error) -> CoreError {
    CoreError::Start {
        core,
        source: Arc::new(error),
    }
}

fn panic_message(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else {
        return "its main task was cancelled".to_owned();
    };
    let text = payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

fn pin(core: CoreId, cpu: Option<usize>) {
    let Some(cpu) = cpu else { return };
    if let Err(error) = cpus::pin(cpu) {
        tracing::warn!(%core, cpu, %error, "core runs unpinned");
    }
}

#[cfg(test)]
mod tests;
