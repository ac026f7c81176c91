//! The QUIC settings of both ends, as the product makes them; one certificate for all worlds.
//!
//! Ed25519, whose signatures have one length, so that a seed sends the same number of bytes each time. Of key
//! exchanges and ciphers only the cheapest are offered: those for quantum computers, or with a longer hash,
//! take most of a short world's time, and change nothing else.

use std::sync::{Arc, OnceLock};

use adit_driver::core::{CoreContext, CoreId};
use adit_driver::kernel::IoMode;
use adit_driver::quic::{
    ClientConfig, EndpointOptions, ResetKey, ServerConfig, TransportSettings, WindowBudget, client_config,
    endpoint_config, server_config,
};
use adit_proto::limits::{IDLE_PING_INTERVAL, IDLE_PING_INTERVAL_MAX, SILENCE_MAX, idle_timeout};
use adit_wire::alpn;
use quinn_proto::EndpointConfig;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::clock::ms;

/// The name in the edge's certificate.
pub(super) const NAME: &str = "edge.test";

/// Whose connector it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    /// One that may be silent, and is asked when something is due.
    Ours,
    /// One that speaks every second, and counts silence as loss.
    Stock,
}

/// Settings of all ends.
pub(super) struct Keys {
    pub(super) server: ServerConfig,
    ours: ClientConfig,
    stock: ClientConfig,
}

impl Keys {
    pub(super) fn client(&self, make: Make) -> quinn_proto::ClientConfig {
        match make {
            Make::Ours => self.ours.usual(),
            Make::Stock => self.stock.usual(),
        }
    }
}

/// Made once per process: a key and a configuration cost more than a world.
pub(super) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(make)
}

/// What an endpoint is told. The key for resets is what an edge keeps on its disk; a connector has none.
pub(super) fn endpoint(seed: u64, reset_key: Option<ResetKey>) -> EndpointConfig {
    let context = CoreContext {
        id: CoreId(0),
        count: 1,
        io: IoMode::Portable,
    };
    let mut options = EndpointOptions::new(context);
    options.reset_key = reset_key;
    let mut config = endpoint_config(&options);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    config.rng_seed(Some(bytes));
    config
}

fn make() -> Keys {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate").der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let mut server = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a key for the certificate");
    server.alpn_protocols = vec![alpn::ADIT.to_vec(), alpn::STOCK.to_vec()];
    let budget = WindowBudget::new(0);
    let settings = TransportSettings {
        idle_timeout: idle_timeout(IDLE_PING_INTERVAL_MAX),
        silence_max: SILENCE_MAX,
        peer_streams_max: 8,
        window_budget: budget.clone(),
        ..TransportSettings::default()
    };
    let client = |protocol: &[u8], settings: TransportSettings| {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        client_config(tls, &settings).expect("good settings")
    };
    let dialling = TransportSettings {
        idle_timeout: idle_timeout(IDLE_PING_INTERVAL),
        // A connector allows 4,096, and quinn-proto makes an entry for each: most of the time of a short
        // world.
        peer_streams_max: 64,
        window_budget: budget,
        silence_max: SILENCE_MAX,
        ..TransportSettings::default()
    };
    let stock = TransportSettings {
        idle_timeout: SILENCE_MAX,
        keep_alive: Some(ms(1_000)),
        ..dialling.clone()
    };
    Keys {
        server: server_config(server, &settings).expect("good settings"),
        ours: client(alpn::ADIT, dialling),
        stock: client(alpn::STOCK, stock),
    }
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(provider)
}
