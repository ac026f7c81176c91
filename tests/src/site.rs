//! One site as an operator has it: control, an edge, tunnels, and connectors beside origins. All are real
//! processes of the binary under test, in one temp dir, on loopback ports of their own.
//!
//! ```text
//! Site ── Control   state and REST; can be killed and started again on its ports
//!      ├─ Edge      public and tunnel listeners; likewise
//!      └─ tunnels ── Connector (ours or stock)
//! ```

pub mod control;
pub mod edge;
pub mod connector;

use std::path::{Path, PathBuf};

use adit_driver::kernel::IoMode;
use adit_proto::exchange::error_code::ErrorCode;
use tempfile::TempDir;

use self::connector::{ConnectorSettings, Credentials, Program};
use self::control::{Control, ControlSettings, Tunnel};
use self::edge::{ControlLink, Edge, EdgeSettings};
use crate::certificate::Certificate;
use crate::deadline;
use crate::visitor::curl::{Curl, Response};
use crate::visitor::h2load::Load;

/// The hostname most tests route.
pub const HOST: &str = "app.example.test";

/// The name of a site's edge.
pub const EDGE: &str = "edge1";

/// How a site is set up.
#[derive(Debug, Clone)]
pub struct SiteSettings {
    /// I/O mode of edge and connectors.
    pub io: IoMode,
    /// Cores of edge and connectors.
    pub cores: u16,
    /// The value of `listeners.tcp` in `edge.yml`; nothing when empty.
    pub tcp: String,
    /// Whether the edge's listeners for HTTP take PROXY headers.
    pub accepts_proxy: bool,
    /// Lines added to `edge.yml`.
    pub edge_lines: String,
    /// Lines added to `control.yml`.
    pub control_lines: String,
    /// Whether the edge attaches over TCP with mutual TLS, as from another machine.
    pub is_remote: bool,
}

/// A running site.
#[derive(Debug)]
pub struct Site {
    settings: SiteSettings,
    /// Its control.
    pub control: Control,
    /// Its edge.
    pub edge: Edge,
    /// The certificate of the public listeners, valid for [`HOST`] and `*.example.test`.
    pub certificate: Certificate,
    folder: TempDir,
}

impl SiteSettings {
    /// One core, nothing added.
    pub fn new(io: IoMode) -> Self {
        Self {
            io,
            cores: 1,
            tcp: String::new(),
            accepts_proxy: false,
            edge_lines: String::new(),
            control_lines: String::new(),
            is_remote: false,
        }
    }

    /// With an edge that attaches as from another machine.
    pub fn remote(self) -> Self {
        Self {
            control_lines: "edge-listen: {address: '127.0.0.1:0'}\n".to_owned(),
            is_remote: true,
            ..self
        }
    }

    /// With so many cores for edge and connectors.
    pub fn cores(self, cores: u16) -> Self {
        Self { cores, ..self }
    }

    /// With this list of raw ports, in YAML.
    pub fn tcp(self, list: &str) -> Self {
        Self {
            tcp: list.to_owned(),
            ..self
        }
    }

    /// With listeners for HTTP that take PROXY headers from `trusted`.
    pub fn accept_proxy(self, trusted: &str) -> Self {
        let edge_lines = format!("{}trusted-proxies: ['{trusted}']\n", self.edge_lines);
        Self {
            accepts_proxy: true,
            edge_lines,
            ..self
        }
    }

    /// With these lines at the end of `edge.yml`.
    pub fn edge_lines(self, lines: &str) -> Self {
        Self {
            edge_lines: lines.to_owned(),
            ..self
        }
    }

    /// Starts control and edge and waits until both listen.
    ///
    /// # Panics
    /// When one of them does not.
    #[track_caller]
    pub fn start(self) -> Site {
        let folder = tempfile::tempdir().expect("a temp dir");
        let control = Control::start(&ControlSettings {
            folder: folder.path().join("control"),
            lines: self.control_lines.clone(),
        });
        let link = if self.is_remote {
            let files = folder.path().join("issued");
            control.issue_edge(EDGE, &files);
            ControlLink::Remote {
                address: control.edge_listen.expect("control listens for remote edges"),
                files,
            }
        } else {
            ControlLink::Socket(control.socket())
        };
        let certificate = Certificate::create(folder.path(), "public", &[HOST, "*.example.test"]);
        let edge = Edge::start(EdgeSettings {
            folder: folder.path().join("edge"),
            name: EDGE.to_owned(),
            io: self.io,
            cores: self.cores,
            control: link,
            certificates: vec![certificate.clone()],
            tcp: self.tcp.clone(),
            accepts_proxy: self.accepts_proxy,
            lines: self.edge_lines.clone(),
        });
        Site {
            settings: self,
            control,
            edge,
            certificate,
            folder,
        }
    }
}

