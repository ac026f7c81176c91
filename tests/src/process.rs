//! One child process: its log, its signals, its memory, its end.
//!
//! Both output streams are read line by line into one bounded log with the time since start, so a test can
//! wait for a line without polling. The child is started through `setpriv --pdeathsig KILL`, which replaces
//! itself with the program. So when a test runner is killed, nothing it started outlives it.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::deadline;

/// Lines kept per process: enough for the story of one test, whatever the log level.
const LOG_LINES_MAX: usize = 20_000;

/// Lines printed when the test that owns the process fails.
const LOG_LINES_SHOWN: usize = 150;

/// How long the last output of an ended process is read. It takes longer only where a child of its own has
/// its outputs.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Time between SIGTERM and SIGKILL when a handle drops.
const DROP_GRACE: Duration = Duration::from_millis(500);

/// A running child; dropped, it is stopped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
    status: Option<ExitStatus>,
}

#[derive(Debug)]
struct Log {
    started: Instant,
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// Index of `kept[0]` among all lines ever written.
    first: usize,
    /// Output streams that have not ended.
    open: usize,
}

/// Resident memory, read from the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Bytes resident.
    pub resident: u64,
    /// Highest number of bytes resident since the start or the last [`Process::forget_peak`].
    pub peak: u64,
}

/// Prepares a command that dies with the thread that starts it.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    // What this machine reaches the world by is not for the traffic of tests.
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Process {
    /// Starts `command` (made by [`command`]) with both outputs captured under `name`.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn start(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: cannot start {command:?}: {error}"));
        let log = Arc::new(Log {
            started: Instant::now(),
            lines: Mutex::default(),
            grown: Condvar::new(),
        });
        log.follow(child.stdout.take());
        log.follow(child.stderr.take());
        Self {
            name,
            child,
            log,
            status: None,
        }
    }

    /// The name the test gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many lines it has logged; pass it to [`Self::wait_line_after`] to look only at what follows.
    pub fn mark(&self) -> usize {
        self.log.lock().end()
    }

    /// Waits for a line that contains `part`, from the start of the log on.
    ///
    /// # Panics
    /// When no such line came within `limit`, or the process ended without one.
    #[track_caller]
    pub fn wait_line(&mut self, part: &str, limit: Duration) -> String {
        self.wait_line_after(0, part, limit)
    }

    /// Waits for a line that contains `part` among those after `mark`.
    ///
    /// # Panics
    /// When no such line came within `limit`, or the process ended without one.
    #[track_caller]
    pub fn wait_line_after(&mut self, mark: usize, part: &str, limit: Duration) -> String {
        let end = Instant::now() + limit;
        loop {
            // The exit is looked at before the log, so that the last words of a process are never missed.
            let ended = self.exited();
            if let Some(line) =
                self.log
                    .find(mark, part, end.min(Instant::now() + Duration::from_millis(200)))
            {
                return line;
            }
            if let Some(status) = ended {
                panic!("{} ended ({status}) without saying {part:?}", self.name);
            }
            assert!(
                Instant::now() < end,
                "{} did not say {part:?} within {limit:?}",
                self.name
            );
        }
    }

    /// Whether a line after `mark` contains `part`.
    pub fn said_after(&self, mark: usize, part: &str) -> bool {
        self.log.find(mark, part, Instant::now()).is_some()
    }

    /// Everything it logged, one string.
    pub fn log(&self) -> String {
        let lines = self.log.lock();
        lines.kept.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self
                .child
                .try_wait()
                .expect("a child we started can be waited for");
        }
        self.status
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit an i32"));
        if self.status.is_none() {
            // A process that has just ended is what the caller wanted.
            kill(pid, signal).ok();
        }
    }

    /// Waits for it to end by itself.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        let status = deadline::until(&format!("{name} to end"), limit, || self.exited());
        self.log.wait_end(Instant::now() + LAST_WORDS);
        status
    }

    /// Ends it at once, as a crash or an out-of-memory kill would.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_exit(deadline::STEP);
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    #[track_caller]
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit(limit)
    }

    /// Resident memory now and at its peak.
    ///
    /// # Panics
    /// When the process has ended.
    #[track_caller]
    pub fn memory(&self) -> Memory {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or_else(|| panic!("{} has no {name} (it has ended)", self.name)) * 1024
        };
        Memory {
            resident: field("VmRSS:"),
            peak: field("VmHWM:"),
        }
    }

    /// Makes the kernel forget the peak, so that the next [`Self::memory`] tells what came after.
    pub fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.pid());
        std::fs::write(&path, "5").unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Processor time used so far, user and system.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn cpu_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // Fields 14 and 15 of proc(5), counted after the name, which may hold spaces.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Ids of the threads it runs.
    pub fn threads(&self) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.pid());
        let names = std::fs::read_dir(tasks).into_iter().flatten().flatten();
        names
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect()
    }

    /// Ids of the processes it started and that still run.
    pub fn children(&self) -> Vec<u32> {
        children_of(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            self.signal(Signal::SIGTERM);
            if deadline::within(DROP_GRACE, || self.exited()).is_none() {
                self.signal(Signal::SIGKILL);
                deadline::within(deadline::STEP, || self.exited());
            }
        }
        if std::thread::panicking() {
            self.log.print(&self.name, self.status);
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads `stream` to its end on a thread of its own; the thread ends with the child.
    fn follow(self: &Arc<Self>, stream: Option<impl Read + Send + 'static>) {
        let Some(stream) = stream else { return };
        let log = Arc::clone(self);
        log.lock().open += 1;
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                log.push(String::from_utf8_lossy(&line).trim_end());
                line.clear();
            }
            log.lock().open -= 1;
            log.grown.notify_all();
        });
    }

    /// Waits until all that was written has been read, until `end` at most.
    fn wait_end(&self, end: Instant) {
        let mut lines = self.lock();
        while lines.open > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            lines = self
                .grown
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn push(&self, text: &str) {
        let at = self.started.elapsed().as_secs_f64();
        let mut lines = self.lock();
        if lines.kept.len() == LOG_LINES_MAX {
            lines.kept.pop_front();
            lines.first += 1;
        }
        lines.kept.push_back(format!("{at:8.3} {text}"));
        self.grown.notify_all();
    }

    fn find(&self, mark: usize, part: &str, end: Instant) -> Option<String> {
        let mut lines = self.lock();
        let mut next = mark;
        loop {
            let skip = next.saturating_sub(lines.first);
            if let Some(line) = lines.kept.iter().skip(skip).find(|line| line.contains(part)) {
                return Some(line.clone());
            }
            next = lines.end();
            let left = end
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())?;
            lines = self
                .grown
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    #[expect(
        clippy::print_stderr,
        reason = "the test runner captures this and shows it under the failed test"
    )]
    fn print(&self, name: &str, status: Option<ExitStatus>) {
        let lines = self.lock();
        let skipped = lines.kept.len().saturating_sub(LOG_LINES_SHOWN);
        eprintln!("--- log of {name} ({status:?}), {skipped} earlier lines left out");
        for line in lines.kept.iter().skip(skipped) {
            eprintln!("{name} | {line}");
        }
    }
}

