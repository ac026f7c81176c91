//! The flags of `adit tunnel`, compatible with cloudflared's: names, aliases and environment variables.
//!
//! Flags that cloudflared accepts and ignores are accepted and ignored here as well, so that a command
//! line or a unit file keeps working. Order: what is served, how the edge is reached, logs, the rest.

use super::flag::Flag;

/// Headings of the help text.
const API: &str = "Control and credentials";
const ORIGIN: &str = "What is served";
const EDGE: &str = "How edges are reached";
const PROCESS: &str = "The process";
const LOGS: &str = "Logs, metrics and readiness";
const AD_HOC: &str = "Quick and ad hoc tunnels";

/// Accepted before `tunnel`, between `tunnel` and its command, and after the command.
pub(crate) const TUNNEL_FLAGS: &[Flag] = &[
    Flag::text("config", "Path of config.yml").under(PROCESS),
    Flag::text(
        "origincert",
        "Path of cert.pem, the credential of the control API",
    )
    .env(&["TUNNEL_ORIGIN_CERT"])
    .under(API),
    Flag::text("api-url", "Address of the control API")
        .env(&["TUNNEL_API_URL"])
        .under(API),
    Flag::text("credentials-file", "Path of the tunnel's credentials file")
        .alias(&["cred-file"])
        .env(&["TUNNEL_CRED_FILE"])
        .under(API),
    // What is served.
    Flag::text("url", "Origin to serve")
        .env(&["TUNNEL_URL"])
        .under(ORIGIN),
    Flag::switch("hello-world", "Serve a built-in page")
        .env(&["TUNNEL_HELLO_WORLD"])
        .under(ORIGIN),
    Flag::text("unix-socket", "Unix socket of the origin")
        .env(&["TUNNEL_UNIX_SOCKET"])
        .under(ORIGIN),
    Flag::switch("bastion", "Let the visitor choose the destination")
        .env(&["TUNNEL_BASTION"])
        .under(ORIGIN),
    Flag::switch("socks5", "Serve a SOCKS5 proxy")
        .env(&["TUNNEL_SOCKS"])
        .under(ORIGIN),
    Flag::text("proxy-address", "Address of the built-in proxy")
        .env(&["TUNNEL_PROXY_ADDRESS"])
        .hide(),
    Flag::text("proxy-port", "Port of the built-in proxy")
        .env(&["TUNNEL_PROXY_PORT"])
        .hide(),
    Flag::text(
        "proxy-connect-timeout",
        "Limit for connecting to the origin, 30s by default",
    )
    .under(ORIGIN),
    Flag::text(
        "proxy-tls-timeout",
        "Limit for the origin's TLS handshake, 10s by default",
    )
    .under(ORIGIN),
    Flag::text(
        "proxy-tcp-keepalive",
        "TCP keep-alive towards the origin, 30s by default",
    )
    .under(ORIGIN),
    Flag::text(
        "proxy-keepalive-timeout",
        "How long an idle origin connection is kept, 90s by default",
    )
    .under(ORIGIN),
    Flag::text(
        "proxy-keepalive-connections",
        "How many idle origin connections are kept, 100 by default",
    )
    .under(ORIGIN),
    Flag::switch(
        "proxy-no-happy-eyeballs",
        "Do not race IPv4 and IPv6 towards the origin",
    )
    .under(ORIGIN),
    Flag::text("http-host-header", "Host header sent to the origin")
        .env(&["TUNNEL_HTTP_HOST_HEADER"])
        .under(ORIGIN),
    Flag::text("origin-server-name", "TLS server name expected of the origin")
        .env(&["TUNNEL_ORIGIN_SERVER_NAME"])
        .under(ORIGIN),
    Flag::text("origin-ca-pool", "Certificates that may sign the origin's")
        .env(&["TUNNEL_ORIGIN_CA_POOL"])
        .under(ORIGIN),
    Flag::switch("no-tls-verify", "Accept any certificate of the origin")
        .env(&["NO_TLS_VERIFY"])
        .under(ORIGIN),
    Flag::switch(
        "no-chunked-encoding",
        "Send Content-Length to the origin instead of chunks",
    )
    .env(&["TUNNEL_NO_CHUNKED_ENCODING"])
    .under(ORIGIN),
    Flag::switch("http2-origin", "Speak HTTP/2 to an https origin")
        .env(&["TUNNEL_ORIGIN_ENABLE_HTTP2"])
        .under(ORIGIN),
    // How the edge is reached.
    Flag::list("edge", "Edge address host:port; one connection per value")
        .env(&["TUNNEL_EDGE"])
        .under(EDGE),
    Flag::text("cacert", "Certificates that may sign the edge's")
        .env(&["TUNNEL_CACERT"])
        .under(EDGE),
    Flag::text("region", "Accepted for compatibility")
        .env(&["TUNNEL_REGION"])
        .hide(),
    Flag::text("edge-ip-version", "4, 6 or auto")
        .env(&["TUNNEL_EDGE_IP_VERSION"])
        .under(EDGE),
    Flag::text("edge-bind-address", "Local address for connections to the edge")
        .env(&["TUNNEL_EDGE_BIND_ADDRESS"])
        .under(EDGE),
    Flag::text("protocol", "quic, http2, or auto for whichever gets through")
        .short('p')
        .env(&["TUNNEL_TRANSPORT_PROTOCOL"])
        .under(EDGE),
    Flag::text(
        "edge-proxy",
        "Proxy towards edges, http:// or socks5://, for http2; HTTPS_PROXY by default (Adit only)",
    )
    .env(&["TUNNEL_EDGE_PROXY"])
    .under(EDGE),
    Flag::text("ha-connections", "Connections to the edge, 4 by default").under(EDGE),
    Flag::text(
        "ready-connections",
        "Connections that /ready and `tunnel ready` ask for, 1 by default (Adit only)",
    )
    .under(LOGS),
    Flag::text(
        "ready-locations",
        "Locations of edges that they ask for, 1 by default (Adit only)",
    )
    .under(LOGS),
    Flag::text(
        "retries",
        "How often the pause between attempts doubles, 5 times by default",
    )
    .env(&["TUNNEL_RETRIES"])
    .under(EDGE),
    Flag::text(
        "max-edge-addr-retries",
        "Dials over quic that may fail before http2 is tried, 2 by default",
    )
    .hide(),
    Flag::text("rpc-timeout", "Limit for a call to the edge, 5s by default").hide(),
    Flag::text("write-stream-timeout", "Limit for one write to a stream")
        .env(&["TUNNEL_STREAM_WRITE_TIMEOUT"])
        .hide(),
    Flag::text("dial-edge-timeout", "Limit for connecting to an edge")
        .env(&["DIAL_EDGE_TIMEOUT"])
        .hide(),
    Flag::switch("quic-disable-pmtu-discovery", "Keep the initial packet size")
        .env(&["TUNNEL_DISABLE_QUIC_PMTU"])
        .hide(),
    Flag::text(
        "quic-connection-level-flow-control-limit",
        "Bytes in flight per connection",
    )
    .env(&["TUNNEL_QUIC_CONN_LEVEL_FLOW_CONTROL_LIMIT"])
    .hide(),
    Flag::text(
        "quic-stream-level-flow-control-limit",
        "Bytes in flight per stream",
    )
    .env(&["TUNNEL_QUIC_STREAM_LEVEL_FLOW_CONTROL_LIMIT"])
    .hide(),
    Flag::switch("post-quantum", "Insist on a post-quantum key exchange")
        .alias(&["pq"])
        .env(&["TUNNEL_POST_QUANTUM"])
        .under(EDGE),
    Flag::text(
        "grace-period",
        "How long running exchanges may go on after SIGTERM, 30s by default",
    )
    .env(&["TUNNEL_GRACE_PERIOD"])
    .under(PROCESS),
    Flag::text(
        "idle-ping-interval",
        "How often an idle connection says so, 50s by default (Adit only)",
    )
    .under(EDGE),
    Flag::switch(
        "config-watch",
        "Reload the rules when the configuration file changes, true by default (Adit only)",
    )
    .under(PROCESS),
    Flag::list("tag", "NAME=VALUE told to the edge")
        .env(&["TUNNEL_TAG"])
        .hide(),
    Flag::text("label", "Name of this replica in listings").under(PROCESS),
    Flag::text(
        "io",
        "auto, uring or portable: how the kernel is asked (Adit only)",
    )
    .under(PROCESS),
    Flag::text("cores", "Number of cores to use, all by default (Adit only)").under(PROCESS),
    Flag::text(
        "cpus",
        "CPUs to pin them to, such as 0-3,8; the first ones by default (Adit only)",
    )
    .under(PROCESS),
    // Logs and metrics.
    Flag::text("loglevel", "debug, info, warn, error or fatal; info by default")
        .env(&["TUNNEL_LOGLEVEL"])
        .under(LOGS),
    Flag::text("transport-loglevel", "Level of the transport's own messages")
        .alias(&["proto-loglevel"])
        .env(&["TUNNEL_PROTO_LOGLEVEL", "TUNNEL_TRANSPORT_LOGLEVEL"])
        .under(LOGS),
    Flag::text("logfile", "Also write the log to this file, as JSON lines")
        .env(&["TUNNEL_LOGFILE"])
        .under(LOGS),
    Flag::text("log-directory", "Also write the log to a file in this directory")
        .env(&["TUNNEL_LOGDIRECTORY"])
        .under(LOGS),
    Flag::text("output", "Format of the log: default or json")
        .env(&["TUNNEL_MANAGEMENT_OUTPUT", "TUNNEL_LOG_OUTPUT"])
        .under(LOGS),
    Flag::text("metrics", "Where /metrics and /ready are served")
        .env(&["TUNNEL_METRICS"])
        .under(LOGS),
    Flag::text("metrics-update-freq", "Accepted for compatibility")
        .env(&["TUNNEL_METRICS_UPDATE_FREQ"])
        .hide(),
    Flag::text("pidfile", "Written after the first registration")
        .env(&["TUNNEL_PIDFILE"])
        .under(PROCESS),
    Flag::text("addresses-file", "Written with the addresses listened on").hide(),
    // Quick and ad hoc tunnels, and routes.
    Flag::text("quick-service", "Control that gives `tunnel --url URL` a tunnel")
        .env(&["TUNNEL_QUICK_SERVICE"])
        .under(AD_HOC),
    Flag::text("name", "Name of the tunnel to create, route and run")
        .short('n')
        .env(&["TUNNEL_NAME"])
        .under(AD_HOC),
    Flag::text("hostname", "Hostname to route to the tunnel")
        .env(&["TUNNEL_HOSTNAME"])
        .under(AD_HOC),
    Flag::text(
        "lb-pool",
        "Not here: hostnames lead to tunnels, whose replicas share the load",
    )
    .env(&["TUNNEL_LB_POOL"])
    .hide(),
    Flag::switch("overwrite-dns", "Take a hostname over from another tunnel")
        .short('f')
        .env(&["TUNNEL_FORCE_PROVISIONING_DNS"])
        .under(AD_HOC),
    Flag::text("max-fetch-size", "Results per page of a listing")
        .env(&["TUNNEL_MAX_FETCH_SIZE"])
        .hide(),
    // Accepted, without effect here.
    Flag::switch("no-autoupdate", "Accepted for compatibility")
        .env(&["NO_AUTOUPDATE"])
        .hide(),
    Flag::text("autoupdate-freq", "Accepted for compatibility").hide(),
    Flag::switch("is-autoupdated", "Accepted for compatibility").hide(),
    Flag::switch("no-prechecks", "Accepted for compatibility")
        .env(&["TUNNEL_NO_PRECHECKS"])
        .hide(),
    Flag::text(
        "management-hostname",
        "Host of requests for the management service",
    )
    .env(&["TUNNEL_MANAGEMENT_HOSTNAME"])
    .hide(),
    Flag::switch("management-diagnostics", "Accepted for compatibility")
        .env(&["TUNNEL_MANAGEMENT_DIAGNOSTICS"])
        .hide(),
    Flag::text(
        "service-op-ip",
        "IP:PORT; the way there tells this host's address",
    )
    .env(&["TUNNEL_SERVICE_OP_IP"])
    .hide(),
    Flag::text("trace-output", "Accepted for compatibility")
        .env(&["TUNNEL_TRACE_OUTPUT"])
        .hide(),
    Flag::text("compression-quality", "Accepted for compatibility")
        .env(&["TUNNEL_COMPRESSION_LEVEL"])
        .hide(),
    Flag::text("heartbeat-interval", "Accepted for compatibility").hide(),
    Flag::text("heartbeat-count", "Accepted for compatibility").hide(),
    Flag::switch("use-reconnect-token", "Accepted for compatibility").hide(),
    Flag::switch("stdin-control", "Accepted for compatibility")
        .env(&["STDIN_CONTROL"])
        .hide(),
    Flag::switch("proxy-dns", "Accepted for compatibility").hide(),
    Flag::switch("ui", "Accepted for compatibility").hide(),
    Flag::switch("ssh-server", "Accepted for compatibility").hide(),
    Flag::text("api-key", "Accepted for compatibility").hide(),
    Flag::text("api-email", "Accepted for compatibility").hide(),
    Flag::text("api-ca-key", "Accepted for compatibility").hide(),
    Flag::text("proxy-connection-timeout", "Accepted for compatibility").hide(),
    Flag::text("proxy-expect-continue-timeout", "Accepted for compatibility").hide(),
    Flag::text("local-ssh-port", "Accepted for compatibility").hide(),
    Flag::text("ssh-idle-timeout", "Accepted for compatibility").hide(),
    Flag::text("ssh-max-timeout", "Accepted for compatibility").hide(),
    Flag::text("bucket-name", "Accepted for compatibility").hide(),
    Flag::text("region-name", "Accepted for compatibility").hide(),
    Flag::text("secret-id", "Accepted for compatibility").hide(),
    Flag::text("access-key-id", "Accepted for compatibility").hide(),
    Flag::text("session-token", "Accepted for compatibility").hide(),
    Flag::text("s3-url-host", "Accepted for compatibility").hide(),
    Flag::text("host-key-path", "Accepted for compatibility").hide(),
];

