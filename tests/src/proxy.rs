//! Real proxies through which a connector reaches its edge.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use crate::deadline;
use crate::origin::free_address;
use crate::process::{Process, command};

/// Who is let in by proxies that ask.
pub const USER: &str = "miner";
/// With what.
pub const PASSWORD: &str = "pickaxe";

/// A running proxy on loopback.
#[derive(Debug)]
pub struct Proxy {
    scheme: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// The process.
    pub process: Process,
}

impl Proxy {
    /// A tinyproxy, which takes CONNECT to any port, of anybody or of [`USER`] alone.
    ///
    /// # Panics
    /// When it does not listen.
    #[track_caller]
    pub fn http(folder: &Path, asks_who: bool) -> Self {
        let address = free_address();
        let asks = if asks_who {
            format!("BasicAuth {USER} {PASSWORD}\n")
        } else {
            String::new()
        };
        let text = format!(
            "Port {}\nListen {}\nTimeout 600\nMaxClients 50\nLogLevel Connect\n{asks}",
            address.port(),
            address.ip()
        );
        let config = folder.join("tinyproxy.conf");
        std::fs::write(&config, text).expect("a file in the temp dir");
        let mut program = command("tinyproxy");
        program.arg("-d").arg("-c").arg(&config);
        Self::started("http", address, Process::start("tinyproxy", &mut program))
    }

    /// A microsocks, for anybody or for [`USER`] alone.
    ///
    /// # Panics
    /// When it does not listen.
    #[track_caller]
    pub fn socks5(asks_who: bool) -> Self {
        let address = free_address();
        let mut program = command("microsocks");
        program.args(["-i", &address.ip().to_string(), "-p", &address.port().to_string()]);
        if asks_who {
            program.args(["-u", USER, "-P", PASSWORD]);
        }
        Self::started("socks5", address, Process::start("microsocks", &mut program))
    }

    /// Its address as `--edge-proxy` takes it.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The same with who asks.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("{}://{user}:{password}@{}", self.scheme, self.address)
    }

    #[track_caller]
    fn started(scheme: &'static str, address: SocketAddr, process: Process) -> Self {
        deadline::until_true("the proxy to listen", deadline::STEP, || {
            TcpStream::connect(address).is_ok()
        });
        Self {
            scheme,
            address,
            process,
        }
    }
}
