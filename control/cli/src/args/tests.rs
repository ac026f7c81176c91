//! Tests of the grammar: placement, spelling, environment, counts.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::leaf::{Action, Chosen};
use super::*;
use crate::failure::Failure;

/// Parses a command line below `tunnel` and hands what was chosen to `check`.
fn chosen<T>(
    line: &str,
    variables: &[(&str, &str)],
    check: impl FnOnce(Result<Option<Chosen<'_>>, Failure>) -> T,
) -> T {
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let root = try_parse(words).unwrap();
    let (_, tunnel) = root.subcommand().unwrap();
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    let environment = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    check(Chosen::find(&root, tunnel, &environment))
}

fn found<T>(line: &str, variables: &[(&str, &str)], check: impl FnOnce(Chosen<'_>) -> T) -> T {
    chosen(line, variables, |chosen| check(chosen.unwrap().unwrap()))
}

#[test]
fn the_grammar_is_consistent() {
    command().debug_assert();
}

#[test]
fn a_tunnel_flag_means_the_same_in_every_place_and_spelling() {
    for line in [
        "adit --edge a:1 --edge b:2 tunnel run lab",
        "adit tunnel --edge a:1 --edge b:2 run lab",
        "adit tunnel run --edge a:1 --edge b:2 lab",
        "adit tunnel run -edge a:1 -edge=b:2 lab",
        "adit tunnel run lab --edge a:1,b:2",
    ] {
        found(line, &[], |chosen| {
            assert_eq!(chosen.leaf.action, Action::Run);
            assert_eq!(chosen.tunnel.list("edge"), ["a:1", "b:2"], "{line}");
            assert_eq!(chosen.argument(0), "lab");
        });
    }
}

#[test]
fn the_innermost_place_wins_over_the_outer_one_and_both_over_the_environment() {
    let variables = [("TUNNEL_METRICS", "env:1")];
    let metrics = |line: &str| found(line, &variables, |chosen| chosen.tunnel.text("metrics"));
    assert_eq!(metrics("adit tunnel run").as_deref(), Some("env:1"));
    assert_eq!(metrics("adit tunnel --metrics a:1 run").as_deref(), Some("a:1"));
    assert_eq!(
        metrics("adit tunnel --metrics a:1 run --metrics b:1").as_deref(),
        Some("b:1")
    );
    assert_eq!(
        metrics("adit tunnel run --metrics a:1 --metrics b:1").as_deref(),
        Some("b:1")
    );
}

#[test]
fn a_variable_may_have_two_names_and_an_empty_one_is_unset() {
    let level = |variables: &[(&str, &str)]| {
        found("adit tunnel run", variables, |chosen| {
            chosen.tunnel.text("transport-loglevel")
        })
    };
    assert_eq!(
        level(&[
            ("TUNNEL_PROTO_LOGLEVEL", ""),
            ("TUNNEL_TRANSPORT_LOGLEVEL", "warn")
        ])
        .as_deref(),
        Some("warn")
    );
    assert_eq!(level(&[]), None);
}

#[test]
fn a_commands_own_flag_hides_the_tunnels_flag_of_the_same_name() {
    found(
        "adit tunnel --output json list -o yaml --name x -rd",
        &[("TUNNEL_NAME", "n")],
        |chosen| {
            assert_eq!(chosen.tunnel.text("output").as_deref(), Some("json"));
            assert_eq!(chosen.own.text("output").as_deref(), Some("yaml"));
            assert_eq!(chosen.own.text("name").as_deref(), Some("x"));
            assert_eq!(chosen.tunnel.text("name").as_deref(), Some("n"));
            assert_eq!(
                chosen.own.switch("show-recently-disconnected").unwrap(),
                Some(true)
            );
        },
    );
    found("adit tunnel delete -f a b", &[], |chosen| {
        assert_eq!(chosen.own.switch("force").unwrap(), Some(true));
        assert_eq!(chosen.tunnel.switch("overwrite-dns").unwrap(), None);
        assert_eq!(chosen.arguments, ["a", "b"]);
    });
    found("adit tunnel route dns -f lab app.example.test", &[], |chosen| {
        assert_eq!(chosen.tunnel.switch("overwrite-dns").unwrap(), Some(true));
        assert_eq!(chosen.leaf.action, Action::RouteDns);
    });
}

#[test]
fn switches_take_a_value_only_behind_an_equals_sign() {
    let pq = |line: &str| {
        found(line, &[], |chosen| {
            (chosen.tunnel.switch("post-quantum").unwrap(), chosen.arguments)
        })
    };
    assert_eq!(
        pq("adit tunnel run --pq lab"),
        (Some(true), vec!["lab".to_owned()])
    );
    assert_eq!(
        pq("adit tunnel run --post-quantum=false lab"),
        (Some(false), vec!["lab".to_owned()])
    );
}

#[test]
fn a_wrong_value_names_the_place_it_came_from() {
    let grace = |line: &str, variables: &[(&str, &str)]| {
        found(line, variables, |chosen| {
            chosen
                .tunnel
                .duration("grace-period")
                .unwrap_err()
                .text()
                .to_owned()
        })
    };
    assert!(grace("adit tunnel run --grace-period soon", &[]).contains("--grace-period"));
    assert!(grace("adit tunnel run", &[("TUNNEL_GRACE_PERIOD", "soon")]).contains("TUNNEL_GRACE_PERIOD"));
}

#[test]
fn a_wrong_number_of_arguments_ends_with_status_255_and_a_hint() {
    for line in [
        "adit tunnel create",
        "adit tunnel create a b",
        "adit tunnel run a b",
        "adit tunnel info",
    ] {
        chosen(line, &[], |chosen| {
            let Err(failure) = chosen else {
                panic!("{line} was taken")
            };
            assert!(failure.text().contains("See 'adit tunnel "), "{line}");
            assert_eq!(
                format!("{:?}", failure.exit_code()),
                format!("{:?}", std::process::ExitCode::from(255))
            );
        });
    }
    let text = chosen("adit tunnel create", &[], |chosen| {
        chosen.err().map(|failure| failure.text().to_owned())
    });
    let expected = "\"adit tunnel create\" requires exactly 1 argument, the name of tunnel to create.\nSee 'adit tunnel create --help'.";
    assert_eq!(text.as_deref(), Some(expected));
}

#[test]
fn tunnel_alone_is_a_command_with_the_flags_of_tunnel() {
    chosen("adit tunnel --url http://localhost:1", &[], |chosen| {
        let chosen = chosen.unwrap().unwrap();
        assert_eq!(chosen.leaf.action, Action::AdHoc);
        assert_eq!(chosen.tunnel.text("url").as_deref(), Some("http://localhost:1"));
    });
}

#[test]
fn flags_without_meaning_before_our_own_commands_are_found() {
    let misplaced = |line: &str| {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        misplaced_flag(&try_parse(words).unwrap())
    };
    assert_eq!(misplaced("adit --edge a:1 up --hello-world"), Some("edge"));
    assert_eq!(misplaced("adit --loglevel debug up --hello-world"), None);
}

/// Unit files of years ago have them.
#[test]
fn flags_that_cloudflared_has_left_behind_are_taken() {
    for flag in [
        "--ui",
        "--ssh-server",
        "--api-key=x",
        "--lb-pool=x",
        "--proxy-expect-continue-timeout=1s",
        "--s3-url-host=x",
    ] {
        for line in [
            format!("adit tunnel {flag} run"),
            format!("adit tunnel run {flag}"),
        ] {
            chosen(&line, &[], |chosen| assert!(chosen.is_ok(), "{line}"));
        }
    }
}
