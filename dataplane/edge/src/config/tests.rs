//! What operators write, rightly and wrongly.

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/adit/edge.yml"), text)
}

const FULL: &str = r#"
name: edge-1
colo: fra01
region: eu
location: Frankfurt
listeners:
  tunnel: "0.0.0.0:7844"
  tunnel-http2: ["0.0.0.0:7846"]
  http: ["0.0.0.0:80", {listen: "[::1]:8080", accept-proxy: true}]
  https: ["[::]:443"]
  tcp:
    - {listen: "[::]:2222", hostname: SSH.example.com}
    - {listen: "[::]:5432", hostname: db.example.com, accept-proxy: true, send-proxy: v2}
  admin: "127.0.0.1:9000"
certificates:
  - cert: tls/site.pem
    key: /keys/site.key
control:
  address: control.example:7443
  ca: ca.pem
  cert: edge.pem
  key: edge.key
state-dir: state
cores: 3
cpus: ["4-6", 9]
io: portable
limits:
  idle-timeout: 2m
  memory: 256MiB
  exchanges-per-address: 7
  connections-per-address: 8
  streams-per-connection: 9
  address-share: 10
  tunnel-share: 100
ejection: {failures-in-a-row: 3, share-percent: 30, time: 2s, time-max: 1m, slow-start: 0s}
passthrough: [mail.example.com, {hostname: "*.x.example.com", send-proxy: v1}]
trusted-proxies: ["10.0.0.0/8", "2001:db8::/32"]
access-log: access.log
grace-period: 1500ms
"#;

#[test]
fn every_key_is_understood_and_paths_count_from_the_file() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.listeners.tunnel_http2, ["0.0.0.0:7846".parse().unwrap()]);
    assert_eq!(config.listeners.http.len(), 2);
    assert_eq!(config.listeners.https.len(), 1);
    let accepts: Vec<_> = config
        .listeners
        .http
        .iter()
        .map(|entry| entry.accepts_proxy)
        .collect();
    assert_eq!(accepts, [false, true]);
    let raw: Vec<_> = config
        .listeners
        .tcp
        .iter()
        .map(|entry| (entry.accepts_proxy, entry.sends_proxy))
        .collect();
    assert_eq!(raw, [(false, None), (true, Some(Version::V2))]);
    let passed = |name: &str| config.passthrough.get(&name.parse().unwrap());
    assert_eq!(passed("mail.example.com"), Some(None));
    assert_eq!(passed("a.b.x.example.com"), Some(Some(Version::V1)));
    assert_eq!(passed("x.example.com"), None);
    assert_eq!(config.listeners.tcp[0].listen.port(), 2222);
    assert_eq!(config.listeners.tcp[0].hostname.as_str(), "ssh.example.com");
    assert_eq!(config.certificates[0].cert, Path::new("/etc/adit/tls/site.pem"));
    assert_eq!(config.certificates[0].key, Path::new("/keys/site.key"));
    assert_eq!(config.state_dir, Path::new("/etc/adit/state"));
    assert_eq!((config.cores, config.core_count()), (Some(3), 3));
    assert_eq!(config.cpus, Some("4-6,9".parse().unwrap()));
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(120));
    assert_eq!(config.limits.response_head_timeout, Duration::from_secs(100));
    assert_eq!(config.limits.memory_bytes, 256 << 20);
    let shares = config.limits.shares;
    assert_eq!(
        (shares.exchanges_per_address, shares.connections_per_address),
        (7, 8)
    );
    assert_eq!(shares.streams_per_connection, 9);
    assert_eq!(
        (
            shares.address_share.as_percent(),
            shares.tunnel_share.as_percent()
        ),
        (10, 100)
    );
    assert_eq!(config.location, "Frankfurt");
    let expected = Ejection {
        failures_in_a_row: 3,
        share_percent: 30,
        time: Duration::from_secs(2),
        slow_start: Duration::ZERO,
        ..Ejection::default()
    };
    assert_eq!(config.ejection, expected);
}

#[test]
fn the_dump_is_a_file_with_the_same_meaning() {
    let odd = "control: {socket: \"\\u0317\\x07'.sock\"}";
    for text in [FULL, odd] {
        let config = parse(text).unwrap();
        let again = parse(&config.to_string()).unwrap();
        assert_eq!(again.to_string(), config.to_string());
    }
}

