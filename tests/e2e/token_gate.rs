//! Rules that only tokens open: the key `access`.

use std::path::Path;
use std::time::SystemTime;

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::SiteSettings;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example.test";

/// Signs tokens.
struct Issuer {
    name: &'static str,
    key: RsaKeyPair,
}

impl Issuer {
    fn new(name: &'static str) -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("randomness");
        Self { name, key }
    }

    /// Writes the set of keys with its key alone.
    fn publish(&self, file: &Path) {
        let public: RsaPublicKeyComponents<Vec<u8>> = self.key.public_key().into();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let keys = json!({"keys": [{
            "kty": "RSA", "kid": self.name, "alg": "RS256", "use": "sig", "n": encode(&public.n), "e": encode(&public.e),
        }]});
        std::fs::write(file, keys.to_string()).expect("a file in the temp dir");
    }

    fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "RS256", "kid": self.name, "typ": "JWT"});
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    elapsed.expect("a clock after 1970").as_secs()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": ["tag"], "exp": now() + 600, "sub": "somebody"})
}

/// One rule that nobody's tokens open, two that those of the issuer do, and an open one.
fn rules(publisher: &Nginx, origin: &Scripted) -> String {
    let access = format!(
        "{{access: {{required: true, issuer: '{ISSUER}', certsUrl: '{}/certs', audTag: [tag]}}}}",
        publisher.url()
    );
    format!(
        "  - hostname: closed.example.test\n    service: {url}\n    originRequest: {{access: {{required: true}}}}\n  \
         - hostname: service.example.test\n    service: tcp://{address}\n    originRequest: {access}\n  \
         - hostname: open.example.test\n    service: http_status:418\n  \
         - service: {url}\n    originRequest: {access}\n",
        url = origin.url(),
        address = origin.address(),
    )
}

fn only_good_tokens_pass(io: IoMode) {
    let (publisher, origin, site) = (
        Nginx::start(),
        Scripted::start(),
        SiteSettings::new(io)
            .edge_lines("trusted-proxies: ['127.0.0.1/32']\n")
            .start(),
    );
    let file = publisher.root().join("certs");
    let (first, second) = (Issuer::new("first"), Issuer::new("second"));
    first.publish(&file);
    let tunnel = site.tunnel("lab");
    for host in ["closed.example.test", "service.example.test", "open.example.test"] {
        site.control.route(&tunnel, host);
    }
    let connector = site
        .connector(&tunnel)
        .ingress(&rules(&publisher, &origin))
        .start();
    connector.wait_connections(4);
    site.wait_served();
    let with = |token: &str| {
        let visit = site
            .visit("/seen")
            .header(&format!("Cf-Access-Jwt-Assertion: {token}"));
        visit.run().status
    };
    assert_eq!(site.visit("/seen").run().status, 403);
    assert_eq!(with("nonsense"), 403);
    assert_eq!(with(&second.sign(&claims())), 403);
    assert_eq!(origin.requests(), 0, "nothing has reached the origin");
    assert_eq!(with(&first.sign(&claims())), 200);
    for (claim, value) in [
        ("iss", json!("https://other.test")),
        ("aud", json!(["other"])),
        ("exp", json!(now() - 1)),
    ] {
        let mut claims = claims();
        claims[claim] = value;
        assert_eq!(with(&first.sign(&claims)), 403, "{claim}");
    }
    assert_eq!(origin.requests(), 1);
    let other = |host: &str, token: &str| {
        let visit = site
            .visit_host(host, "/")
            .header(&format!("Cf-Access-Jwt-Assertion: {token}"));
        deadline::until("an answer of the connector", deadline::STEP, || {
            let answer = site.visit_host(host, "/").run();
            (!adit_tests::site::is_error_page(&answer)).then_some(())
        });
        visit.run().status
    };
    let good = first.sign(&claims());
    assert_eq!(
        other("closed.example.test", &good),
        403,
        "nobody's tokens are good"
    );
    assert_eq!(other("service.example.test", "nonsense"), 403);
    assert_ne!(other("service.example.test", &good), 403);
    assert_eq!(other("open.example.test", ""), 418);

    // The issuer changes its key: tokens of the new one pass, those of the old one no longer.
    second.publish(&file);
    let token = second.sign(&claims());
    deadline::until_true("the new key to count", deadline::STEP, || with(&token) == 200);
    deadline::until_true("the old key to be forgotten", deadline::STEP, || {
        with(&good) == 403
    });
}

adit_tests::in_both_modes!(only_good_tokens_pass);
