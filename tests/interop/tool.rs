//! The stock command line against our control.

use std::path::Path;

use adit_tests::binary;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::control::Tunnel;
use adit_tests::site::{HOST, Site};

fn a_tunnel_lives_from_create_to_delete(io: IoMode) {
    let Some(stock) = crate::stock("a_tunnel_lives_from_create_to_delete") else {
        return;
    };
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let control = &site.control;
    let run = |arguments: &[&str]| binary::output(control.tool(&stock).args(arguments));
    let text = |arguments: &[&str]| {
        let done = run(arguments);
        let all = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {all}");
        all
    };
    let file = site.folder().join("lab.json");
    let made = text(&["create", "--credentials-file", &file.display().to_string(), "lab"]);
    let made = made.split("Created tunnel lab with id ").nth(1).expect("an id");
    let id: uuid::Uuid = made
        .split_whitespace()
        .next()
        .and_then(|id| id.parse().ok())
        .expect("an id");
    let tunnel = Tunnel {
        id,
        name: "lab".to_owned(),
        credentials: file,
    };
    let again = run(&["create", "--credentials-file", "/nonexistent/x.json", "lab"]);
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("tunnel with name already exists"),
        "{again:?}"
    );

    assert!(text(&["route", "dns", "lab", HOST]).contains("Added CNAME"));
    assert!(text(&["route", "dns", "lab", HOST]).contains("is already configured to route to your tunnel"));
    let token = text(&["token", "lab"]);
    assert!(
        token.contains(&control.token(&tunnel)),
        "one token, whoever asks: {token}"
    );
    assert!(text(&["list"]).contains(&id.to_string()));

    let connector = crate::serve(stock.clone(), &site, &tunnel, &nginx.url(), crate::Over::Quic);
    let (_, replica) = connector.ready().expect("an answer");
    deadline::until_true("the connections", deadline::STEP, || {
        text(&["list"]).contains("4xtst01")
    });
    let info = text(&["info", "lab"]);
    assert!(info.contains(&replica) && info.contains("4xtst01"), "{info}");
    assert!(
        text(&["list", "-o", "json"]).contains("\"coloName\"")
            || text(&["list", "-o", "json"]).contains("colo_name")
    );
    assert!(
        !run(&["delete", "lab"]).status.success(),
        "a tunnel in use is not deleted"
    );
    text(&["cleanup", "lab"]);
    connector.wait_connections(4);
    drop(connector);
    deadline::until_true("the connections to be gone", deadline::STEP, || {
        control.connection_count(&tunnel) == 0
    });
    text(&["delete", "lab"]);
    assert!(text(&["list"]).contains("No tunnels were found"));
}

/// What a program says about `file`, and how it ends.
fn judged(program: &Path, file: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut tool = adit_tests::process::command(program);
    let done = binary::output(tool.arg("tunnel").arg("--config").arg(file).args(arguments));
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Needs no edge, so one mode is both.
#[test]
fn ingress_rules_are_judged_alike() {
    let Some(stock) = crate::stock("ingress_rules_are_judged_alike") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temp dir");
    let file = folder.path().join("config.yml");
    let ours_and_theirs = |text: &str, arguments: &[&str]| {
        std::fs::write(&file, text).expect("a file in the temp dir");
        [binary::adit(), &stock].map(|program| judged(program, &file, arguments))
    };
    let good = "ingress:\n- {hostname: '*.app.test', path: ^/a, service: 'http://127.0.0.1:80'}\n- service: http_status:404\n";
    let [ours, theirs] = ours_and_theirs(good, &["ingress", "validate"]);
    assert_eq!(ours, theirs);
    for url in [
        "https://q.app.test/abc?d",
        "https://q.app.test:80/b",
        "http://x",
        "app.test",
    ] {
        let [ours, theirs] = ours_and_theirs(good, &["ingress", "rule", url]);
        assert_eq!(ours, theirs, "{url}");
    }
    for bad in [
        "tunnel: x\n",
        "ingress:\n- {hostname: a.com, service: 'http://x'}\n",
        "ingress:\n- {hostname: '*', service: 'http://x'}\n- service: http://y\n",
        "ingress:\n- {hostname: 'a.*.b', service: 'http://x'}\n- service: http://y\n",
        "ingress:\n- {hostname: 'a.b:80', service: 'http://x'}\n- service: http://y\n",
        "ingress:\n- service: http://x/p\n",
        "ingress:\n- service: xyz\n",
        "ingress:\n- service: http_status:9\n",
    ] {
        let [ours, theirs] = ours_and_theirs(bad, &["ingress", "validate"]);
        assert_eq!(ours.0, theirs.0, "{bad}: {ours:?} {theirs:?}");
        // Ours may go on with the number of the rule.
        assert!(
            ours.1.starts_with(theirs.1.trim_end()),
            "{bad}: {ours:?} {theirs:?}"
        );
    }
}

adit_tests::in_both_modes!(a_tunnel_lives_from_create_to_delete);