/// What `tunnel run` takes besides [`TUNNEL_FLAGS`].
pub(crate) const RUN_FLAGS: &[Flag] = &[
    Flag::switch(
        "check",
        "Read and check the configuration, say OK or what is wrong, and exit (Adit only)",
    ),
    Flag::text("token", "Token of the tunnel").env(&["TUNNEL_TOKEN"]),
    Flag::text("token-file", "File that holds the token").env(&["TUNNEL_TOKEN_FILE"]),
    Flag::text("credentials-contents", "The credentials file's text").env(&["TUNNEL_CRED_CONTENTS"]),
    Flag::list("features", "Features offered to the edge")
        .short('F')
        .env(&["TUNNEL_FEATURES"]),
    Flag::text("icmpv4-src", "Source address of IPv4 pings")
        .env(&["TUNNEL_ICMPV4_SRC"])
        .hide(),
    Flag::text("icmpv6-src", "Source address of IPv6 pings")
        .env(&["TUNNEL_ICMPV6_SRC"])
        .hide(),
    Flag::text("max-active-flows", "Limit of concurrent private flows")
        .env(&["TUNNEL_MAX_ACTIVE_FLOWS"])
        .hide(),
    Flag::list("dns-resolver-addrs", "Resolvers for private names")
        .env(&["TUNNEL_DNS_RESOLVER_ADDRS"])
        .hide(),
];

