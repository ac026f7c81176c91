//! The REST API as the stock command line uses it, and as it should not be used.

use adit_wire::token::TunnelToken;
use serde_json::{Value, json};

use crate::lab::{Control, tunnel_body};

fn create(control: &Control, name: &str) -> String {
    let made = control
        .call(
            "POST",
            &control.account_path("/cfd_tunnel"),
            Some(&tunnel_body(name)),
        )
        .result();
    made["id"].as_str().unwrap().to_owned()
}

fn names(control: &Control, query: &str) -> Vec<String> {
    let listed = control
        .call("GET", &control.account_path(&format!("/cfd_tunnel{query}")), None)
        .result();
    listed
        .as_array()
        .unwrap()
        .iter()
        .map(|tunnel| tunnel["name"].as_str().unwrap().into())
        .collect()
}

#[test]
fn a_tunnel_is_created_listed_shown_tokened_routed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let made = control
        .call(
            "POST",
            &control.account_path("/cfd_tunnel"),
            Some(&tunnel_body("lab")),
        )
        .result();
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        (made["name"].as_str(), &made["deleted_at"]),
        (Some("lab"), &Value::Null)
    );
    let token: TunnelToken = made["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(token.tunnel_id.to_string(), id);
    assert_eq!(token.account_tag.as_str(), control.cert.account_id);
    assert_eq!(token.secret.as_bytes(), (0..32).collect::<Vec<u8>>());

    let tunnel = control.account_path(&format!("/cfd_tunnel/{id}"));
    assert_eq!(control.call("GET", &tunnel, None).result()["id"], made["id"]);
    assert_eq!(
        control.call("GET", &format!("{tunnel}/token"), None).result(),
        made["token"]
    );
    assert_eq!(
        control
            .call("GET", &format!("{tunnel}/connections"), None)
            .result(),
        json!([])
    );
    assert_eq!(names(&control, "?is_deleted=false&name=lab"), ["lab"]);

    let route = control.zone_path(&format!("/tunnels/{id}/routes"));
    let body = json!({"type": "dns", "user_hostname": "App.Example.test", "overwrite_existing": false});
    let routed = control.call("PUT", &route, Some(&body)).result();
    assert_eq!(routed, json!({"cname": "new", "name": "app.example.test"}));
    let listed = control
        .call("GET", &control.zone_path("/tunnels/routes"), None)
        .result();
    assert_eq!(listed[0]["tunnel_name"], "lab");

    control.call("DELETE", &tunnel, None).result();
    assert!(control.call("GET", &tunnel, None).result()["deleted_at"].is_string());
    assert_eq!(
        control.call("GET", &format!("{tunnel}/token"), None).refusal(),
        (404, 1023)
    );
    assert_eq!(control.call("DELETE", &tunnel, None).refusal(), (404, 1023));
    assert_eq!(names(&control, "?is_deleted=false"), Vec::<String>::new());
    assert_eq!(names(&control, "?is_deleted=true"), ["lab"]);
    assert_eq!(
        control
            .call("GET", &control.zone_path("/tunnels/routes"), None)
            .result(),
        json!([])
    );
}

#[test]
fn a_list_of_hostnames_is_routed_at_once_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let (one, two) = (create(&control, "one"), create(&control, "two"));
    let path = |id: &str| control.zone_path(&format!("/tunnels/{id}/routes"));
    let listed = || control.call("GET", &control.zone_path("/tunnels/routes?per_page=1000"), None);
    let hosts: Vec<_> = (0..500).map(|n| format!("h{n}.test")).collect();
    let routed = control.call("POST", &path(&one), Some(&json!({"hostnames": hosts})));
    assert_eq!(routed.result(), json!({"new": 500, "updated": 0, "unchanged": 0}));
    let generation = || {
        let health = control.try_call("GET", "/healthz", "", "").unwrap();
        serde_json::from_str::<Value>(&health.text).unwrap()["generation"].as_u64()
    };
    let before = generation();

    let mixed = json!({"hostnames": ["new.test", "h1.test", "no host", "h2.test"]});
    let refused = control.call("POST", &path(&two), Some(&mixed));
    assert_eq!(refused.refusal(), (409, 1014));
    let envelope: Value = serde_json::from_str(&refused.text).unwrap();
    let messages = envelope["errors"].as_array().unwrap();
    let named: Vec<_> = messages
        .iter()
        .map(|error| error["message"].as_str().unwrap().split(": ").next().unwrap())
        .collect();
    assert_eq!(named, ["h1.test", "no host", "h2.test"]);
    assert_eq!(listed().result().as_array().unwrap().len(), 500);
    assert_eq!(generation(), before, "nothing was committed");

    let moved = json!({"hostnames": ["new.test", "h1.test"], "overwrite_existing": true});
    let routed = control.call("POST", &path(&two), Some(&moved)).result();
    assert_eq!(routed, json!({"new": 1, "updated": 1, "unchanged": 0}));
    assert_eq!(
        generation(),
        before.map(|before| before + 1),
        "one commit for all"
    );
    let many = json!({"hostnames": vec!["x.test"; 4_001]});
    assert_eq!(
        control.call("POST", &path(&two), Some(&many)).refusal(),
        (413, 1005)
    );
    let unknown = json!({"hostname": ["x.test"]});
    assert_eq!(
        control.call("POST", &path(&two), Some(&unknown)).refusal(),
        (400, 1001)
    );
}

