//! One request and its answer, on a connection of their own.

use std::{future, path::Path};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::error::ClientError;
use crate::api::types::ApiError;

/// Bound on an answer. The health of 10,000 backends takes about 3 MB.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A whole answer.
pub(super) struct Answer {
    status: StatusCode,
    body: Bytes,
}

/// Sends a request to the agent at `socket_path`, and reads the answer to its end. `body` is JSON,
/// or empty.
pub(super) async fn exchange(
    socket_path: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<Answer, ClientError> {
    let stream = UnixStream::connect(socket_path)
        .await
        .map_err(|source| ClientError::connecting(socket_path, source))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(ClientError::Broken)?;
    let talk = async {
        let response = sender
            .send_request(request(method, path, body))
            .await
            .map_err(ClientError::Broken)?;
        let status = response.status();
        let body = read(status, response.into_body()).await?;
        Ok(Answer { status, body })
    };
    // Whatever ends the connection also ends the talk, which knows better what it means.
    let drive = async {
        let _ = connection.await;
        future::pending().await
    };
    tokio::select! {
        answer = talk => answer,
        never = drive => never,
    }
}

fn request(method: Method, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = method;
    *request.uri_mut() = path
        .parse()
        .expect("paths are constants, and what is added to them is percent-encoded");
    let headers = request.headers_mut();
    // HTTP/1.1 asks for a host (RFC 9112, section 3.2), and a Unix socket has none.
    headers.insert(header::HOST, header::HeaderValue::from_static("xlb"));
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    request
}

async fn read(status: StatusCode, body: Incoming) -> Result<Bytes, ClientError> {
    match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => ClientError::Broken(*error),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>());
                ClientError::BadAnswer {
                    status: status.as_u16(),
                    detail: format!("it is longer than {MAX_ANSWER_BYTES} bytes"),
                }
            }
        }),
    }
}

impl Answer {
    /// What the agent said: the value asked for, or its error.
    pub(super) fn decode<A: DeserializeOwned>(&self) -> Result<A, ClientError> {
        let status = self.status.as_u16();
        let bad = |error: serde_json::Error| ClientError::BadAnswer {
            status,
            detail: error.to_string(),
        };
        if self.status.is_success() {
            return serde_json::from_slice(&self.body).map_err(bad);
        }
        if !self.status.is_client_error() && !self.status.is_server_error() {
            return Err(ClientError::BadAnswer {
                status,
                detail: "it is neither a success nor an error".to_owned(),
            });
        }
        let ApiError { error } = serde_json::from_slice(&self.body).map_err(bad)?;
        Err(ClientError::Api { status, error })
    }
}
