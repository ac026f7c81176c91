//! Names that are taken, limits, and ends.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap()
}

fn id(n: u128) -> TunnelId {
    TunnelId(Uuid::from_u128(n))
}

/// Asks for a tunnel, of which there may be two, and makes it.
fn make(facts: &mut Facts, n: u128, names: &[[u8; 4]], second: i64) -> Result<String, u32> {
    let account = "a".parse().unwrap();
    let domain = "try.example.test".parse().unwrap();
    let draft = Draft {
        account: &account,
        domain: &domain,
        lifetime: HOUR,
        tunnels_max: 2,
        id: id(n),
        secret: TunnelSecret::new([7; 32]),
        names: names.to_vec(),
    };
    let decision = create(facts, &draft, at(second)).map_err(|error| error.code)?;
    decision
        .changes
        .into_iter()
        .for_each(|change| facts.apply(change));
    assert_eq!(decision.answer.tunnel.id, id(n));
    Ok(decision.answer.hostname.to_string())
}

fn sweep(facts: &mut Facts, second: i64, abandoned: &[u128]) -> Vec<TunnelId> {
    let decision = expire(facts, at(second), |tunnel| {
        abandoned.iter().any(|n| id(*n) == tunnel)
    });
    decision
        .changes
        .into_iter()
        .for_each(|change| facts.apply(change));
    decision.answer
}

#[test]
fn words_are_distinct_labels_and_the_longest_name_is_one_label() {
    let distinct: BTreeSet<&str> = WORDS.into_iter().collect();
    assert_eq!(distinct.len(), WORDS.len());
    assert!(
        WORDS
            .iter()
            .all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
    );
    let longest = WORDS.iter().map(|word| word.len()).max().unwrap();
    assert!(WORDS_PER_NAME * (longest + 1) <= 63);
}

#[test]
fn a_taken_name_is_passed_over_and_no_free_one_is_said() {
    let mut facts = Facts::default();
    let first = make(&mut facts, 1, &[[0; 4]], 0).unwrap();
    assert_eq!(first, "acorn-acorn-acorn-acorn.try.example.test");
    assert_eq!(make(&mut facts, 2, &[[0; 4]], 0), Err(Code::Unavailable.number()));
    let second = make(&mut facts, 2, &[[0; 4], [0, 0, 0, 1]], 0).unwrap();
    assert_eq!(second, "acorn-acorn-acorn-adobe.try.example.test");
    assert_eq!(
        make(&mut facts, 3, &[[3; 4]], 0),
        Err(Code::LimitReached.number())
    );
}

#[test]
fn a_name_inside_another_accounts_wildcard_is_not_given() {
    let mut facts = Facts::default();
    facts.apply(Change::PutRoute(crate::facts::Route {
        pattern: "*.example.test".parse().unwrap(),
        account: "b".parse().unwrap(),
        tunnel: id(9),
        created_at: at(0),
    }));
    assert_eq!(
        make(&mut facts, 1, &[[0; 4]], 0),
        Err(Code::HostnameTaken.number())
    );
}

#[test]
fn a_tunnel_ends_with_its_time_and_leaves_nothing() {
    let mut facts = Facts::default();
    make(&mut facts, 1, &[[0; 4]], 0).unwrap();
    make(&mut facts, 2, &[[1; 4]], 10).unwrap();
    assert!(sweep(&mut facts, 3599, &[]).is_empty());
    assert_eq!(sweep(&mut facts, 3600, &[]), [id(1)]);
    assert_eq!((facts.tunnels.size(), facts.routes.size()), (1, 1));
    assert_eq!(sweep(&mut facts, 3610, &[]), [id(2)]);
    assert_eq!((facts.tunnels.size(), facts.routes.size()), (0, 0));
}

#[test]
fn an_abandoned_or_deleted_one_ends_earlier_and_named_tunnels_never() {
    let mut facts = Facts::default();
    let account = "a".parse().unwrap();
    let request = adit_control_api::tunnel::CreateTunnel {
        name: "lab".into(),
        tunnel_secret: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into(),
    };
    let named = tunnels::create(&facts, &account, &request, id(9), at(0)).unwrap();
    named.changes.into_iter().for_each(|change| facts.apply(change));
    make(&mut facts, 1, &[[0; 4]], 0).unwrap();
    make(&mut facts, 2, &[[1; 4]], 0).unwrap();
    let deleted = tunnels::delete(&facts, &account, id(2), at(1)).unwrap();
    deleted.changes.into_iter().for_each(|change| facts.apply(change));
    assert_eq!(sweep(&mut facts, 2, &[1, 9]), [id(1), id(2)]);
    assert_eq!(sweep(&mut facts, i64::from(i32::MAX), &[9]), []);
    assert_eq!(facts.tunnels.size(), 1);
}
