//! The stock command line against our control.

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

    let connector = crate::serve(stock.clone(), &site, &tunnel, &nginx.url());
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

adit_tests::in_both_modes!(a_tunnel_lives_from_create_to_delete);
