//! Tokens, credentials files and origin certificates.

use adit_wire::credentials::Credentials;
use adit_wire::origin_cert::OriginCert;
use adit_wire::token::TunnelToken;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::engine::{MemoryBound, Target, run};

/// A tree of JSON values is many times the size of its text.
const JSON: MemoryBound = MemoryBound {
    base_bytes: 16 * 1024,
    factor: 256,
};

#[test]
fn token() {
    run(&Target {
        name: "token",
        memory: JSON,
        check: |input| {
            // As it stands, and with the mutated text as what is inside.
            for text in [
                String::from_utf8_lossy(input).into_owned(),
                STANDARD.encode(input),
            ] {
                if let Ok(token) = text.parse::<TunnelToken>() {
                    assert_eq!(
                        token
                            .encode()
                            .parse::<TunnelToken>()
                            .expect("our own token is valid"),
                        token
                    );
                }
            }
        },
    });
}

#[test]
fn credentials() {
    run(&Target {
        name: "credentials",
        memory: JSON,
        check: |input| {
            if let Ok(credentials) = Credentials::parse(input) {
                let again = Credentials::parse(credentials.to_json().as_bytes());
                assert_eq!(again.expect("our own file is valid"), credentials);
            }
        },
    });
}

#[test]
fn origin_cert() {
    run(&Target {
        name: "origin_cert",
        memory: JSON,
        check: |input| {
            let text = String::from_utf8_lossy(input).into_owned();
            let inside = format!(
                "-----BEGIN ARGO TUNNEL TOKEN-----\n{}\n-----END ARGO TUNNEL TOKEN-----\n",
                STANDARD.encode(input)
            );
            for text in [text, inside] {
                if let Ok(cert) = OriginCert::parse(&text) {
                    assert_eq!(
                        OriginCert::parse(&cert.to_pem()).expect("our own file is valid"),
                        cert
                    );
                }
            }
        },
    });
}
