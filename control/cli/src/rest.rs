//! Speaks the control API as cloudflared's management commands do: one method per call.
//!
//! Refusals become texts that say which operation failed and why. Does not retry and follows no redirect.
//! Nothing here is shown to the user directly; commands decide what to print.

pub(crate) mod http;
mod answer;
pub(crate) mod proxy;
mod query;

use ::http::Method;
use adit_control_api::envelope::ResultInfo;
use adit_control_api::management::Resource;
use adit_control_api::quick::QuickTunnelView;
use adit_control_api::replica::ClientView;
use adit_control_api::route::{BulkRouteRequest, BulkRouteResult, DnsRouteResult, RouteRequest};
use adit_control_api::tunnel::{CreateTunnel, CreatedTunnel, TunnelView};
use adit_control_api::{ConnectorId, TunnelId};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::answer::RestError;
use self::http::{HttpClient, Request};
pub(crate) use self::query::Query;

/// Where the API of our own control listens unless told otherwise.
pub(crate) const API_URL_DEFAULT: &str = "http://127.0.0.1:7080/client/v4";

/// Pages of a listing that are read at most: a server that never ends one must not keep us for ever.
const PAGES_MAX: u64 = 10_000;

/// What the API asks of a caller.
#[derive(Clone)]
pub(crate) struct Access {
    /// Address without a final slash.
    pub(crate) url: String,
    /// Account id.
    pub(crate) account: String,
    /// Zone id.
    pub(crate) zone: String,
    /// Bearer token.
    pub(crate) token: String,
}

/// A caller of the API.
pub(crate) struct Api {
    access: Access,
    http: HttpClient,
}

/// Asks a service for a quick tunnel, for which nobody has to say who they are.
pub(crate) async fn quick_tunnel(service: &str) -> Result<QuickTunnelView, RestError> {
    let operation = "create quick tunnel";
    let request = Request {
        method: Method::POST,
        url: format!("{}/tunnel", service.trim_end_matches('/')),
        authorization: None,
        body: None,
    };
    let reply = HttpClient::default().exchange(request).await;
    let mut reply = reply.map_err(|source| RestError::Http { operation, source })?;
    // Other services say that something was created.
    if (200..300).contains(&reply.status) {
        reply.status = 200;
    }
    let envelope = answer::open(operation, &answer::check(operation, reply)?)?;
    envelope.result.ok_or(RestError::Empty { operation })
}

impl Api {
    pub(crate) fn new(access: Access) -> Self {
        Self {
            access,
            http: HttpClient::default(),
        }
    }

    pub(crate) async fn create_tunnel(&self, name: &str, secret: &str) -> Result<CreatedTunnel, RestError> {
        let body = CreateTunnel {
            name: name.to_owned(),
            tunnel_secret: secret.to_owned(),
        };
        let path = self.tunnels();
        match self.call("create tunnel", Method::POST, &path, Some(&body)).await {
            Err(RestError::Refused { status: 409, .. }) => Err(RestError::NameTaken),
            answer => answer,
        }
    }

    /// Lists tunnels page by page.
    pub(crate) async fn tunnels_matching(&self, query: &Query) -> Result<Vec<TunnelView>, RestError> {
        let mut found = Vec::new();
        for page in 1..=PAGES_MAX {
            let path = format!("{}{}", self.tunnels(), query.clone().and("page", page));
            let (mut items, info) = self.list::<TunnelView>("list tunnels", &path).await?;
            found.append(&mut items);
            let info = info.unwrap_or_default();
            if info.count < info.per_page || found.len() as u64 >= info.total_count {
                break;
            }
        }
        Ok(found)
    }

    pub(crate) async fn tunnel(&self, id: TunnelId) -> Result<TunnelView, RestError> {
        self.call::<(), _>("get tunnel", Method::GET, &self.tunnel_path(id), None)
            .await
    }

