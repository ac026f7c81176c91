//! Managing tunnels by command line and by REST, and what that does to visitors.

use adit_tests::binary;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::metrics::Metrics;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::control::result;
use adit_tests::site::{HOST, Site};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn a_tunnel_lives_from_create_to_delete_by_command_line(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let control = &site.control;
    let file = site.folder().join("lab.json");
    let tunnel = control.create("lab", &file);
    let credentials: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("credentials")).expect("JSON");
    assert_eq!(credentials["TunnelID"], json!(tunnel.id.to_string()));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("a file").permissions());
    assert_eq!(mode & 0o777, 0o400, "credentials are for their owner");
    let twice = control.try_run(["create", "--credentials-file", "/nonexistent/x.json", "lab"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("tunnel with name already exists"));

    let list = control.run(["list"]);
    assert!(
        list.contains(&tunnel.id.to_string()) && list.contains(" lab "),
        "{list}"
    );
    let id = tunnel.id.to_string();
    assert!(
        control
            .run(["info", "lab"])
            .contains("does not have any active connection")
    );
    assert_eq!(control.run(["token", "lab"]), control.run(["token", &id]));

    control.run(["route", "dns", "lab", HOST]);
    let connector = site.serve(&tunnel, &nginx.url());
    let (_, replica) = connector.ready().expect("an answer");
    deadline::until_true("the listed connections", deadline::STEP, || {
        control.run(["list"]).contains("4xtst01")
    });
    let info = control.run(["info", "lab"]);
    assert!(info.contains(&replica) && info.contains("4xtst01"), "{info}");

    let busy = control.try_run(["delete", "lab"]);
    assert_eq!(
        busy.status.code(),
        Some(1),
        "a tunnel in use is not deleted: {busy:?}"
    );
    control.run(["delete", "-f", "lab"]);
    assert!(control.run(["list"]).contains("No tunnels were found"));
    assert!(control.run(["list", "-d"]).contains(&id));
    deadline::until_true("visitors to be refused", deadline::STEP, || {
        matches!(site.visit("/").run().status, 404 | 503)
    });
    let gone = control.try_run(["delete", &id]);
    assert_eq!(gone.status.code(), Some(1));
}

fn routes_move_and_names_are_exclusive(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let first = site.tunnel("first");
    let second = site.control.create("second", &site.folder().join("second.json"));
    let _one = site.serve(&first, &nginx.url());
    let two = site.connector(&second).service("http_status:418").start();
    two.wait_connections(4);
    let id = second.id.to_string();
    let taken = site.control.try_run(["route", "dns", &id, HOST]);
    assert_eq!(taken.status.code(), Some(1), "{taken:?}");
    assert_eq!(site.visit("/").run().status, 200);
    site.control.run(["route", "dns", "--overwrite-dns", &id, HOST]);
    deadline::until_true("the route to move", deadline::STEP, || {
        site.visit("/").run().status == 418
    });
    let bad = site.control.try_run(["route", "dns", &id, "not a hostname"]);
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
}

fn cleanup_takes_connections_away_and_they_come_back(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &nginx.url());
    deadline::until_true("four recorded", deadline::STEP, || {
        site.control.connection_count(&tunnel) == 4
    });
    site.control.run(["cleanup", "lab"]);
    // The process is alive and well, so it connects again.
    connector.wait_connections(4);
    deadline::until_true("four recorded again", deadline::STEP, || {
        site.control.connection_count(&tunnel) == 4
    });
    site.wait_served();
}

