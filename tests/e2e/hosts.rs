//! Several hosts with links between them, as network namespaces: control, edge, connector and visitor each on its
//! own, joined by mutual TLS, and a link is cut.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use adit_tests::binary;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::namespaces::{Host, Network};
use adit_tests::process::Process;
use serde_json::Value;
use tempfile::TempDir;

/// Fixed ports: every host has an address of its own.
const TUNNEL: u16 = 7844;
const HTTP: u16 = 80;
const EDGES: u16 = 7081;

/// How long the consequences of a cut or mended link may take to be seen, back-off included.
const LINK_LIMIT: Duration = Duration::from_secs(60);

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn wait_file(process: &mut Process, file: &Path) {
    let name = process.name().to_owned();
    deadline::until_true(&format!("{name} to listen"), deadline::STEP, || {
        assert!(process.exited().is_none(), "{name} ended before it listened");
        std::fs::read(file).is_ok_and(|text| serde_json::from_slice::<Value>(&text).is_ok())
    });
}

/// `adit ARGUMENTS` on a host.
fn adit(host: &Host, arguments: &[&str]) -> Command {
    let mut command = host.command(binary::adit());
    command.args(arguments);
    command
}

/// Who runs where.
struct Town<'a> {
    brain: &'a Host,
    door: &'a Host,
    shop: &'a Host,
    visitor: &'a Host,
    io: String,
    folder: TempDir,
}

impl Town<'_> {
    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn start_control(&self) -> Process {
        let text = format!(
            "listen: 127.0.0.1:7080\nedge-listen: {{address: '{}:{EDGES}'}}\nstate-dir: {}\n",
            self.brain.address,
            self.at("control"),
        );
        write(self.folder.path(), "control.yml", &text);
        let arguments = ["control", "--config", &self.at("control.yml")];
        let mut control = Process::start("control", &mut adit(self.brain, &arguments));
        wait_file(&mut control, &self.folder.path().join("control/addresses.json"));
        control
    }

    /// `adit tunnel …` on control's host.
    fn tool(&self, arguments: &[&str]) -> String {
        let cert = self.at("control/cert.pem");
        let grammar = [
            "tunnel",
            "--api-url",
            "http://127.0.0.1:7080/client/v4",
            "--origincert",
            &cert,
        ];
        binary::succeed(adit(self.brain, &grammar).args(arguments))
    }

    fn start_edge(&self) -> Process {
        let files = self.at("issued");
        let arguments = [
            "control",
            "issue-edge",
            "--config",
            &self.at("control.yml"),
            "--name",
            "door",
            "--out",
            &files,
        ];
        binary::succeed(&mut adit(self.brain, &arguments));
        let text = format!(
            "name: door\ncolo: tst01\nregion: test\nstate-dir: {state}\nlisteners: {{tunnel: '{own}:{TUNNEL}', \
             http: ['{own}:{HTTP}'], https: [], admin: '127.0.0.1:0'}}\ncontrol: {{address: '{brain}:{EDGES}', \
             ca: {files}/ca.pem, cert: {files}/edge.pem, key: {files}/edge-key.pem}}\n",
            state = self.at("edge"),
            own = self.door.address,
            brain = self.brain.address,
        );
        write(self.folder.path(), "edge.yml", &text);
        let arguments = ["edge", "--io", &self.io, "--config", &self.at("edge.yml")];
        let mut edge = Process::start("edge", &mut adit(self.door, &arguments));
        wait_file(&mut edge, &self.folder.path().join("edge/addresses.json"));
        edge
    }

    fn start_connector(&self, token: &str) -> Process {
        let (ca, edge) = (
            self.at("control/ca.pem"),
            format!("{}:{TUNNEL}", self.door.address),
        );
        let mut arguments = vec![
            "tunnel",
            "--io",
            &self.io,
            "--cacert",
            &ca,
            "--metrics",
            "127.0.0.1:0",
        ];
        arguments.extend(["--edge", &edge].repeat(5));
        arguments.extend(["run", "--token-file", token, "--hello-world"]);
        Process::start("connector", &mut adit(self.shop, &arguments))
    }

    /// Asks for the page from the visitor's host: its status, 0 when there is none.
    fn ask(&self) -> u16 {
        let url = format!("http://{}:{HTTP}/", self.door.address);
        let mut curl = self.visitor.command("curl");
        curl.args([
            "-s",
            "--noproxy",
            "*",
            "--max-time",
            "3",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ]);
        let output = binary::output(curl.args(["-H", "Host: app.example.test", &url]));
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .unwrap_or(0)
    }

    fn wait_status(&self, status: u16) {
        deadline::until_true(&format!("the visitor to see {status}"), LINK_LIMIT, || {
            self.ask() == status
        });
    }
}

fn four_hosts_serve_and_a_cut_link_heals(io: IoMode) {
    let network = match Network::create(4) {
        Ok(network) => network,
        Err(why) => return binary::skipped("four_hosts_serve_and_a_cut_link_heals", &why),
    };
    let [brain, door, shop, visitor] = network.hosts() else {
        panic!("four hosts")
    };
    let folder = tempfile::tempdir().expect("a temp dir");
    let town = Town {
        brain,
        door,
        shop,
        visitor,
        io: io.to_string(),
        folder,
    };
    let _control = town.start_control();
    town.tool(&["create", "--credentials-file", &town.at("lab.json"), "lab"]);
    town.tool(&["route", "dns", "lab", "app.example.test"]);
    write(town.folder.path(), "token", &town.tool(&["token", "lab"]));
    let token = town.at("token");
    let _edge = town.start_edge();
    let mut connector = town.start_connector(&token);
    town.wait_status(200);

    // The shop's link is cut and mended: the edge notices, then the connector is back by itself.
    shop.set_link(false);
    town.wait_status(503);
    shop.set_link(true);
    town.wait_status(200);
    // Control is cut off: nobody notices, and a new replica gets in all the same.
    brain.set_link(false);
    assert_eq!(town.ask(), 200);
    connector.kill();
    let _second = town.start_connector(&token);
    town.wait_status(200);
    brain.set_link(true);
    deadline::until_true("control to know the replica", LINK_LIMIT, || {
        town.tool(&["list"]).contains("4xtst01")
    });
}

adit_tests::in_both_modes!(four_hosts_serve_and_a_cut_link_heals);