#[test]
fn lists_are_filtered_and_paged() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let ids: Vec<_> = ["web-1", "web-2", "db-1", "db-2", "db-3"]
        .iter()
        .map(|name| create(&control, name))
        .collect();
    for (query, expected) in [
        ("", vec!["web-1", "web-2", "db-1", "db-2", "db-3"]),
        ("?name=db-2", vec!["db-2"]),
        ("?name_prefix=web", vec!["web-1", "web-2"]),
        ("?exclude_prefix=web", vec!["db-1", "db-2", "db-3"]),
        (format!("?uuid={}", ids[4]).as_str(), vec!["db-3"]),
        ("?existed_at=2001-01-01T00:00:00Z", vec![]),
        ("?existed_at=2901-01-01T00:00:00Z&name=db-1", vec!["db-1"]),
        ("?per_page=2&page=1", vec!["web-1", "web-2"]),
        ("?per_page=2&page=3", vec!["db-3"]),
        ("?per_page=2&page=4", vec![]),
        ("?include_prefix=web", vec!["web-1", "web-2"]),
    ] {
        assert_eq!(names(&control, query), expected, "{query}");
    }
    let answer = control.call(
        "GET",
        &control.account_path("/cfd_tunnel?per_page=2&page=3"),
        None,
    );
    let envelope: Value = serde_json::from_str(&answer.text).unwrap();
    let info = json!({"count": 1, "page": 3, "per_page": 2, "total_count": 5});
    assert_eq!(envelope["result_info"], info);
    assert_eq!(envelope["messages"], json!([]));
    for bad in [
        "?page=0",
        "?page=x",
        "?existed_at=today",
        "?uuid=x",
        "?status=down",
        "?nam=web-1",
    ] {
        let answer = control.call("GET", &control.account_path(&format!("/cfd_tunnel{bad}")), None);
        assert!([400, 404].contains(&answer.refusal().0), "{bad}");
    }
    let tunnel = control.account_path(&format!("/cfd_tunnel/{}", ids[0]));
    for (method, path) in [
        ("GET", control.zone_path("/tunnels/routes?hostname=a.test")),
        ("DELETE", format!("{tunnel}/connections?clientid={}", ids[0])),
        ("DELETE", format!("{tunnel}?casade=true")),
    ] {
        let refused = control.call(method, &path, None);
        assert_eq!(refused.refusal(), (400, 1001), "{path}");
        assert!(refused.text.contains("unknown field"), "{}", refused.text);
    }
    assert_eq!(names(&control, "?name=web-1"), ["web-1"]);
}

#[test]
fn a_tunnel_without_a_secret_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let path = control.account_path("/cfd_tunnel");
    let secret_of = |body: Value| {
        let made = control.call("POST", &path, Some(&body)).result();
        let token: TunnelToken = made["token"].as_str().unwrap().parse().unwrap();
        token.secret.as_bytes().to_vec()
    };
    let one = secret_of(json!({"name": "one"}));
    let two = secret_of(json!({"name": "two", "config_src": "cloudflare"}));
    assert_eq!((one.len(), two.len()), (32, 32));
    assert_ne!(one, two);
    for body in [
        json!({"name": "three", "secret": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}),
        json!({"name": "three", "config_src": "elsewhere"}),
        json!({"name": "three", "tunnel_secret": 3}),
    ] {
        let refused = control.call("POST", &path, Some(&body));
        assert_eq!(refused.refusal(), (400, 1001), "{body}");
    }
}

#[test]
fn hostnames_move_only_when_told_to_and_can_be_freed() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let (one, two) = (create(&control, "one"), create(&control, "two"));
    let route = |id: &str, overwrite: bool| {
        let body = json!({"type": "dns", "user_hostname": "app.test", "overwrite_existing": overwrite});
        control.call(
            "PUT",
            &control.zone_path(&format!("/tunnels/{id}/routes")),
            Some(&body),
        )
    };
    assert_eq!(route(&one, false).result()["cname"], "new");
    assert_eq!(route(&one, false).result()["cname"], "unchanged");
    assert_eq!(route(&two, false).refusal(), (409, 1014));
    assert_eq!(route(&two, true).result()["cname"], "updated");
    let freed = |id: &str| {
        control.call(
            "DELETE",
            &control.zone_path(&format!("/tunnels/{id}/routes/app.test")),
            None,
        )
    };
    assert_eq!(freed(&one).refusal(), (404, 1003));
    freed(&two).result();
    assert_eq!(route(&one, false).result()["cname"], "new");
    let path = control.zone_path(&format!("/tunnels/{one}/routes"));
    for body in [
        json!({"type": "lb", "lb_name": "h", "lb_pool": "p"}),
        json!({"type": "dns"}),
    ] {
        assert_eq!(
            control.call("PUT", &path, Some(&body)).refusal(),
            (400, 1001),
            "{body}"
        );
    }
    let bad = json!({"type": "dns", "user_hostname": "no host", "overwrite_existing": false});
    assert_eq!(control.call("PUT", &path, Some(&bad)).refusal(), (400, 1002));
}