#[test]
fn a_short_file_gets_defaults() {
    let config = parse("control: {socket: edge.sock}").unwrap();
    assert_eq!(config.listeners.tunnel.port(), 7844);
    assert_eq!(config.listeners.tunnel_http2, [config.listeners.tunnel]);
    assert_eq!(config.location, config.colo);
    assert_eq!(config.limits.shares.connections_per_address, 10_000);
    assert!(config.access_log.is_none());
}

#[test]
fn connectors_over_http2_are_welcome_where_those_over_quic_are_unless_said_otherwise() {
    for (listeners, expected) in [
        ("tunnel: '127.0.0.1:9'", vec!["127.0.0.1:9"]),
        ("tunnel: '127.0.0.1:0'", vec!["127.0.0.1:0"]),
        ("tunnel-http2: []", vec![]),
        (
            "tunnel-http2: ['127.0.0.1:1', '[::1]:2']",
            vec!["127.0.0.1:1", "[::1]:2"],
        ),
    ] {
        let config = parse(&format!("listeners: {{{listeners}}}\ncontrol: {{socket: s}}")).unwrap();
        let found: Vec<_> = config
            .listeners
            .tunnel_http2
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn cpus_are_a_number_a_text_or_a_list_and_say_how_many_cores() {
    for (written, wanted, count) in [
        ("3", "3", 1),
        ("0-3,8", "0-3,8", 5),
        ("\"0\"", "0", 1),
        ("[0, 1]", "0-1", 2),
        ("[\"2-3\", 0]", "2-3,0", 3),
        ("\"0-999\"", "0-999", 256),
    ] {
        let config = parse(&format!("control: {{socket: s}}\ncpus: {written}")).unwrap();
        assert_eq!(config.cpus.as_ref().unwrap().to_string(), wanted, "{written}");
        assert_eq!(config.core_count(), count, "{written}");
        let again = parse(&config.to_string()).unwrap();
        assert_eq!(again.cpus, config.cpus);
    }
    let both = parse("control: {socket: s}\ncores: 1\ncpus: [0, 1]").unwrap();
    assert_eq!(both.core_count(), 1);
}

#[test]
fn cpus_that_cannot_be_used_are_named_with_the_file_and_the_key() {
    let one = Cpus::allowed().first(1);
    for (text, wanted) in [
        (
            format!("cores: 2\ncpus: \"{one}\""),
            format!("cpus: 2 cores need as many CPUs, and {one} is only 1"),
        ),
        (
            "cpus: 1023".into(),
            "cpus: CPU 1023 is not one of this machine, which has ".into(),
        ),
    ] {
        let config = parse(&format!("control: {{socket: s}}\n{text}")).unwrap();
        let told = config.check().unwrap_err().to_string();
        assert!(
            told.starts_with(&format!("/etc/adit/edge.yml: {wanted}")),
            "{told}"
        );
    }
    let fits = parse(&format!("control: {{socket: s}}\ncpus: \"{one}\"")).unwrap();
    fits.check().unwrap();
}

#[test]
fn mistakes_name_the_file_the_key_and_the_fix() {
    let cases = [
        ("controll: {socket: s}", "did you mean \"control\""),
        (
            "listeners: {htttp: []}\ncontrol: {socket: s}",
            "did you mean \"http\"",
        ),
        (
            "limits: {zzz: 1}\ncontrol: {socket: s}",
            "known keys here: idle-timeout",
        ),
        ("", "control: give either socket"),
        ("control: {socket: s, ca: c}", "control: give either socket"),
        ("control: {socket: s}\ncores: 0", "cores: 0 is not between 1"),
        ("control: {socket: s}\ncpus: 3-1", "cpus: the range \"3-1\" ends"),
        ("control: {socket: s}\ncpus: [0, 0]", "cpus: CPU 0 is named twice"),
        ("control: {socket: s}\ncpus: []", "cpus: no CPU is named"),
        (
            "control: {socket: s}\ncpus: {a: 1}",
            "cpus must be a CPU, a text such as",
        ),
        ("control: {socket: s}\nio: fast", "io: "),
        ("control: {socket: s}\nname: 'a b'", "name: "),
        ("control: {socket: s}\ngrace-period: fast", "grace-period: "),
        (
            "control: {socket: s}\nlisteners: {admin: nine}",
            "listeners.admin: ",
        ),
        (
            "control: {socket: s}\ntrusted-proxies: [10.0.0.0/99]",
            "trusted-proxies: ",
        ),
        ("control: {socket: s}\nlimits: {memory: 1KiB}", "limits.memory: "),
        (
            "control: {socket: s}\nlimits: {exchanges-per-address: 0}",
            "limits.exchanges-per-address: must be at least 1",
        ),
        (
            "control: {socket: s}\nlimits: {streams-per-connection: 0}",
            "limits.streams-per-connection: 0 is not between",
        ),
        (
            "control: {socket: s}\nlimits: {address-share: 101}",
            "limits.address-share: 101 is not a share",
        ),
        (
            "control: {socket: s}\nejection: {share-percent: 101}",
            "ejection.share-percent: 101 is not between 0 and 100",
        ),
        (
            "control: {socket: s}\nejection: {time: 2m, time-max: 1m}",
            "ejection.time-max: 60s is shorter than ejection.time, 120s",
        ),
        ("control: [", "/etc/adit/edge.yml"),
        ("- 1", "/etc/adit/edge.yml"),
    ];
    assert_told(&cases);
}

#[test]
fn so_do_mistakes_about_raw_ports_passthrough_and_proxies() {
    let cases = [
        (
            "control: {socket: s}\nlisteners: {tcp: [{listen: '2222', hostname: a.test}]}",
            "listeners.tcp: \"2222\" is not ADDRESS:PORT",
        ),
        (
            "control: {socket: s}\nlisteners: {tcp: [{listen: '[::]:22', hostname: '*.a.test'}]}",
            "listeners.tcp: hostname \"*.a.test\": ",
        ),
        (
            "control: {socket: s}\nlisteners: {tcp: [{listen: '[::]:22', hostname: a.test}, {listen: '[::]:22', hostname: b.test}]}",
            "listeners.tcp: [::]:22 is listed twice",
        ),
        (
            "control: {socket: s}\nlisteners: {tcp: [{listen: '[::]:22', host: a.test}]}",
            "did you mean \"hostname\"",
        ),
        (
            "control: {socket: s}\nlisteners: {https: [{listen: '[::]:443', accept-proxy: true}]}",
            "listeners.https: accept-proxy believes only trusted-proxies",
        ),
        (
            "control: {socket: s}\nlisteners: {https: [{listen: '[::]:443', acept-proxy: true}]}",
            "or {listen: ADDRESS, accept-proxy: true}",
        ),
        (
            "control: {socket: s}\nlisteners: {tcp: [{listen: '[::]:22', hostname: a.test, send-proxy: v3}]}",
            "listeners.tcp: send-proxy: \"v3\" is neither v1 nor v2",
        ),
        (
            "control: {socket: s}\npassthrough: ['a b']",
            "passthrough: \"a b\": ",
        ),
        (
            "control: {socket: s}\npassthrough: [a.test, A.test]",
            "passthrough: \"A.test\" is listed twice",
        ),
        (
            "control: {socket: s}\npassthrough: [{hostname: a.test, sendproxy: v1}]",
            "or {hostname: NAME, send-proxy: v2}",
        ),
        (
            "control: {socket: s}\nlisteners: {https: []}\npassthrough: [a.test]",
            "passthrough: listeners.https is empty",
        ),
    ];
    assert_told(&cases);
}

fn assert_told(cases: &[(&str, &str)]) {
    for (text, wanted) in cases {
        let told = parse(text).unwrap_err().to_string();
        assert!(told.starts_with("/etc/adit/edge.yml"), "{told}");
        assert!(told.contains(wanted), "{text:?}: {told}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_key_and_without_the_words_of_a_library() {
    for (text, wanted) in [
        (
            "limits:\n  visitor-connections: many\n",
            "limits.visitor-connections: a whole number is needed at line 2",
        ),
        ("cores: two\n", "cores: a whole number is needed at line 1"),
        ("tunnels-on-https: maybe\n", "tunnels-on-https: "),
        ("certificates: [{cert: a}]\n", "certificates[0]"),
        ("name: a\nname: b\n", "duplicate mapping key: name"),
        (
            "grace-period: 30\n",
            "grace-period: \"30\" has no unit; for seconds write 30s",
        ),
        (
            "grace-period: 2h\n",
            "grace-period: \"2h\" is not from 0s to 3600s",
        ),
        (
            "limits: {memory: 512}\n",
            "limits.memory: \"512\" is less than 64MiB; without a unit",
        ),
        ("limits: {memory: 1GB}\n", "write a number with KiB, MiB or GiB"),
    ] {
        let told = parse(&format!("{text}control: {{socket: a.sock}}\n")).unwrap_err();
        let told = told.to_string();
        assert!(told.contains(wanted), "{text}: {told}");
        for foreign in ["u64", "usize", "Policy", "Option"] {
            assert!(!told.contains(foreign), "{text}: {told}");
        }
    }
}
