//! Several hosts with links between them, as network namespaces. Control, edges, connector and visitor each
//! have a host, the edges attach to control by mutual TLS, and a link is cut.

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
const METRICS: u16 = 20241;

/// What most visitors ask for.
const HOST: &str = "app.example.test";

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
    doors: &'a [Host],
    shop: &'a Host,
    visitor: &'a Host,
    io: String,
    folder: TempDir,
}

impl<'a> Town<'a> {
    /// Control on the first host, edges on those between, the connector and the visitor on the last two.
    fn build(network: &'a Network, io: IoMode) -> Self {
        let [brain, doors @ .., shop, visitor] = network.hosts() else {
            panic!("four hosts or more")
        };
        Self {
            brain,
            doors,
            shop,
            visitor,
            io: io.to_string(),
            folder: tempfile::tempdir().expect("a temp dir"),
        }
    }

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

    /// The tunnel `lab`, which serves [`HOST`], and the file with its token.
    fn make_tunnel(&self) -> String {
        self.tool(&["create", "--credentials-file", &self.at("lab.json"), "lab"]);
        self.tool(&["route", "dns", "lab", HOST]);
        write(self.folder.path(), "token", &self.tool(&["token", "lab"]));
        self.at("token")
    }

    /// An edge on the door of this number, which is also that of its colo.
    fn start_edge(&self, number: usize) -> Process {
        let name = format!("door{number}");
        let files = self.at(&format!("issued{number}"));
        let config = self.at("control.yml");
        let arguments = ["control", "issue-edge", "--config", &config, "--name", &name];
        binary::succeed(adit(self.brain, &arguments).args(["--out", &files]));
        let text = format!(
            "name: {name}\ncolo: tst{number:02}\nregion: test\nstate-dir: {state}\nlisteners: {{tunnel: '{own}:{TUNNEL}', \
             http: ['{own}:{HTTP}'], https: [], admin: '127.0.0.1:0'}}\ncontrol: {{address: '{brain}:{EDGES}', \
             ca: {files}/ca.pem, cert: {files}/edge.pem, key: {files}/edge-key.pem}}\n",
            state = self.at(&name),
            own = self.doors[number - 1].address,
            brain = self.brain.address,
        );
        let config = format!("{name}.yml");
        write(self.folder.path(), &config, &text);
        let arguments = ["edge", "--io", &self.io, "--config", &self.at(&config)];
        let mut edge = Process::start(name.clone(), &mut adit(&self.doors[number - 1], &arguments));
        wait_file(&mut edge, &self.folder.path().join(name).join("addresses.json"));
        edge
    }

    /// A connector with four connections, spread over all edges.
    fn start_connector(&self, token: &str) -> Process {
        let (ca, metrics) = (self.at("control/ca.pem"), format!("127.0.0.1:{METRICS}"));
        let mut connector = adit(
            self.shop,
            &["tunnel", "--io", &self.io, "--cacert", &ca, "--metrics", &metrics],
        );
        // As many addresses as connections: each stays with its edge.
        for door in self.doors.iter().cycle().take(4) {
            connector.arg("--edge").arg(format!("{}:{TUNNEL}", door.address));
        }
        connector.args(["run", "--token-file", token, "--hello-world"]);
        Process::start("connector", &mut connector)
    }

    /// How many connections the connector has registered.
    fn ready(&self) -> Option<u64> {
        let url = format!("http://127.0.0.1:{METRICS}/ready");
        let output = binary::output(curl(self.shop).arg(&url));
        let body: Value = serde_json::from_slice(&output.stdout).ok()?;
        body["readyConnections"].as_u64()
    }

    /// Asks a door for the page of `host` from the visitor's host: its status, 0 when there is none.
    fn ask_for(&self, host: &str, door: &Host) -> u16 {
        let url = format!("http://{}:{HTTP}/", door.address);
        let host = format!("Host: {host}");
        let mut curl = curl(self.visitor);
        curl.args(["-o", "/dev/null", "-w", "%{http_code}", "-H", &host, &url]);
        let output = binary::output(&mut curl);
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .unwrap_or(0)
    }

