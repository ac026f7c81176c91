//! The client against a scripted API: what is asked, and what is made of the answers.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use ::http::{Request as HttpRequest, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

const TUNNEL: &str = r#"{"id":"11111111-2222-3333-4444-555555555555","name":"lab","created_at":"2026-01-02T03:04:05Z","deleted_at":null,"connections":[]}"#;

/// Runs `calls` against an API that answers with `bodies` in turn; returns the requests it saw.
fn scripted<F: Future<Output = ()>>(bodies: Vec<(u16, String)>, calls: impl FnOnce(Api) -> F) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let access = Access {
            url: format!("http://{}/client/v4", listener.local_addr().unwrap()),
            account: "acct0123".to_owned(),
            zone: "zone".to_owned(),
            token: "secret".to_owned(),
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let serving = tokio::spawn(serve(listener, bodies, Arc::clone(&seen)));
        calls(Api::new(access)).await;
        serving.abort();
        let seen = seen.lock().unwrap();
        seen.clone()
    })
}

async fn serve(listener: TcpListener, bodies: Vec<(u16, String)>, seen: Arc<Mutex<Vec<String>>>) {
    for (status, body) in bodies {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = service_fn(|request: HttpRequest<Incoming>| {
            let (seen, body) = (Arc::clone(&seen), body.clone());
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                let token = request.headers()["authorization"].to_str().unwrap().to_owned();
                let sent = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(token, "Bearer secret");
                seen.lock().unwrap().push(
                    format!("{line} {}", String::from_utf8_lossy(&sent))
                        .trim_end()
                        .to_owned(),
                );
                let answer = Response::builder()
                    .status(status)
                    .header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap())
            }
        });
        let connection = server::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        connection.await.unwrap();
    }
}

fn success(result: &str, info: &str) -> (u16, String) {
    (
        200,
        format!(r#"{{"success":true,"errors":[],"messages":[],"result":{result}{info}}}"#),
    )
}

#[test]
fn creation_sends_name_and_secret() {
    let created = TUNNEL.replacen('{', r#"{"token":"tok","#, 1);
    let seen = scripted(vec![success(&created, "")], async |api| {
        let created = api.create_tunnel("lab", "AAEC").await.unwrap();
        assert_eq!(
            (created.tunnel.name.as_str(), created.token.as_str()),
            ("lab", "tok")
        );
    });
    assert_eq!(
        seen,
        [r#"POST /client/v4/accounts/acct0123/cfd_tunnel {"name":"lab","tunnel_secret":"AAEC"}"#]
    );
}

#[test]
fn a_name_in_use_is_told_as_such() {
    scripted(vec![(409, "{}".to_owned())], async |api| {
        let refused = api.create_tunnel("lab", "AAEC").await.unwrap_err();
        assert_eq!(refused.to_string(), "tunnel with name already exists");
    });
}

#[test]
fn listings_are_read_page_by_page() {
    let page = |number: u32, count: u32| {
        let items = vec![TUNNEL; count as usize].join(",");
        let info =
            format!(r#","result_info":{{"count":{count},"page":{number},"per_page":2,"total_count":3}}"#);
        success(&format!("[{items}]"), &info)
    };
    let seen = scripted(vec![page(1, 2), page(2, 1)], async |api| {
        let query = Query::default().and("is_deleted", "false");
        assert_eq!(api.tunnels_matching(&query).await.unwrap().len(), 3);
    });
    let path = "GET /client/v4/accounts/acct0123/cfd_tunnel?is_deleted=false";
    assert_eq!(seen, [format!("{path}&page=1"), format!("{path}&page=2")]);
}

#[test]
fn a_listing_without_page_information_ends_after_the_first_page() {
    let seen = scripted(vec![success(&format!("[{TUNNEL}]"), "")], async |api| {
        assert_eq!(api.tunnels_matching(&Query::default()).await.unwrap().len(), 1);
    });
    assert_eq!(seen.len(), 1);
}

#[test]
fn the_other_calls_use_their_paths() {
    let id: TunnelId = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    let connector: ConnectorId = "21111111-2222-3333-4444-555555555555".parse().unwrap();
    let answers = vec![
        success(TUNNEL, ""),
        success("null", ""),
        success("null", ""),
        success("\"tok\"", ""),
        success("[]", ""),
        success("null", ""),
        success(r#"{"cname":"new","name":"app.example.test"}"#, ""),
    ];
    let seen = scripted(answers, async |api| {
        assert_eq!(api.tunnel(id).await.unwrap().id, id);
        api.delete_tunnel(id, false).await.unwrap();
        api.delete_tunnel(id, true).await.unwrap();
        assert_eq!(api.token(id).await.unwrap(), "tok");
        assert!(api.connectors(id).await.unwrap().is_empty());
        api.cleanup(id, Some(connector)).await.unwrap();
        let routed = api.route_dns(id, "app.example.test", true).await.unwrap();
        assert_eq!(routed.name, "app.example.test");
    });
    let tunnel = format!("/client/v4/accounts/acct0123/cfd_tunnel/{id}");
    assert_eq!(
        seen,
        [
            format!("GET {tunnel}"),
            format!("DELETE {tunnel}"),
            format!("DELETE {tunnel}?cascade=true"),
            format!("GET {tunnel}/token"),
            format!("GET {tunnel}/connections"),
            format!("DELETE {tunnel}/connections?client_id={connector}"),
            format!(
                r#"PUT /client/v4/zones/zone/tunnels/{id}/routes {{"type":"dns","user_hostname":"app.example.test","overwrite_existing":true}}"#
            ),
        ]
    );
}

#[test]
fn nobody_listening_is_told_with_the_address() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let free = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let access = Access {
            url: format!("http://{free}"),
            account: "a".to_owned(),
            zone: "z".to_owned(),
            token: "t".to_owned(),
        };
        let failed = Api::new(access)
            .token("11111111-2222-3333-4444-555555555555".parse().unwrap())
            .await;
        let failed = failed.unwrap_err();
        assert!(failed.is_unreachable());
        let text = format!("{:#}", anyhow::Error::new(failed));
        assert!(text.contains(&format!("cannot connect to {free}")), "{text}");
    });
}
