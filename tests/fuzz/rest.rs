//! Bodies of the REST API, as far as the facts that a write changes.

use adit_control::change::{configurations, routes, tunnels};
use adit_control::facts::{Change, Configuration, Facts, Tunnel};
use adit_control_api::configuration::PutConfiguration;
use adit_control_api::problem::ApiError;
use adit_control_api::route::{RouteChange, RouteRequest};
use adit_control_api::tunnel::CreateTunnel;
use adit_control_api::{AccountTag, TunnelId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::engine::{MemoryBound, Target, run};

/// A tree of JSON values is many times the size of its text, and is written twice.
const JSON: MemoryBound = MemoryBound {
    base_bytes: 32 * 1024,
    factor: 512,
};

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const OLD: TunnelId = TunnelId(Uuid::from_u128(1));
const NEW: TunnelId = TunnelId(Uuid::from_u128(2));

fn account() -> AccountTag {
    "acct".parse().expect("a tag")
}

/// One account with one tunnel.
fn facts() -> Facts {
    let request = CreateTunnel {
        name: "old".to_owned(),
        tunnel_secret: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
    };
    let mut facts = Facts::default();
    let made = tunnels::create(&facts, &account(), &request, OLD, NOW).expect("a fit request");
    made.changes.into_iter().for_each(|change| facts.apply(change));
    facts
}

/// What is stored can be read back.
fn assert_stored(changes: &[Change]) {
    for change in changes {
        match change {
            Change::PutTunnel(tunnel) => {
                let json = serde_json::to_vec(tunnel).expect("it can be stored");
                let again: Tunnel = serde_json::from_slice(&json).expect("it can be read back");
                assert_eq!((again.id, &again.name), (tunnel.id, &tunnel.name));
            }
            Change::PutConfiguration(configuration) => {
                let json = serde_json::to_vec(configuration).expect("it can be stored");
                serde_json::from_slice::<Configuration>(&json).expect("it can be read back");
            }
            Change::PutRoute(route) => {
                assert_eq!(route.pattern.to_string().parse(), Ok(route.pattern.clone()))
            }
            Change::Generation(_)
            | Change::PutAccount(_)
            | Change::RemoveTunnel(_)
            | Change::RemoveRoute(_)
            | Change::RemoveConfiguration(_) => panic!("{change:?} was not asked for"),
        }
    }
}

fn assert_told(error: &ApiError) {
    assert!(error.code != 0 && !error.message.is_empty());
}

#[test]
fn rest_tunnel() {
    run(&Target {
        name: "rest_tunnel",
        memory: JSON,
        check: |input| {
            let Ok(request) = serde_json::from_slice::<CreateTunnel>(input) else {
                return;
            };
            let mut facts = facts();
            match tunnels::create(&facts, &account(), &request, NEW, NOW) {
                Ok(made) => {
                    assert_stored(&made.changes);
                    made.changes.into_iter().for_each(|change| facts.apply(change));
                    let again = tunnels::create(&facts, &account(), &request, NEW, NOW);
                    assert_told(&again.expect_err("the name is taken"));
                }
                Err(error) => assert_told(&error),
            }
        },
    });
}

#[test]
fn rest_route() {
    run(&Target {
        name: "rest_route",
        memory: JSON,
        check: |input| {
            let Ok(RouteRequest::Dns {
                user_hostname,
                overwrite_existing,
            }) = serde_json::from_slice::<RouteRequest>(input)
            else {
                return;
            };
            let mut facts = facts();
            let put =
                |facts: &Facts| routes::put(facts, &account(), OLD, &user_hostname, overwrite_existing, NOW);
            match put(&facts) {
                Ok(made) => {
                    assert_stored(&made.changes);
                    assert_eq!(made.answer.cname, RouteChange::New);
                    made.changes.into_iter().for_each(|change| facts.apply(change));
                    let again = put(&facts).expect("what was taken once");
                    assert_eq!(again.answer.cname, RouteChange::Unchanged);
                    let removed = routes::remove(&facts, &account(), OLD, &made.answer.name);
                    assert!(removed.is_ok_and(|removed| removed.changes.len() == 1));
                }
                Err(error) => assert_told(&error),
            }
        },
    });
}

#[test]
fn rest_configuration() {
    run(&Target {
        name: "rest_configuration",
        memory: JSON,
        check: |input| {
            let Ok(request) = serde_json::from_slice::<PutConfiguration>(input) else {
                return;
            };
            match configurations::put(&facts(), &account(), OLD, request.config, NOW) {
                Ok(made) => {
                    assert_stored(&made.changes);
                    assert_eq!(made.answer.version, 1);
                }
                Err(error) => assert_told(&error),
            }
        },
    });
}