fn the_api_answers_in_its_envelope_and_guards_its_accounts(io: IoMode) {
    let site = Site::start(io);
    let control = &site.control;
    let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let body = json!({"name": "made-by-api", "tunnel_secret": secret}).to_string();
    let made = result(
        &control
            .rest("POST", "/accounts/{account}/cfd_tunnel")
            .header("Content-Type: application/json")
            .arg("-d")
            .arg(&body)
            .run(),
    );
    let id = made["id"].as_str().expect("an id").to_owned();
    assert!(
        made["token"].as_str().is_some_and(|token| !token.is_empty()),
        "{made}"
    );
    let again = control
        .rest("POST", "/accounts/{account}/cfd_tunnel")
        .header("Content-Type: application/json")
        .arg("-d")
        .arg(&body)
        .run();
    assert_eq!(again.status, 409, "{}", again.text());

    let listed = result(
        &control
            .rest(
                "GET",
                "/accounts/{account}/cfd_tunnel?is_deleted=false&name=made-by-api",
            )
            .run(),
    );
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let object = result(
        &control
            .rest("GET", &format!("/accounts/{{account}}/cfd_tunnel/{id}"))
            .run(),
    );
    assert_eq!(
        (&object["name"], &object["connections"]),
        (&json!("made-by-api"), &json!([]))
    );
    assert_eq!(object["deleted_at"], Value::Null);

    let other = "00000000000000000000000000000000";
    let foreign = control
        .rest("GET", &format!("/accounts/{other}/cfd_tunnel"))
        .run();
    assert!(matches!(foreign.status, 401 | 403 | 404), "{}", foreign.text());
    let unsigned = control
        .rest_as("wrong", "GET", "/accounts/{account}/cfd_tunnel")
        .run();
    assert!(matches!(unsigned.status, 400 | 401 | 403), "{}", unsigned.text());
    let envelope: Value = serde_json::from_slice(&unsigned.body).expect("JSON");
    assert_eq!(envelope["success"], json!(false));
    for nonsense in ["{", "[]", "{\"name\": 7}", ""] {
        let bad = control
            .rest("POST", "/accounts/{account}/cfd_tunnel")
            .header("Content-Type: application/json")
            .arg("-d")
            .arg(nonsense)
            .run();
        assert_eq!(bad.status, 400, "{nonsense:?}: {}", bad.text());
    }
}

fn ingress_is_validated_without_running(io: IoMode) {
    let site = Site::start(io);
    let good = site.write("good.yml", "ingress:\n  - hostname: a.example.test\n    service: http://127.0.0.1:1\n  - service: http_status:404\n");
    let check = |file: &std::path::Path, arguments: &[&str]| {
        let mut tool = adit_tests::process::command(binary::adit());
        binary::output(tool.arg("tunnel").arg("--config").arg(file).args(arguments))
    };
    let done = check(&good, &["ingress", "validate"]);
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).contains("OK"), "{done:?}");
    let rule = check(&good, &["ingress", "rule", "https://a.example.test/x"]);
    assert!(
        String::from_utf8_lossy(&rule.stdout).contains("Matched rule #0"),
        "{rule:?}"
    );
    for (text, reason) in [
        (
            "ingress:\n  - hostname: a.example.test\n    service: http://127.0.0.1:1\n",
            "The last ingress rule must match all URLs",
        ),
        (
            "ingress:\n  - service: nonsense\n",
            "nonsense is an invalid address",
        ),
        (
            "ingress:\n  - path: '('\n    service: http_status:404\n  - service: http_status:404\n",
            "Rule #1 has an invalid regex",
        ),
    ] {
        let bad = site.write("bad.yml", text);
        let done = check(&bad, &["ingress", "validate"]);
        assert_eq!(done.status.code(), Some(1), "{text}: {done:?}");
        assert!(
            String::from_utf8_lossy(&done.stderr).contains(reason),
            "{text}: {done:?}"
        );
    }
}

fn control_reloads_its_file_on_a_signal(io: IoMode) {
    let mut site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let first = site.connector(&tunnel).service("http_status:204").start();
    first.wait_connections(4);
    let config = site.control.config();
    let text = std::fs::read_to_string(&config).expect("a file");
    let write = |text: &str| std::fs::write(&config, text).expect("a file in the temp dir");
    write(&format!("{text}replicas-max: 1\naccount: other\n"));
    site.control.process.signal(Signal::SIGHUP);
    let line = site
        .control
        .process
        .wait_line("keys have changed that need a new start", deadline::STEP);
    assert!(
        line.contains("account") && !line.contains("replicas-max"),
        "{line}"
    );
    site.control
        .process
        .wait_line("reloaded the configuration", deadline::STEP);
    let mut second = site.connector(&tunnel).service("http_status:204").start();
    second
        .process
        .wait_line("Tunnel has 1 replicas, which is the limit", deadline::STEP);

    write(&format!("{text}replicas-mx: 2\n"));
    site.control.process.signal(Signal::SIGHUP);
    let line = site
        .control
        .process
        .wait_line("the configuration was not reloaded", deadline::STEP);
    for part in [&config.display().to_string(), "replicas-max", "--check"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let metrics = Metrics::scrape(site.control.listen());
    let reloads = |result| metrics.sum("control_config_reloads_total", &[("result", result)]);
    assert_eq!((reloads("applied"), reloads("refused")), (1.0, 1.0));
    first.wait_connections(4);
}

adit_tests::in_both_modes!(
    control_reloads_its_file_on_a_signal,
    a_tunnel_lives_from_create_to_delete_by_command_line,
    routes_move_and_names_are_exclusive,
    cleanup_takes_connections_away_and_they_come_back,
    the_api_answers_in_its_envelope_and_guards_its_accounts,
    ingress_is_validated_without_running,
);
