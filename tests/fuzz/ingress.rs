//! Ingress rules: parsing them, and finding the one for a request.

use adit_connector::config::ingress_file;
use adit_proto::ingress::host::HostFilter;
use adit_proto::ingress::service::OriginService;
use adit_proto::ingress::{Ingress, RuleText};

use crate::engine::{MemoryBound, Target, run, run_slow};

/// A rule's regular expression may grow to 1 MiB of program, and while it is made to some times that.
const RULES: MemoryBound = MemoryBound {
    base_bytes: 16 * 1024 * 1024,
    factor: 4096,
};

/// Rules of one list: more of them only repeat what few show.
const RULES_MAX: usize = 8;

/// Whatever was taken is written so that it is taken again, with the same meaning.
fn assert_rewritten(ingress: &Ingress) {
    for rule in ingress.rules() {
        let service = rule.service.to_string();
        assert_eq!(
            OriginService::parse(&service).as_ref(),
            Ok(&rule.service),
            "{service}"
        );
        let hostname = rule.hostname.to_string();
        assert_eq!(
            HostFilter::parse(&hostname).as_ref(),
            Ok(&rule.hostname),
            "{hostname}"
        );
    }
}

/// The rule for a request exists, passes it, and none before it does.
fn assert_found(ingress: &Ingress, host: &str, path: &str) {
    let (number, rule) = ingress.find(host, path);
    assert!(std::ptr::eq(rule, &ingress.rules()[number]));
    // Case and port make no difference.
    if !host.contains([':', '[', ']']) {
        for same in [host.to_ascii_uppercase(), format!("{host}:8443")] {
            assert_eq!(ingress.find(&same, path).0, number, "{same}");
        }
    }
    // Nor does the query.
    assert_eq!(ingress.find(host, &format!("{path}?x=/y")).0, number);
    match &rule.hostname {
        HostFilter::Any => {}
        HostFilter::Exact { written, ascii } => {
            for name in [written, ascii] {
                assert!(rule.hostname.matches(name));
                assert!(!rule.hostname.matches(&format!("x.{name}")));
            }
        }
        HostFilter::Below { written, ascii } => {
            for name in [written, ascii] {
                assert!(rule.hostname.matches(&format!("x{name}")));
                assert!(!rule.hostname.matches(name));
            }
        }
    }
    let last = ingress.rules().last().expect("never empty");
    assert!(last.hostname == HostFilter::Any && last.path.is_none());
}

/// The first line has hostname and path of a request. Each further line is a rule: hostname, path, service,
/// divided by spaces. A last rule for everything is added.
#[test]
fn ingress_rules() {
    let target = Target {
        name: "ingress_rules",
        memory: RULES,
        check: |input| {
            let text = String::from_utf8_lossy(input);
            let mut lines = text.lines();
            let (host, path) = lines
                .next()
                .unwrap_or_default()
                .split_once(' ')
                .unwrap_or_default();
            let rule = |line: &str| {
                let mut fields = line.splitn(3, ' ').map(str::to_owned);
                let mut next = || fields.next().unwrap_or_default();
                RuleText {
                    hostname: next(),
                    path: next(),
                    service: next(),
                    ..RuleText::default()
                }
            };
            let rules = lines.take(RULES_MAX).map(rule);
            let all = RuleText {
                service: "http_status:404".to_owned(),
                ..RuleText::default()
            };
            match Ingress::parse(&rules.chain([all]).collect::<Vec<_>>()) {
                Ok(ingress) => {
                    assert_rewritten(&ingress);
                    assert_found(&ingress, host, path);
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        },
    };
    run_slow(&target, 50);
}

/// Rules as `adit tunnel ingress validate --json` and control hold them.
#[test]
fn ingress_json() {
    run(&Target {
        name: "ingress_json",
        memory: RULES,
        check: |input| {
            if let Ok(read) = ingress_file::read_json(&String::from_utf8_lossy(input)) {
                assert_rewritten(&read.ingress);
                assert_found(&read.ingress, "app.example.com", "/a/b.jpg");
            }
        },
    });
}
