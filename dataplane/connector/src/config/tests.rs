//! Configurations as operators write them, and the words that tell what is wrong with one.

use std::path::PathBuf;

use adit_proto::error_chain::chain;
use adit_wire::TunnelId;
use adit_wire::token::TunnelToken;
use tempfile::TempDir;

use super::*;

const ID: &str = "11111111-2222-3333-4444-555555555555";
const CREDENTIALS: &str = r#"{"AccountTag":"acct","TunnelSecret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","TunnelID":"11111111-2222-3333-4444-555555555555","Endpoint":""}"#;

/// A folder with a `config.yml`.
struct Folder(TempDir);

impl Folder {
    fn new(config: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("config.yml", config);
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn flags(&self) -> Flags {
        Flags {
            config: Some(self.0.path().join("config.yml")),
            ..Flags::default()
        }
    }
}

/// Flags with what is always needed.
fn complete(folder: &Folder) -> Flags {
    Flags {
        tunnel: Some(ID.to_owned()),
        credentials_contents: Some(CREDENTIALS.to_owned()),
        edge: vec!["127.0.0.1:7844".to_owned()],
        ..folder.flags()
    }
}

fn token() -> String {
    let credentials = adit_wire::credentials::Credentials::parse(CREDENTIALS.as_bytes()).unwrap();
    let token = TunnelToken {
        account_tag: credentials.account_tag,
        secret: credentials.secret,
        tunnel_id: ID.parse().unwrap(),
        endpoint: String::new(),
    };
    token.encode()
}

fn error(flags: Flags) -> String {
    chain(&Config::resolve(flags).unwrap_err())
}

#[test]
fn a_file_alone_is_enough() {
    let folder = Folder::new("");
    let credentials = folder.write("tunnel.json", CREDENTIALS);
    folder.write(
        "config.yml",
        &format!(
            "tunnel: lab\ncredentials-file: {}\nedge: [\"127.0.0.1:1\", \"localhost:2\"]\nprotocol: quic\n\
             ha-connections: 2\ngrace-period: 1m\nmetrics: 127.0.0.1:0\nfeatures: [x]\n\
             ingress:\n- hostname: app.test\n  service: http://127.0.0.1:8000\n- service: http_status:404\n",
            credentials.display()
        ),
    );
    let config = Config::resolve(folder.flags()).unwrap();
    assert_eq!(config.identity.tunnel_id, ID.parse::<TunnelId>().unwrap());
    assert_eq!(config.edges, ["127.0.0.1:1", "localhost:2"]);
    assert_eq!(config.connections, 2);
    assert_eq!(config.grace_period, Duration::from_secs(60));
    assert_eq!(config.ingress.rules().len(), 2);
    assert_eq!(
        config.features,
        [
            "allow_remote_config",
            "serialized_headers",
            "support_quic_eof",
            "management_logs",
            "x"
        ]
    );
    assert_eq!(
        config.reported_flags.get("metrics").map(String::as_str),
        Some("127.0.0.1:0")
    );
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn a_flag_wins_over_the_file() {
    let folder = Folder::new("edge: [\"1.1.1.1:1\"]\nha-connections: 2\nretries: 3\n");
    let flags = Flags {
        ha_connections: Some(1),
        ..complete(&folder)
    };
    let config = Config::resolve(flags).unwrap();
    assert_eq!((config.connections, config.retries), (1, 3));
    assert_eq!(config.edges, ["127.0.0.1:7844"]);
}

#[test]
fn a_token_names_its_tunnel_and_may_lie_in_a_file() {
    let folder = Folder::new("");
    let file = folder.write("token", &format!("{}\n", token()));
    for (text, file) in [(Some(token()), None), (None, Some(file))] {
        let flags = Flags {
            token: text,
            token_file: file,
            tunnel: None,
            credentials_contents: None,
            ..complete(&folder)
        };
        let config = Config::resolve(flags).unwrap();
        assert_eq!(config.identity.tunnel_id.to_string(), ID);
        assert!(config.warnings().is_empty());
    }
    let broken = Flags {
        token: Some("???".to_owned()),
        ..complete(&folder)
    };
    assert!(error(broken).starts_with("Provided Tunnel token is not valid.: "));
}

#[test]
fn credentials_are_found_beside_the_certificate() {
    let folder = Folder::new("");
    folder.write(&format!("{ID}.json"), CREDENTIALS);
    let flags = Flags {
        credentials_contents: None,
        origincert: Some(folder.0.path().join("cert.pem")),
        ..complete(&folder)
    };
    assert!(Config::resolve(flags).is_ok());
    let missing = Flags {
        credentials_contents: None,
        tunnel: Some(ID.replace('1', "9")),
        origincert: Some(folder.0.path().join("cert.pem")),
        ..complete(&folder)
    };
    assert!(error(missing).starts_with("tunnel credentials file not found"));
}

#[test]
fn broken_credentials_are_told_with_their_file() {
    let folder = Folder::new("");
    let broken = Flags {
        credentials_contents: None,
        credentials_file: Some(folder.write("lab.json", r#"{"AccountTag":"a"}"#)),
        ..complete(&folder)
    };
    let told = error(broken);
    assert!(told.contains("lab.json cannot be used: Invalid JSON"), "{told}");
    assert!(told.ends_with("has no TunnelSecret"), "{told}");
}

#[test]
fn a_name_needs_credentials_that_say_the_id() {
    let folder = Folder::new("");
    let named = Flags {
        tunnel: Some("lab".to_owned()),
        ..complete(&folder)
    };
    assert_eq!(
        Config::resolve(named.clone())
            .unwrap()
            .identity
            .tunnel_id
            .to_string(),
        ID
    );
    let old = Flags {
        credentials_contents: Some(CREDENTIALS.replace("TunnelID", "Other")),
        ..named
    };
    assert!(error(old).contains("must be the tunnel's id"));
}

#[test]
fn what_is_served_without_rules_comes_from_flags() {
    let folder = Folder::new("");
    let service = |flags: Flags| {
        let config = Config::resolve(flags).unwrap();
        (
            config.ingress.find("any", "/").1.service.to_string(),
            config.warnings().len(),
        )
    };
    let url = Flags {
        url: Some("http://localhost:9000".to_owned()),
        ..complete(&folder)
    };
    assert_eq!(service(url), ("http://localhost:9000".to_owned(), 0));
    let hello = Flags {
        hello_world: Some(true),
        ..complete(&folder)
    };
    assert_eq!(service(hello), ("hello_world".to_owned(), 0));
    let unix = Flags {
        unix_socket: Some("/run/a.sock".to_owned()),
        ..complete(&folder)
    };
    assert_eq!(service(unix), ("unix:/run/a.sock".to_owned(), 0));
    assert_eq!(service(complete(&folder)), ("http_status:503".to_owned(), 1));
}

#[test]
fn flags_about_origins_are_below_the_rules() {
    let folder = Folder::new("ingress:\n- service: http://a\n  originRequest:\n    connectTimeout: 3s\n");
    let mut flags = complete(&folder);
    flags.origin.connect_timeout = Some(Duration::from_secs(9));
    flags.origin.tls_timeout = Some(Duration::from_secs(9));
    let config = Config::resolve(flags).unwrap();
    let settings = &config.ingress.find("any", "/").1.settings;
    assert_eq!(settings.connect_timeout, Duration::from_secs(3));
    assert_eq!(settings.tls_timeout, Duration::from_secs(9));
}

#[test]
fn what_is_wrong_is_told() {
    let folder = Folder::new("");
    let base = || complete(&folder);
    let cases: [(Flags, &str); 8] = [
        (
            Flags {
                edge: Vec::new(),
                ..base()
            },
            "no edge address: give --edge HOST:PORT",
        ),
        (
            Flags {
                edge: vec!["edge".to_owned()],
                ..base()
            },
            "invalid value \"edge\" for edge",
        ),
        (
            Flags {
                tunnel: None,
                ..base()
            },
            "a tunnel is needed",
        ),
        (
            Flags {
                edge_ip_version: Some("5".to_owned()),
                ..base()
            },
            "invalid value \"5\" for edge-ip-version",
        ),
        (
            Flags {
                protocol: Some("x".to_owned()),
                ..base()
            },
            "invalid value \"x\" for protocol",
        ),
        (
            Flags {
                grace_period: Some(Duration::from_secs(181)),
                ..base()
            },
            "invalid value \"181s\" for grace-period: grace-period must be equal or less than 3m0s",
        ),
        (
            Flags {
                ha_connections: Some(0),
                ..base()
            },
            "invalid value \"0\" for ha-connections",
        ),
        (
            Flags {
                tag: vec!["a".to_owned()],
                ..base()
            },
            "invalid value \"a\" for tag",
        ),
    ];
    for (flags, expected) in cases {
        let text = error(flags);
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn a_wrong_origin_is_told_with_its_flag() {
    let folder = Folder::new("url: ftp://localhost:80\n");
    let told = error(complete(&folder));
    assert!(
        told.starts_with("Error validating origin URL: invalid value for url: "),
        "{told}"
    );
    assert!(told.contains("does not support ftp protocol"), "{told}");
    let folder = Folder::new("unix-socket: \"\"\n");
    let told = error(complete(&folder));
    assert!(
        told.starts_with("unix-socket cannot be used: unix: is an invalid address"),
        "{told}"
    );
}

#[test]
fn broken_files_are_told_and_unknown_keys_are_warnings() {
    let yaml = Folder::new("edge: [1");
    assert!(error(complete(&yaml)).contains("config.yml is not valid YAML: "));
    for (text, expected) in [
        ("retries: many\n", "expected int found string for retries"),
        (
            "ingress: [{service: http_status:9}]\n",
            "invalid HTTP status code: 9 (rule #1)",
        ),
        (
            "ingress: [{service: http://a, originRequest: {tlsTimeout: 3}}]\n",
            "invalid value \"3\" for tlsTimeout: it has no unit; for seconds write 3s",
        ),
    ] {
        let told = error(complete(&Folder::new(text)));
        assert!(
            told.ends_with(&format!("config.yml cannot be used: {expected}")),
            "{told}"
        );
    }
    let missing = Flags {
        config: Some("/nonexistent/config.yml".into()),
        ..Flags::default()
    };
    assert!(error(missing).starts_with("cannot read /nonexistent/config.yml"));
    let odd = Folder::new("ingres: []\nurl: http://a\n");
    let config = Config::resolve(complete(&odd)).unwrap();
    let expected = "unknown key in the configuration file: ingres (did you mean ingress?)";
    assert_eq!(config.warnings(), [expected]);
}

#[test]
fn secrets_are_not_shown() {
    let folder = Folder::new("");
    let shown = format!("{:?}", Config::resolve(complete(&folder)).unwrap());
    assert!(
        !shown.contains("AAECAw") && !shown.contains("[0, 1, 2, 3"),
        "{shown}"
    );
}

#[test]
fn rules_can_be_read_alone() {
    let folder = Folder::new("tunnel: a\ningress:\n- service: http_status:404\nwrong-key: 1\n");
    let read = ingress_file::find(folder.flags().config.as_deref()).unwrap();
    let read = read.rules().unwrap();
    assert_eq!(read.ingress.rules().len(), 1);
    assert_eq!(read.unused_keys, ["wrong-key"]);
    let json = ingress_file::read_json(r#"{"Ingress":[{"service":"http_status:404"}]}"#).unwrap();
    assert_eq!(json.ingress.rules().len(), 1);
    let none = ingress_file::read_json("{}").unwrap_err().to_string();
    assert_eq!(none, "The config file doesn't contain any ingress rules");
}

#[test]
fn cpus_are_written_in_three_ways_and_the_flag_wins() {
    for (written, wanted) in [("3", "3"), ("0-3,8", "0-3,8"), ("[\"2-3\", 0]", "2-3,0")] {
        let folder = Folder::new(&format!("cpus: {written}\n"));
        let config = Config::resolve(complete(&folder)).unwrap();
        assert_eq!(config.cpus.as_ref().unwrap().to_string(), wanted, "{written}");
        assert_eq!(config.core_count(), config.cpus.unwrap().len());
        let flags = Flags {
            cpus: Some("9".parse().unwrap()),
            cores: Some(1),
            ..complete(&folder)
        };
        assert_eq!(Config::resolve(flags).unwrap().cpus, Some("9".parse().unwrap()));
    }
    for (written, wanted) in [
        ("0,0", "invalid value \"0,0\" for cpus: CPU 0 is named twice"),
        ("[]", "for cpus: no CPU is named"),
        ("yes please", "is no CPU or range of CPUs, such as 0-3,8"),
        ("true", "expected int, string or list of them found bool for cpus"),
    ] {
        let told = error(complete(&Folder::new(&format!("cpus: {written}\n"))));
        assert!(told.contains(wanted), "{written}: {told}");
    }
}

#[test]
fn a_file_is_read_again_and_says_what_waits_for_the_next_start() {
    let folder = Folder::new("retries: 3\ningress: [{service: http_status:404}]\n");
    let config = Config::resolve(complete(&folder)).unwrap();
    folder.write(
        "config.yml",
        "retries: 4\nmetrics: a:1\ningress: [{service: http_status:410}]\noriginRequest: {connectTimeout: 1s}\n",
    );
    let reread = config.reread(true).map_err(|error| error.to_string()).unwrap();
    assert_eq!(reread.for_next_start, ["metrics", "retries"]);
    assert_eq!(
        reread.config.ingress.find("a", "/").1.service.to_string(),
        "http_status:410"
    );
    for (text, complaint) in [
        ("", "config.yml has become empty"),
        ("ingress: [", "config.yml is not valid YAML: "),
        (
            "ingress: [{service: x}]",
            "config.yml cannot be used: x is an invalid address",
        ),
    ] {
        folder.write("config.yml", text);
        let Err(error) = config.reread(true) else {
            panic!("{text} is not valid");
        };
        let told = chain(&error);
        assert!(told.contains(complaint), "{told}");
    }
}

#[test]
fn rules_that_a_change_would_lose_are_kept_and_the_slip_is_named() {
    let folder = Folder::new("ingress: [{service: http_status:404}]\n");
    let config = Config::resolve(complete(&folder)).unwrap();
    let refused = |text: &str| {
        folder.write("config.yml", text);
        let Err(error) = config.reread(true) else {
            panic!("{text} has no rules");
        };
        chain(&error)
    };
    for (text, complaint) in [
        (
            "ingres: [{service: http_status:410}]",
            "no ingress rules any more, and every visitor would get 503; unknown keys: ingres (did you mean ingress?)",
        ),
        (
            "ingress: []",
            "to serve nothing, say 'ingress: [{service: http_status:503}]'",
        ),
        ("retries: 3", "has no ingress rules any more"),
    ] {
        let told = refused(text);
        assert!(told.contains(complaint) && told.contains("config.yml"), "{told}");
    }
    assert!(config.reread(false).is_ok());
    folder.write("config.yml", "url: http://127.0.0.1:1");
    assert!(config.reread(true).is_ok());
}

#[test]
fn a_slip_fails_a_check_and_other_unknown_keys_do_not() {
    let rules = "ingress: [{service: http_status:404}]\n";
    let checked = |text: &str| {
        let config = Config::resolve(complete(&Folder::new(text))).unwrap();
        config.check().map_err(|error| chain(&error))
    };
    assert_eq!(checked(&format!("{rules}x-anchors: 1\n")), Ok(()));
    for (text, key) in [
        (format!("{rules}retires: 3\n"), "retires (did you mean retries?)"),
        (
            "ingress: [{service: http_status:404, orignRequest: {}}]\n".to_owned(),
            "orignRequest (did you mean originRequest?)",
        ),
        (
            format!("{rules}originRequest: {{noTlsVerify: true}}\n"),
            "noTlsVerify (did you mean noTLSVerify?)",
        ),
    ] {
        let told = checked(&text).unwrap_err();
        assert!(told.contains(key) && told.contains("config.yml"), "{told}");
    }
}
