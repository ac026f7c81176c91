//! Runs a program to its end, on given CPUs and within a limit of time.

use std::ffi::OsStr;
use std::io::Read as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use adit_tests::deadline;
use adit_tests::process::command;
use anyhow::{Context as _, Result, bail, ensure};

use super::layout::on;

/// Time that `--version` and the like may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(10);

/// A command that dies with us.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
    command(path)
}

/// Runs `command` on `cpus` and returns its standard output; ends it after `limit`.
pub(crate) fn run(command: &mut Command, cpus: &[usize], limit: Duration) -> Result<String> {
    let output = finish(command, cpus, limit)?;
    ensure!(
        output.status.success(),
        "{}: {}",
        line(command),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn finish(command: &mut Command, cpus: &[usize], limit: Duration) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child =
        on(cpus, || command.spawn())?.with_context(|| format!("cannot start {}", line(command)))?;
    // Read on threads, so that a child with much to say does not wait for us.
    let mut streams = (child.stdout.take(), child.stderr.take());
    let stdout = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        streams
            .0
            .as_mut()
            .map_or(Ok(0), |stream| stream.read_to_end(&mut bytes))
            .map(|_| bytes)
    });
    let stderr = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        streams
            .1
            .as_mut()
            .map_or(Ok(0), |stream| stream.read_to_end(&mut bytes))
            .map(|_| bytes)
    });
    let ended = deadline::within(limit, || child.try_wait().transpose());
    let Some(status) = ended else {
        child.kill().context("cannot end a child that took too long")?;
        child.wait().context("cannot wait for a child")?;
        bail!("{} did not end within {limit:?}", line(command));
    };
    let collect = |thread: std::thread::JoinHandle<std::io::Result<Vec<u8>>>| {
        let read = thread.join().ok().context("a reading thread panicked")?;
        read.context("cannot read what a child said")
    };
    Ok(Output {
        status: status.context("cannot wait for a child")?,
        stdout: collect(stdout)?,
        stderr: collect(stderr)?,
    })
}

/// The first line with anything on it that a program says, on either stream: for versions.
pub(crate) fn first_line(path: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    line_with(path, arguments, "")
}

/// The first such line that contains `part`.
pub(crate) fn line_with(path: impl AsRef<OsStr>, arguments: &[&str], part: &str) -> Option<String> {
    let cpus = super::layout::Layout::of_this_machine().ok()?.all;
    let output = finish(program(path).args(arguments), &cpus, QUESTION_LIMIT).ok()?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let lines = text.iter().flat_map(|text| text.lines());
    lines
        .map(str::trim)
        .find(|line| !line.is_empty() && line.contains(part))
        .map(str::to_owned)
}

/// A command as one could type it: without the wrapper that ties it to us and without the program's folder.
pub(crate) fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let begin = words.iter().position(|word| word == "--").map_or(0, |at| at + 1);
    let words = &words[begin..];
    let program = words
        .first()
        .and_then(|path| path.rsplit('/').next())
        .unwrap_or_default();
    std::iter::once(program)
        .chain(words.iter().skip(1).map(String::as_str))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn everywhere() -> Vec<usize> {
        super::super::layout::Layout::of_this_machine().unwrap().all
    }

    #[test]
    fn a_program_is_heard_and_a_failure_told() {
        let cpus = everywhere();
        let limit = Duration::from_secs(20);
        let said = run(program("sh").args(["-c", "echo one"]), &cpus, limit).unwrap();
        assert_eq!(said, "one\n");
        let error = run(program("sh").args(["-c", "echo bad >&2; exit 3"]), &cpus, limit).unwrap_err();
        assert!(error.to_string().contains("bad"), "{error}");
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let begin = Instant::now();
        let late = run(
            program("sleep").arg("60"),
            &everywhere(),
            Duration::from_millis(50),
        );
        assert!(late.unwrap_err().to_string().contains("did not end"));
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_line_shown_is_the_program_itself() {
        assert_eq!(line(program("/usr/bin/wrk").args(["-t", "1"])), "wrk -t 1");
    }
}