impl Site {
    /// A site with one core in this mode.
    #[track_caller]
    pub fn start(io: IoMode) -> Self {
        SiteSettings::new(io).start()
    }

    /// A folder for whatever a test writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How it was set up.
    pub fn settings(&self) -> &SiteSettings {
        &self.settings
    }

    /// A file in [`Self::folder`] with this text.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Makes a tunnel and routes [`HOST`] to it.
    #[track_caller]
    pub fn tunnel(&self, name: &str) -> Tunnel {
        let tunnel = self
            .control
            .create(name, &self.folder.path().join(format!("{name}.json")));
        self.control.route(&tunnel, HOST);
        tunnel
    }

    /// A connector of `tunnel` in the making: ours, with the credentials file, for this site's edge.
    pub fn connector(&self, tunnel: &Tunnel) -> ConnectorSettings {
        self.connector_of(Program::Adit, tunnel)
    }

    /// A connector of `tunnel` in the making, of either program.
    pub fn connector_of(&self, program: Program, tunnel: &Tunnel) -> ConnectorSettings {
        ConnectorSettings {
            program,
            tunnel: tunnel.id,
            credentials: Credentials::File(tunnel.credentials.clone()),
            edges: vec![self.edge.addresses.tunnel; ConnectorSettings::EDGE_VALUES],
            cacert: self.control.ca(),
            io: self.settings.io,
            cores: self.settings.cores,
            ingress: String::new(),
            lines: String::new(),
            flags: Vec::new(),
            run_flags: Vec::new(),
            notify_socket: None,
        }
    }

    /// Starts a connector for `tunnel` that serves everything from `service`, and waits until [`HOST`] is
    /// served.
    #[track_caller]
    pub fn serve(&self, tunnel: &Tunnel, service: &str) -> connector::Connector {
        let connector = self.connector(tunnel).service(service).start();
        connector.wait_connections(4);
        self.wait_served();
        connector
    }

    /// Waits until the edge has the route of [`HOST`] and a connection for it. Its answer is then none of its
    /// own error pages.
    #[track_caller]
    pub fn wait_served(&self) {
        deadline::until_true("the edge to serve the hostname", deadline::STEP, || {
            !is_error_page(&self.visit("/").run())
        });
    }

    /// A plain HTTP/1.1 request for [`HOST`].
    pub fn visit(&self, path: &str) -> Curl {
        self.visit_host(HOST, path)
    }

    /// A plain HTTP/1.1 request for `host`.
    pub fn visit_host(&self, host: &str, path: &str) -> Curl {
        Curl::get(&format!("http://{host}{path}")).connect_to(self.edge.http())
    }

    /// A request for [`HOST`] over TLS, in HTTP/2.
    pub fn visit_tls(&self, path: &str) -> Curl {
        let root = &self.certificate.certificate;
        Curl::get(&format!("https://{HOST}{path}"))
            .connect_to(self.edge.https())
            .trust(root)
            .arg("--http2")
    }

    /// HTTP/1.1 load for [`HOST`].
    pub fn load(&self, path: &str) -> Load {
        Load::http1(&format!("http://{HOST}{path}"), self.edge.http())
    }

    /// HTTP/2 load for [`HOST`] over TLS.
    pub fn load_tls(&self, path: &str) -> Load {
        Load::http2(&format!("https://{HOST}{path}"), self.edge.https())
    }
}

/// Whether the edge itself answered, not an origin.
pub fn is_error_page(response: &Response) -> bool {
    error_code(response).is_some()
}

/// The stable code on the edge's error page, HTML or JSON; `None` when the answer is no error page.
pub fn error_code(response: &Response) -> Option<ErrorCode> {
    let text = response.text();
    ErrorCode::all().find(|code| {
        let code = code.as_str();
        response.status >= 400
            && (text.contains(&format!("<code>{code}</code>"))
                || text.contains(&format!("\"code\":\"{code}\"")))
    })
}