impl Lines {
    fn end(&self) -> usize {
        self.first + self.kept.len()
    }
}

/// The CPUs of each thread of a process whose name begins with `prefix`, by name, as the kernel lists them.
pub fn cpus_of(pid: u32, prefix: &str) -> BTreeMap<String, String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let read = |task: &Path, file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
    let threads = tasks.into_iter().flatten().flatten().map(|task| {
        let (name, status) = (read(&task.path(), "comm"), read(&task.path(), "status"));
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        (name.trim().to_owned(), list.unwrap_or_default().trim().to_owned())
    });
    threads.filter(|(name, _)| name.starts_with(prefix)).collect()
}

/// Ids of the processes that `parent` started and that still run.
pub fn children_of(parent: u32) -> Vec<u32> {
    let tasks = format!("/proc/{parent}/task");
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Whether a process with this id runs.
pub fn is_running(pid: u32) -> bool {
    let state =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    let state = state.rsplit_once(')').map_or("", |(_, rest)| rest).trim_start();
    !state.is_empty() && !state.starts_with('Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_a_drop_ends_the_child() {
        let mut child = Process::start(
            "sh",
            command("sh").args(["-c", "echo one; echo two >&2; exec sleep 60"]),
        );
        child.wait_line("one", deadline::STEP);
        child.wait_line("two", deadline::STEP);
        let memory = child.memory();
        assert!(memory.peak >= memory.resident);
        let pid = child.pid();
        assert!(is_running(pid));
        drop(child);
        assert!(!is_running(pid));
    }

    #[test]
    fn an_exit_code_is_reported() {
        let mut child = Process::start("sh", command("sh").args(["-c", "exit 3"]));
        assert_eq!(child.wait_exit(deadline::STEP).code(), Some(3));
    }
}
