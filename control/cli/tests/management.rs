//! The management commands of the real binary against a real control: texts, files, exit status.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const ADIT: &str = env!("CARGO_BIN_EXE_adit");

/// How long control may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// How often the file it writes is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A control of its own, which ends with the test.
struct Control {
    process: Child,
    api: String,
    folder: TempDir,
}

impl Control {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let config = folder.path().join("control.yml");
        std::fs::write(&config, "listen: 127.0.0.1:0\nstate-dir: state\n").expect("a file");
        let mut command = Command::new(ADIT);
        command
            .args(["control", "--config"])
            .arg(&config)
            .stderr(Stdio::null());
        let process = command.spawn().expect("the binary starts");
        let addresses = wait_for(&folder.path().join("state/addresses.json"));
        let api = addresses["api"].as_str().expect("an address").to_owned();
        Self { process, api, folder }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Runs `adit tunnel WORDS…` with this control.
    fn tunnel(&self, words: &[&str]) -> Output {
        let mut command = tunnel_command();
        command
            .args(["--api-url", &self.api, "--origincert"])
            .arg(self.state().join("cert.pem"));
        command.args(words).output().expect("the binary runs")
    }

    /// Like [`Control::tunnel`], for commands that must succeed; their standard output.
    fn succeed(&self, words: &[&str]) -> String {
        let output = self.tunnel(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Like [`Control::tunnel`], for commands that must fail with `status`; their standard error.
    fn fail(&self, words: &[&str], status: i32) -> String {
        let output = self.tunnel(words);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{words:?}: {}",
            text(&output.stderr)
        );
        text(&output.stderr)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }
}

/// `adit tunnel` without the tester's own settings.
fn tunnel_command() -> Command {
    let mut command = Command::new(ADIT);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TUNNEL_")) {
        command.env_remove(name);
    }
    command.arg("tunnel");
    command
}