    fn ask(&self, door: &Host) -> u16 {
        self.ask_for(HOST, door)
    }

    fn wait_status(&self, door: &Host, status: u16) {
        deadline::until_true(&format!("the visitor to see {status}"), LINK_LIMIT, || {
            self.ask(door) == status
        });
    }
}

/// curl on a host, for a short answer.
fn curl(host: &Host) -> Command {
    let mut curl = host.command("curl");
    curl.args(["-s", "--noproxy", "*", "--max-time", "3"]);
    curl
}

/// So many hosts, or a word about why the story is skipped.
fn network(story: &str, count: u8) -> Option<Network> {
    Network::create(count)
        .map_err(|why| binary::skipped(story, &why))
        .ok()
}

fn four_hosts_serve_and_a_cut_link_heals(io: IoMode) {
    let Some(network) = network("four_hosts_serve_and_a_cut_link_heals", 4) else {
        return;
    };
    let town = Town::build(&network, io);
    let door = &town.doors[0];
    let _control = town.start_control();
    let token = town.make_tunnel();
    let _edge = town.start_edge(1);
    let mut connector = town.start_connector(&token);
    town.wait_status(door, 200);

    // The shop's link is cut and mended: the edge notices, then the connector is back by itself.
    town.shop.set_link(false);
    town.wait_status(door, 503);
    town.shop.set_link(true);
    town.wait_status(door, 200);
    // Control is cut off: nobody notices, and a new replica gets in all the same.
    town.brain.set_link(false);
    assert_eq!(town.ask(door), 200);
    connector.kill();
    let _second = town.start_connector(&token);
    town.wait_status(door, 200);
    town.brain.set_link(true);
    deadline::until_true("control to know the replica", LINK_LIMIT, || {
        town.tool(&["list"]).contains("4xtst01")
    });
}

fn one_edge_serves_while_the_other_is_cut_off(io: IoMode) {
    let Some(network) = network("one_edge_serves_while_the_other_is_cut_off", 5) else {
        return;
    };
    let town = Town::build(&network, io);
    let [near, far] = town.doors else {
        panic!("two edges")
    };
    let _control = town.start_control();
    let token = town.make_tunnel();
    let _edges = [town.start_edge(1), town.start_edge(2)];
    let _connector = town.start_connector(&token);
    let wait_spread = || {
        deadline::until_true("two connections at each edge", LINK_LIMIT, || {
            let list = town.tool(&["list"]);
            list.contains("2xtst01") && list.contains("2xtst02") && town.ready() == Some(4)
        });
    };
    wait_spread();
    town.wait_status(near, 200);
    town.wait_status(far, 200);

    // The far edge loses its visitors, the connector and control. Visitors of the near one notice nothing,
    // neither before the connector has given up its connections to the far edge nor afterwards.
    far.set_link(false);
    deadline::until_true("the connector to miss the far edge", LINK_LIMIT, || {
        assert_eq!(town.ask(near), 200);
        town.ready() == Some(2)
    });
    assert_eq!(town.ask(far), 0);
    town.tool(&["route", "dns", "lab", "new.example.test"]);
    deadline::until_true("a new route at the near edge", LINK_LIMIT, || {
        assert_eq!(town.ask(near), 200);
        town.ask_for("new.example.test", near) == 200
    });

    // The path returns: connections, visitors and what was decided in between.
    far.set_link(true);
    town.wait_status(far, 200);
    wait_spread();
    deadline::until_true("the new route at the far edge", LINK_LIMIT, || {
        town.ask_for("new.example.test", far) == 200
    });
    assert_eq!(town.ask(near), 200);
}

adit_tests::in_both_modes!(
    four_hosts_serve_and_a_cut_link_heals,
    one_edge_serves_while_the_other_is_cut_off,
);
