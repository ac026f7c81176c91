//! Holds `src/generated/` to the schema: generates the code again and compares line by line.
//!
//! Needs the `capnp` tool. Without it the comparison says that it was skipped, since building this
//! crate never needs the tool. To write the files after a change of the schema:
//! `cargo test -p adit-control-api --test generated -- --ignored`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MODULES: [&str; 1] = ["edge_link"];

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn capnp_tool_is_present() -> bool {
    Command::new("capnp")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The code without the line that names the tool's version, which differs between distributions.
fn code(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a generated file");
    text.lines()
        .filter(|line| !line.starts_with("// capnp binary version"))
        .map(str::to_owned)
        .collect()
}

/// Runs the schema compiler into `out`; names are relative so that no path of a machine gets in.
fn generate(out: &Path) {
    std::fs::create_dir_all(out).expect("a folder to write into");
    let schema = crate_dir().join("schema");
    let mut command = capnpc::CompilerCommand::new();
    command.src_prefix(&schema).output_path(out).no_standard_import();
    for module in MODULES {
        command.file(schema.join(format!("{module}.capnp")));
    }
    command.run().expect("the schema compiles");
}

#[test]
fn checked_in_code_is_what_the_schema_generates() {
    if !capnp_tool_is_present() {
        eprintln!("skipped: no `capnp` tool on this machine (Debian: apt-get install capnproto)");
        return;
    }
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("generated");
    generate(&out);
    for module in MODULES {
        let name = format!("{module}_capnp.rs");
        let fresh = code(&out.join(&name));
        let checked_in = code(&crate_dir().join("src/generated").join(&name));
        assert!(
            fresh == checked_in,
            "src/generated/{name} differs from what schema/{module}.capnp generates"
        );
    }
}

#[test]
#[ignore = "writes src/generated"]
fn regenerate() {
    generate(&crate_dir().join("src/generated"));
}
