//! Completions and manual pages, made by the binary and read by those they are for.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn adit(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_adit")).args(arguments).output();
    output.expect("the binary runs")
}

#[test]
fn bash_reads_its_completions() {
    let script = adit(&["completions", "bash"]);
    assert!(script.status.success(), "{script:?}");
    let mut bash = Command::new("bash")
        .args(["-c", "source /dev/stdin; complete -p adit"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash is there");
    let mut input = bash.stdin.take().expect("piped");
    input.write_all(&script.stdout).expect("bash reads");
    drop(input);
    let told = bash.wait_with_output().expect("bash ends");
    let known = String::from_utf8_lossy(&told.stdout);
    assert!(known.contains("adit") && told.stderr.is_empty(), "{told:?}");
    assert!(!adit(&["completions", "cmd.exe"]).status.success());
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a temp dir");
    let made = folder.path().join("man1");
    let done = adit(&["man", made.to_str().expect("UTF-8")]);
    assert!(done.status.success(), "{done:?}");
    for name in [
        "adit",
        "adit-up",
        "adit-edge",
        "adit-tunnel-run",
        "adit-access-tcp",
    ] {
        let page = fs::read_to_string(made.join(format!("{name}.1"))).expect(name);
        assert!(
            page.contains(".TH") && page.contains("SYNOPSIS"),
            "{name}: {page}"
        );
    }
    // What is a file cannot be a folder.
    let taken = made.join("adit.1");
    let refused = adit(&["man", taken.to_str().expect("UTF-8")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot write manual pages to"));
}