fn wait_for(path: &Path) -> serde_json::Value {
    let deadline = Instant::now() + START_TIME_MAX;
    while Instant::now() < deadline {
        let read = std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(value) = read {
            return value;
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    panic!("{} was not written", path.display());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_tunnel_is_created_listed_routed_and_deleted() {
    let control = Control::start();
    assert!(
        control
            .succeed(&["list"])
            .starts_with("No tunnels were found for the given filter flags.")
    );

    let created = control.succeed(&["create", "lab"]);
    let id = created.trim_end().rsplit(' ').next().unwrap().to_owned();
    let file = control.state().join(format!("{id}.json"));
    assert!(created.starts_with(&format!(
        "Tunnel credentials written to {}. adit chose",
        file.display()
    )));
    assert!(created.ends_with(&format!("\n\nCreated tunnel lab with id {id}\n")));
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o400
    );

    let listed = control.succeed(&["list"]);
    assert!(
        listed.starts_with("You can obtain more detailed information for each tunnel with `adit tunnel info")
    );
    assert!(listed.contains(&format!("\n{id} lab  ")));
    let json: serde_json::Value = serde_json::from_str(&control.succeed(&["list", "-o", "json"])).unwrap();
    assert_eq!(
        (json[0]["name"].as_str(), json[0]["id"].as_str()),
        (Some("lab"), Some(id.as_str()))
    );
    assert_eq!(
        control.succeed(&["info", "lab"]),
        format!("Your tunnel {id} does not have any active connection.\n")
    );

    let routed = control.tunnel(&["route", "dns", "lab", "app.example.test"]);
    let expected = "INF Added CNAME app.example.test which will route to this tunnel";
    assert!(
        text(&routed.stderr).contains(expected),
        "{}",
        text(&routed.stderr)
    );

    control.succeed(&["delete", "lab"]);
    assert!(!file.exists());
    assert!(
        control
            .fail(&["info", "lab"], 1)
            .starts_with("lab is neither the ID nor the name of any of your tunnels\n")
    );
}

#[test]
fn a_token_holds_the_content_of_the_credentials_file() {
    let control = Control::start();
    let chosen = control.state().join("chosen.json");
    let path = chosen.to_str().unwrap();
    let created = control.succeed(&["create", "--credentials-file", path, "lab"]);
    assert!(!created.contains("adit chose"));
    let again = control.state().join("again.json");
    control.succeed(&["token", "--cred-file", again.to_str().unwrap(), "lab"]);
    assert_eq!(std::fs::read(&chosen).unwrap(), std::fs::read(&again).unwrap());
    assert!(
        control
            .fail(&["token", "--cred-file", path, "lab"], 1)
            .contains("already exists")
    );
    assert_eq!(control.succeed(&["token", "lab"]).lines().count(), 1);
}

#[test]
fn a_tunnel_whose_credentials_cannot_be_kept_is_deleted_again() {
    let control = Control::start();
    let folder = control.state();
    let failed = control.fail(
        &["create", "--credentials-file", folder.to_str().unwrap(), "lab"],
        1,
    );
    assert!(failed.contains("the tunnel was deleted again"), "{failed}");
    assert!(control.succeed(&["list"]).starts_with("No tunnels"));
}

#[test]
fn refusals_say_why_and_wrong_arguments_end_with_255() {
    let control = Control::start();
    control.succeed(&["create", "lab"]);
    control.succeed(&["create", "other"]);
    assert_eq!(
        control.fail(&["create", "lab"], 1),
        "tunnel with name already exists\nTry: adit tunnel list\n"
    );
    control.succeed(&["route", "dns", "lab", "app.example.test"]);
    let taken = control.fail(&["route", "dns", "other", "app.example.test"], 1);
    assert!(taken.contains("--overwrite-dns"), "{taken}");
    control.succeed(&["route", "dns", "-f", "other", "app.example.test"]);
    assert!(
        control
            .fail(&["delete"], 255)
            .contains("See 'adit tunnel delete --help'.")
    );
    let sorted = control.succeed(&["list", "--sort-by", "colour"]);
    assert_eq!(sorted, control.succeed(&["list", "--sort-by", "name"]));
    for (line, said) in [
        (
            ["cleanup", "-c", "me", "lab"].as_slice(),
            "me is not a valid client ID",
        ),
        (&["list", "--id", "me"], "me is not a valid tunnel ID"),
        (&["create", ""], "tunnel name required"),
        (&["delete", "nobody"], "only be 1 non-deleted Tunnel named nobody"),
    ] {
        let told = control.fail(line, 1);
        assert!(told.contains(said), "{line:?}: {told}");
    }
    control.fail(&["list", "--no-such-flag"], 2);
}

#[test]
fn without_control_or_credential_the_next_command_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let cert = folder.path().join("cert.pem");
    let missing = tunnel_command()
        .arg("--origincert")
        .arg(&cert)
        .arg("list")
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("cannot read"));
    let without = tunnel_command()
        .arg("list")
        .env("HOME", folder.path())
        .output()
        .unwrap();
    assert!(
        text(&without.stderr).contains("Try: --origincert PATH"),
        "{}",
        text(&without.stderr)
    );
}

#[test]
fn hostnames_of_a_file_are_routed_in_lists_and_a_refused_list_says_how_far_it_came() {
    let control = Control::start();
    control.succeed(&["create", "lab"]);
    control.succeed(&["create", "other"]);
    let file = control.folder.path().join("hosts.txt");
    let path = file.to_str().expect("a path of text");
    // More than one call takes.
    let hosts: String = (0..4_100).map(|n| format!("h{n}.example.test\n")).collect();
    std::fs::write(&file, &hosts).expect("a file");
    let routed = control.tunnel(&["route", "bulk", "lab", path]);
    let said = text(&routed.stderr);
    assert!(routed.status.success(), "{said}");
    assert!(
        said.contains("4100 hostnames added, 0 moved to this tunnel, 0 led to it already"),
        "{said}"
    );

    // The second list has hostnames of the other tunnel, so the first counts and the second does not.
    std::fs::write(
        &file,
        (0..4_000)
            .map(|n| format!("new{n}.example.test\n"))
            .collect::<String>()
            + &hosts,
    )
    .expect("a file");
    let refused = control.fail(&["route", "bulk", "other", path], 1);
    assert!(refused.contains("the first 4000 lead to the tunnel"), "{refused}");
    assert!(refused.contains("h0.example.test: "), "{refused}");
    let routed = control.tunnel(&["route", "bulk", "--overwrite-dns", "other", path]);
    let said = text(&routed.stderr);
    assert!(
        said.contains("0 hostnames added, 4100 moved to this tunnel, 4000 led to it already"),
        "{said}"
    );

    std::fs::write(&file, "fine.example.test\nno host\n").expect("a file");
    let bad = control.fail(&["route", "bulk", "lab", path], 1);
    assert!(bad.contains("line 2") && bad.contains("none was routed"), "{bad}");
}
