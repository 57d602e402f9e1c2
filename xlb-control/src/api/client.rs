//! The client of the control API.

mod error;
mod exchange;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::Method;
use serde::{Serialize, de::DeserializeOwned};

pub use self::error::ClientError;
use super::{
    diff::{Diff, DiffRequest},
    explain::{ExplainRequest, Explanation},
    nat::NatStatus,
    types::{BackendStatus, Change, Changed, HealthStatus, ServiceStatus, Status},
};

/// Time that a call may take from the connection to the last byte of the answer.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Talks to an agent: HTTP/1.1 over its Unix socket, a connection for each call.
#[derive(Clone, Debug)]
pub struct Client {
    socket_path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client of the agent that listens at `socket_path`. Nothing is connected before the first
    /// call; a call takes 10 seconds at most.
    #[must_use]
    pub fn new(socket_path: impl AsRef<Path>) -> Self {
        Self {
            socket_path: socket_path.as_ref().to_owned(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The same client with another bound on the time of a whole call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// `GET /v1/status`: the agent as a whole.
    ///
    /// # Errors
    ///
    /// As for every call, those of [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// `GET /v1/services`: every service.
    ///
    /// # Errors
    ///
    /// As for every call, those of [`ClientError`].
    pub async fn services(&self) -> Result<Vec<ServiceStatus>, ClientError> {
        self.get("/v1/services").await
    }

    /// `GET /v1/backends`: the backends of every pool.
    ///
    /// # Errors
    ///
    /// As for every call, those of [`ClientError`].
    pub async fn backends(&self) -> Result<Vec<BackendStatus>, ClientError> {
        self.get("/v1/backends").await
    }

    /// `GET /v1/health`: the health of the backends of one service, or of all.
    ///
    /// # Errors
    ///
    /// As for every call, those of [`ClientError`].
    pub async fn health(&self, service: Option<&str>) -> Result<Vec<HealthStatus>, ClientError> {
        match service {
            None => self.get("/v1/health").await,
            Some(name) => {
                let name = encode_query_value(name);
                self.get(&format!("/v1/health?service={name}")).await
            }
        }
    }

    /// `GET /v1/nat`: connections under `full-nat` of one service or of all, so many at most, and how many
    /// ports are taken.
    ///
    /// # Errors
    ///
    /// As for every call, those of [`ClientError`].
    pub async fn nat(&self, service: Option<&str>, limit: u32) -> Result<NatStatus, ClientError> {
        let service = service.map_or_else(String::new, |name| {
            format!("&service={}", encode_query_value(name))
        });
        self.get(&format!("/v1/nat?limit={limit}{service}")).await
    }

    /// `POST /v1/changes`: changes something at run time.
    ///
    /// # Errors
    ///
    /// As for every call, those of [`ClientError`]. After [`ClientError::Timeout`] and
    /// [`ClientError::Broken`] the change may have been made.
    pub async fn change(&self, change: &Change) -> Result<Changed, ClientError> {
        self.post("/v1/changes", Some(change)).await
    }

    /// `POST /v1/reload`: reads the configuration file again.
    ///
    /// # Errors
    ///
    /// As for every call, those of [`ClientError`]. After [`ClientError::Timeout`] and
    /// [`ClientError::Broken`] the file may have been applied.
    pub async fn reload(&self) -> Result<Changed, ClientError> {
        self.post("/v1/reload", None::<&()>).await
    }

    /// `POST /v1/diff`: what a configuration would change. Changes nothing.
    ///
    /// # Errors
    ///
    /// As for every call, those of [`ClientError`].
    pub async fn diff(&self, request: &DiffRequest) -> Result<Diff, ClientError> {
        self.post("/v1/diff", Some(request)).await
    }

    /// `POST /v1/explain`: what becomes of a packet. Changes nothing.
    ///
    /// # Errors
    ///
    /// As for every call, those of [`ClientError`].
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ClientError> {
        self.post("/v1/explain", Some(request)).await
    }

    async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, ClientError> {
        self.call(Method::GET, path, Vec::new()).await
    }

    async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, ClientError> {
        let body = match body {
            None => Vec::new(),
            Some(body) => serde_json::to_vec(body).map_err(ClientError::Request)?,
        };
        self.call(Method::POST, path, body).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<A, ClientError> {
        let exchange = exchange::exchange(&self.socket_path, method, path, body);
        let answer = tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_elapsed| ClientError::Timeout {
                socket_path: self.socket_path.clone(),
                timeout: self.timeout,
            })??;
        answer.decode()
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn encode_query_value(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
