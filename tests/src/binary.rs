//! Which programs a test runs, and what this machine lets them do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use adit_driver::kernel::{self, IoChoice};

pub use adit_driver::kernel::IoMode;

/// Makes of each story (a function of the I/O mode) one test per mode, `story::in_uring_mode` and
/// `story::in_portable_mode`.
#[macro_export]
macro_rules! in_both_modes {
    ($($story:ident),+ $(,)?) => {$(
        mod $story {
            use $crate::binary::{IoMode, can_run};

            #[test]
            fn in_uring_mode() {
                if can_run(module_path!(), IoMode::Uring) {
                    super::$story(IoMode::Uring);
                }
            }

            #[test]
            fn in_portable_mode() {
                if can_run(module_path!(), IoMode::Portable) {
                    super::$story(IoMode::Portable);
                }
            }
        }
    )+};
}

/// The `adit` binary under test: `ADIT_BIN`, else the one cargo built beside this test.
///
/// # Panics
/// When there is none; the message says how to build it.
pub fn adit() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let built = || {
            let test = std::env::current_exe().expect("a test knows its own path");
            let profile = test
                .ancestors()
                .nth(2)
                .expect("tests lie in target/<profile>/deps");
            profile.join("adit")
        };
        let path = std::env::var_os("ADIT_BIN").map_or_else(built, PathBuf::from);
        assert!(
            path.is_file(),
            "no binary at {}: `cargo build -p adit` makes it, or set ADIT_BIN",
            path.display()
        );
        path
    })
}

/// The stock cloudflared to test against, if `CLOUDFLARED_BIN` names one.
pub fn cloudflared() -> Option<PathBuf> {
    std::env::var_os("CLOUDFLARED_BIN")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// Whether `mode` works on this machine; says on standard error why not, also when the runner hides output.
pub fn can_run(test: &str, mode: IoMode) -> bool {
    let choice = match mode {
        IoMode::Uring => IoChoice::Uring,
        IoMode::Portable => IoChoice::Portable,
    };
    match kernel::probe(choice) {
        Ok(_) => true,
        Err(error) => {
            skipped(test, &format!("--io {mode} is not possible here: {error}"));
            false
        }
    }
}

/// Says on standard error, past the runner's capture, that a test was skipped and why.
pub fn skipped(test: &str, why: &str) {
    use std::io::Write as _;
    // A message that cannot be shown is no reason to fail.
    writeln!(std::io::stderr(), "SKIPPED {test}: {why}").ok();
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// Runs a program to its end and returns its standard output.
///
/// # Panics
/// When it cannot be started or fails; the message has both of its outputs.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let done = output(command);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{command:?}: {}\n{text}{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    text
}