const OUTPUT: Flag = Flag::text("output", "Render as json or yaml").short('o');
const RECENT: Flag = Flag::switch(
    "show-recently-disconnected",
    "Count connections waiting to reconnect",
)
.alias(&["rd"]);
const INVERT: Flag = Flag::switch("invert-sort", "Reverse the order");

/// What `tunnel create` takes.
pub(crate) const CREATE_FLAGS: &[Flag] = &[
    OUTPUT,
    Flag::text("secret", "Base64 of the tunnel's secret, at least 32 bytes")
        .short('s')
        .env(&["TUNNEL_CREATE_SECRET"]),
];

/// What `tunnel list` takes.
pub(crate) const LIST_FLAGS: &[Flag] = &[
    OUTPUT,
    RECENT,
    INVERT,
    Flag::switch("show-deleted", "Include deleted tunnels").short('d'),
    Flag::text("name", "Only the tunnel of this name").short('n'),
    Flag::text("name-prefix", "Only names that begin so").alias(&["np"]),
    Flag::text("exclude-name-prefix", "Only names that do not begin so").alias(&["enp"]),
    Flag::text("when", "Only tunnels that existed at this time (RFC 3339)")
        .alias(&["time"])
        .short('w'),
    Flag::text("id", "Only the tunnel with this id").short('i'),
    Flag::text("sort-by", "name, id, createdAt, deletedAt or numConnections"),
];

