//! `tunnel token`: the tunnel's token, or its content as a credentials file.

use adit_wire::credentials::Credentials;
use adit_wire::token::TunnelToken;
use anyhow::Context as _;

use super::api_access::ApiAccess;
use super::resolve::tunnel_id;
use super::{credentials, search};
use crate::args::leaf::Chosen;
use crate::failure::Failure;
use crate::output;

/// Prints the token.
pub(super) async fn run(chosen: &Chosen<'_>, access: &ApiAccess) -> Result<(), Failure> {
    let id = tunnel_id(access, chosen.argument(0)).await?;
    let token = access
        .api
        .token(id)
        .await
        .map_err(|error| access.explain(error))?;
    let Some(path) = chosen.tunnel.text("credentials-file") else {
        return output::print(&format!("{token}\n"));
    };
    let parsed: TunnelToken = token
        .parse()
        .context("the API answered with something that is not a token")?;
    Ok(credentials::write(
        &search::expand(&path),
        &Credentials::from(parsed),
    )?)
}