#[test]
fn configurations_are_versioned_and_make_a_tunnel_remotely_managed() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let id = create(&control, "lab");
    let path = control.account_path(&format!("/cfd_tunnel/{id}/configurations"));
    let before = control.call("GET", &path, None).result();
    assert_eq!(
        (&before["version"], &before["source"], &before["config"]),
        (&json!(0), &json!("local"), &Value::Null)
    );
    let rules = json!({"config": {"ingress": [{"service": "http_status:404"}]}});
    assert_eq!(control.call("PUT", &path, Some(&rules)).result()["version"], 1);
    assert_eq!(control.call("PUT", &path, Some(&rules)).result()["version"], 2);
    let after = control.call("GET", &path, None).result();
    assert_eq!(
        (&after["version"], &after["config"]),
        (&json!(2), &rules["config"])
    );
    let tunnel = control
        .call("GET", &control.account_path(&format!("/cfd_tunnel/{id}")), None)
        .result();
    assert_eq!(tunnel["remote_config"], true);
    let bad = json!({"config": {"ingress": [{"hostname": "a.test", "service": "http://x"}]}});
    assert_eq!(control.call("PUT", &path, Some(&bad)).refusal(), (400, 1002));
}

#[test]
fn nobody_gets_in_without_the_right_token_and_nobody_learns_why() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let own = control.account_path("/cfd_tunnel");
    let other = "/client/v4/accounts/0123456789abcdef0123456789abcdef/cfd_tunnel";
    let token = control.cert.api_token.clone();
    let mut texts = Vec::new();
    for (path, token) in [
        (own.as_str(), ""),
        (own.as_str(), "wrong"),
        (other, token.as_str()),
        (other, "wrong"),
    ] {
        let answer = control.try_call("GET", path, token, "").unwrap();
        assert_eq!(answer.refusal(), (401, 10000), "{path} {token}");
        texts.push(answer.text);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1);
    let zone = "/client/v4/zones/0123456789abcdef0123456789abcdef/tunnels/routes";
    assert_eq!(control.call("GET", zone, None).refusal(), (401, 10000));
}

#[test]
fn a_request_with_several_authorization_headers_is_refused_whichever_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let (path, right) = (control.account_path("/cfd_tunnel"), &control.cert.api_token);
    let several = [
        format!("{right}\r\nAuthorization: Bearer {right}"),
        format!("{right}\r\nauthorization: Bearer other"),
        format!("other\r\nauthorization: Bearer {right}"),
        format!("{right}\r\nauthorization: Basic b3RoZXI6"),
    ];
    for headers in several {
        let answer = control.try_call("GET", &path, &headers, "").unwrap();
        assert_eq!(answer.refusal(), (400, 1001), "{headers:?}");
        assert!(
            answer.text.contains("several Authorization headers"),
            "{answer:?}"
        );
    }
}

#[test]
fn malformed_requests_are_refused_in_the_envelope() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let path = control.account_path("/cfd_tunnel");
    create(&control, "lab");
    assert_eq!(
        control.call("POST", &path, Some(&tunnel_body("lab"))).refusal(),
        (409, 1013)
    );
    let token = control.cert.api_token.clone();
    for body in [
        "",
        "{",
        "[]",
        "{\"nam\":\"x\"}",
        "{\"name\":1,\"tunnel_secret\":\"\"}",
    ] {
        assert_eq!(
            control.try_call("POST", &path, &token, body).unwrap().refusal(),
            (400, 1001),
            "{body}"
        );
    }
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    assert_eq!(
        control.try_call("POST", &path, &token, &large).unwrap().refusal(),
        (413, 1005)
    );
    assert_eq!(control.call("GET", "/nowhere", None).refusal(), (404, 1003));
    assert_eq!(
        control.call("GET", "/client/v4/nowhere", None).refusal(),
        (404, 1003)
    );
    assert_eq!(control.call("PATCH", &path, None).refusal(), (405, 1004));
    assert_eq!(
        control.call("GET", &format!("{path}/not-a-uuid"), None).refusal(),
        (404, 1003)
    );
    let long = control.try_call("GET", &format!("/{}", "x".repeat(100_000)), &token, "");
    assert!(long.is_err() || (400..500).contains(&long.unwrap().status));
}

#[test]
fn health_and_metrics_need_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    create(&control, "lab");
    let health = control.try_call("GET", "/healthz", "", "").unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&health.text).unwrap()["status"],
        "ok"
    );
    let page = control.try_call("GET", "/metrics", "", "").unwrap();
    for line in [
        "control_tunnels 1",
        "control_api_requests_total{status=\"2xx\"} 2",
        "control_edges 0",
    ] {
        assert!(page.text.contains(&format!("{line}\n")), "{line}: {}", page.text);
    }
}