/// What `tunnel info` takes.
pub(crate) const INFO_FLAGS: &[Flag] = &[
    OUTPUT,
    RECENT,
    INVERT,
    Flag::text("sort-by", "id, createdAt, numConnections or version"),
];

/// What `tunnel delete` takes.
pub(crate) const DELETE_FLAGS: &[Flag] =
    &[Flag::switch("force", "Delete although connections are registered").short('f')];

/// What `tunnel cleanup` takes.
pub(crate) const CLEANUP_FLAGS: &[Flag] =
    &[Flag::text("connector-id", "Only the connections of this connector").short('c')];

/// What `tunnel ingress validate` and `rule` take.
pub(crate) const INGRESS_FLAGS: &[Flag] =
    &[Flag::text("json", "Rules as JSON text instead of a file").short('j')];

/// What `version` takes.
pub(crate) const VERSION_FLAGS: &[Flag] = &[Flag::switch("short", "Print the number only").short('s')];

/// Own flags of `diag`.
pub(crate) const DIAG_FLAGS: &[Flag] = &[
    Flag::text(
        "metrics",
        "Metrics address of the connector; without it, the one on a port from 20241 to 20245",
    ),
    Flag::text(
        "diag-container-id",
        "Container of the connector, whose logs are not collected",
    ),
    Flag::text(
        "diag-pod-id",
        "Pod of the connector, whose logs are not collected",
    ),
    Flag::switch("no-diag-logs", "Leave the log out"),
    Flag::switch("no-diag-metrics", "Leave the counters out"),
    Flag::switch("no-diag-system", "Leave the machine out"),
    Flag::switch("no-diag-runtime", "Accepted: there is nothing to leave out"),
    Flag::switch("no-diag-network", "Accepted: there is nothing to leave out"),
];
