//! `tunnel` without a command, which makes a tunnel and runs it at once.
//!
//! | given | what it is |
//! |---|---|
//! | `--name N` | an ad hoc tunnel: created if it is not there, routed with `--hostname`, run |
//! | `--url U` or `--hello-world` | a quick tunnel, see `quick` |
//!
//! Source: cloudflared `cmd/cloudflared/tunnel/cmd.go`.

use anyhow::anyhow;

use super::api_access::ApiAccess;
use super::config_file::ConfigFile;
use super::{create, quick, resolve, route, run};
use crate::args::leaf::Chosen;
use crate::cmd::block_on;
use crate::failure::Failure;

/// Makes a tunnel and runs it.
pub(super) fn make_and_run(chosen: &Chosen<'_>, file: &ConfigFile) -> Result<(), Failure> {
    let setting = |name: &str| match chosen.tunnel.text(name) {
        Some(text) => Ok(Some(text)),
        None => file.text(name),
    };
    if let Some(name) = setting("name")? {
        let hostname = setting("hostname")?;
        if hostname.is_some() && hostname == setting("url")? {
            return Err(
                anyhow!("hostname and url shouldn't match: the one is visited, the other serves").into(),
            );
        }
        if setting("lb-pool")?.is_some_and(|pool| !pool.is_empty()) {
            let text = "--lb-pool needs pools of load balancers, and there are none here: replicas of a tunnel share its hostname's load";
            return Err(anyhow!(text).into());
        }
        return named(chosen, file, &name, hostname.as_deref());
    }
    let hello_world = match chosen.tunnel.switch("hello-world")? {
        Some(given) => given,
        None => file.switch("hello-world")?,
    };
    if setting("url")?.is_some() || hello_world {
        return quick::get_and_run(chosen, setting("quick-service")?);
    }
    if let Some(tunnel) = file.text("tunnel")? {
        return Err(anyhow!("use `adit tunnel run` to start tunnel {tunnel}").into());
    }
    let text = "You did not specify any valid additional argument to the adit tunnel command: it needs a command, --name NAME for a tunnel that is created and run, or --url URL for a quick tunnel.";
    Err(Failure::from(anyhow!(text)).next("adit tunnel --help"))
}

fn named(chosen: &Chosen<'_>, file: &ConfigFile, name: &str, hostname: Option<&str>) -> Result<(), Failure> {
    let access = ApiAccess::open(&chosen.tunnel, file)?;
    let id = block_on(async {
        let id = match resolve::named(&access, name).await? {
            Some(id) => {
                tracing::info!(tunnelID = %id, "Reusing existing tunnel with this name");
                id
            }
            None => {
                let made = create::create(chosen, &access, name, create::random_secret()?).await?;
                for line in made.told().lines().filter(|line| !line.is_empty()) {
                    tracing::info!("{line}");
                }
                made.view.id
            }
        };
        if let Some(hostname) = hostname {
            route::lead(chosen, &access, id, hostname).await?;
        }
        Ok(id)
    })?;
    let mut flags = run::flags(&chosen.tunnel)?;
    flags.tunnel = Some(id.to_string());
    flags.origincert = Some(access.cert_path().to_owned());
    run::start(flags, chosen.tunnel.switch("check")? == Some(true))
}
