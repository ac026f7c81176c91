//! What the authority issues, checked with rustls' own verifiers.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{ServerName, UnixTime};

use super::*;

fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let params = CertificateParams::new(vec!["evil.test".into()]).unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

fn roots(pem: &str) -> Arc<rustls::RootCertStore> {
    let mut store = rustls::RootCertStore::empty();
    store
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    Arc::new(store)
}

fn as_server(root: &str, leaf: &str, name: &str) -> bool {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(root), provider)
        .build()
        .unwrap();
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier
        .verify_server_cert(&leaf, &[], &name, &[], UnixTime::now())
        .is_ok()
}

fn as_client(root: &str, leaf: &str) -> bool {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(root), provider)
        .build()
        .unwrap();
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    verifier.verify_client_cert(&leaf, &[], UnixTime::now()).is_ok()
}

#[test]
fn a_tunnel_certificate_has_the_three_names_and_nothing_from_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(dir.path()).unwrap();
    let issued = ca
        .issue_tunnel(&request(&PKCS_ECDSA_P256_SHA256), SystemTime::now())
        .unwrap();
    for name in TUNNEL_NAMES {
        assert!(as_server(&issued.root_pem, &issued.chain_pem, name), "{name}");
    }
    assert!(!as_server(&issued.root_pem, &issued.chain_pem, "evil.test"));
    assert!(!as_server(&issued.root_pem, &issued.chain_pem, CONTROL_TLS_NAME));
    assert!(
        !as_client(&issued.root_pem, &issued.chain_pem),
        "a tunnel certificate must not attach as an edge"
    );
}

#[test]
fn link_certificates_serve_their_own_end_only() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(dir.path()).unwrap();
    let edge = ca.issue_edge_link("edge-1", SystemTime::now()).unwrap();
    let control = ca.issue_control_link(SystemTime::now()).unwrap();
    assert!(as_client(ca.root_pem(), &edge.certificate_pem));
    assert!(!as_server(ca.root_pem(), &edge.certificate_pem, CONTROL_TLS_NAME));
    assert!(as_server(
        ca.root_pem(),
        &control.certificate_pem,
        CONTROL_TLS_NAME
    ));
    assert!(!as_client(ca.root_pem(), &control.certificate_pem));
    let der = CertificateDer::from_pem_slice(edge.certificate_pem.as_bytes()).unwrap();
    assert_eq!(common_name(&der).as_deref(), Some("edge-1"));
}

#[test]
fn bad_requests_and_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::open(dir.path()).unwrap();
    let mut broken = request(&PKCS_ECDSA_P256_SHA256);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    for bad in [
        Vec::new(),
        vec![0x30; 100],
        vec![0; REQUEST_BYTES_MAX + 1],
        broken,
        request(&rcgen::PKCS_ED25519),
    ] {
        assert!(matches!(
            ca.issue_tunnel(&bad, SystemTime::now()),
            Err(CaError::Request { .. })
        ));
    }
    for name in ["", "a b", "a/b", &"x".repeat(65)] {
        assert!(
            matches!(
                ca.issue_edge_link(name, SystemTime::now()),
                Err(CaError::EdgeName { .. })
            ),
            "{name}"
        );
    }
}

#[test]
fn the_root_survives_a_restart_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let first = Ca::open(dir.path()).unwrap();
    let mode = |file: &str| dir.path().join(file).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca-key.pem"), mode("ca.pem")), (0o600, 0o644));
    let again = Ca::open(dir.path()).unwrap();
    assert_eq!(first.root_pem(), again.root_pem());
    let edge = again.issue_edge_link("edge-1", SystemTime::now()).unwrap();
    assert!(as_client(first.root_pem(), &edge.certificate_pem));
}

#[test]
fn two_authorities_are_told_apart_by_name() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = |dir: &tempfile::TempDir| {
        let ca = Ca::open(dir.path()).unwrap();
        common_name(&CertificateDer::from_pem_slice(ca.root_pem().as_bytes()).unwrap()).unwrap()
    };
    assert!(name(&dir).starts_with("adit private CA "), "{}", name(&dir));
    assert_eq!(name(&dir), name(&dir));
    assert_ne!(name(&dir), name(&other));
}

#[test]
fn lost_and_swapped_keys_are_told_plainly() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Ca::open(dir.path()).unwrap();
    Ca::open(other.path()).unwrap();
    std::fs::copy(other.path().join("ca-key.pem"), dir.path().join("ca-key.pem")).unwrap();
    assert!(matches!(Ca::open(dir.path()), Err(CaError::Mismatch { .. })));
    std::fs::remove_file(dir.path().join("ca-key.pem")).unwrap();
    assert!(matches!(Ca::open(dir.path()), Err(CaError::KeyMissing { .. })));
    std::fs::write(dir.path().join("ca-key.pem"), "-----BEGIN PRIVATE KEY-----\ncut").unwrap();
    let told = Ca::open(dir.path()).err().unwrap().to_string();
    assert!(told.contains("ca-key.pem holds no usable private key"), "{told}");
    std::fs::remove_file(other.path().join("ca.pem")).unwrap();
    assert!(
        Ca::open(other.path()).is_ok(),
        "a key alone is what an early kill leaves"
    );
}