    pub(crate) async fn delete_tunnel(&self, id: TunnelId, with_connections: bool) -> Result<(), RestError> {
        let query = Query::default().and_if(with_connections, "cascade", "true");
        let path = format!("{}{query}", self.tunnel_path(id));
        self.send::<()>("delete tunnel", Method::DELETE, &path, None)
            .await
            .map(drop)
    }

    pub(crate) async fn token(&self, id: TunnelId) -> Result<String, RestError> {
        let path = format!("{}/token", self.tunnel_path(id));
        self.call::<(), _>("get tunnel token", Method::GET, &path, None)
            .await
    }

    pub(crate) async fn management_token(
        &self,
        id: TunnelId,
        resource: Resource,
    ) -> Result<String, RestError> {
        let path = format!("{}/management/{}", self.tunnel_path(id), resource.as_str());
        self.call::<(), _>("get management token", Method::POST, &path, None)
            .await
    }

    pub(crate) async fn connectors(&self, id: TunnelId) -> Result<Vec<ClientView>, RestError> {
        let path = format!("{}/connections", self.tunnel_path(id));
        Ok(self.list("list connectors", &path).await?.0)
    }

    pub(crate) async fn cleanup(
        &self,
        id: TunnelId,
        connector: Option<ConnectorId>,
    ) -> Result<(), RestError> {
        let query = connector
            .into_iter()
            .fold(Query::default(), |query, id| query.and("client_id", id));
        let path = format!("{}/connections{query}", self.tunnel_path(id));
        self.send::<()>("cleanup tunnel connections", Method::DELETE, &path, None)
            .await
            .map(drop)
    }

    pub(crate) async fn route_dns(
        &self,
        id: TunnelId,
        hostname: &str,
        overwrite: bool,
    ) -> Result<DnsRouteResult, RestError> {
        let body = RouteRequest::Dns {
            user_hostname: hostname.to_owned(),
            overwrite_existing: overwrite,
        };
        let path = format!("/zones/{}/tunnels/{id}/routes", query::encode(&self.access.zone));
        self.call("route tunnel", Method::PUT, &path, Some(&body)).await
    }

    /// Lets all of these hostnames lead to a tunnel, or none of them.
    pub(crate) async fn route_many(
        &self,
        id: TunnelId,
        hostnames: &[String],
        overwrite: bool,
    ) -> Result<BulkRouteResult, RestError> {
        let body = BulkRouteRequest {
            hostnames: hostnames.to_vec(),
            overwrite_existing: overwrite,
        };
        let path = format!("/zones/{}/tunnels/{id}/routes", query::encode(&self.access.zone));
        self.call("route hostnames", Method::POST, &path, Some(&body))
            .await
    }

    fn tunnels(&self) -> String {
        format!("/accounts/{}/cfd_tunnel", query::encode(&self.access.account))
    }

    fn tunnel_path(&self, id: TunnelId) -> String {
        format!("{}/{id}", self.tunnels())
    }

    async fn list<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
    ) -> Result<(Vec<T>, Option<ResultInfo>), RestError> {
        let body = self.send::<()>(operation, Method::GET, path, None).await?;
        let envelope = answer::open::<Vec<T>>(operation, &body)?;
        Ok((envelope.result.unwrap_or_default(), envelope.result_info))
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, RestError> {
        let body = self.send(operation, method, path, body).await?;
        answer::open(operation, &body)?
            .result
            .ok_or(RestError::Empty { operation })
    }

    /// Sends a request and returns the body of a success.
    async fn send<B: Serialize>(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Vec<u8>, RestError> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|source| RestError::Encode { operation, source })?;
        let request = Request {
            method,
            url: format!("{}{path}", self.access.url),
            authorization: Some(format!("Bearer {}", self.access.token)),
            body,
        };
        let reply = self
            .http
            .exchange(request)
            .await
            .map_err(|source| RestError::Http { operation, source })?;
        answer::check(operation, reply)
    }
}

#[cfg(test)]
mod tests;
