//! The control API's server: HTTP/JSON on a Unix socket. A request becomes a [`Command`] for the
//! event loop, which alone knows the state.

use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Query, State, connect_info::Connected},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::IncomingStream,
};
use serde::Deserialize;
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot},
};
use xlb_control::api::{
    ApiError, BackendStatus, Change, Changed, Diff, DiffRequest, ExplainRequest, Explanation,
    HealthStatus, NatStatus, ServiceStatus, Status,
};
use xlb_control::config::limits::MAX_FILE_BYTES;

use super::metrics::{self, Sample};

/// Who is on the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// User id, by the kernel's word.
    pub uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self {
            uid: stream
                .io()
                .peer_cred()
                .ok()
                .map(|credentials| credentials.uid()),
        }
    }
}

/// What a client wants of the event loop.
#[derive(Debug)]
pub enum Command {
    /// The whole status.
    Status(oneshot::Sender<Status>),
    /// What there is to measure.
    Metrics(oneshot::Sender<Box<Sample>>),
    /// Every service.
    Services(oneshot::Sender<Vec<ServiceStatus>>),
    /// Every backend.
    Backends(oneshot::Sender<Vec<BackendStatus>>),
    /// Health of a service's backends, or of all.
    Health(
        Option<String>,
        oneshot::Sender<Result<Vec<HealthStatus>, String>>,
    ),
    /// Connections under `full-nat` of a service, or of all, so many at most.
    Nat(
        Option<String>,
        usize,
        oneshot::Sender<Result<NatStatus, String>>,
    ),
    /// A change at run time.
    Change(Change, Caller, oneshot::Sender<Result<Changed, String>>),
    /// Read the file again.
    Reload(Caller, oneshot::Sender<Result<Changed, String>>),
    /// What a configuration would change.
    Diff(DiffRequest, oneshot::Sender<Result<Diff, String>>),
    /// What becomes of a packet.
    Explain(ExplainRequest, oneshot::Sender<Result<Explanation, String>>),
}

/// Commands that may wait for the event loop.
const COMMANDS_WAITING: usize = 64;

/// Bytes of a request that carries a configuration: JSON escapes some characters of the file.
const MAX_CONFIG_BODY_BYTES: usize = 2 * MAX_FILE_BYTES as usize;

/// Opens the socket and serves it until the process ends; gives the commands that come in, and where
/// others may come from.
///
/// # Errors
///
/// When the socket can't be made.
pub fn serve(path: &Path) -> anyhow::Result<(mpsc::Sender<Command>, mpsc::Receiver<Command>)> {
    remove_old(path)?;
    let listener = UnixListener::bind(path)
        .with_context(|| format!("listen on the control socket {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .with_context(|| format!("set the mode of {}", path.display()))?;
    let (sender, receiver) = mpsc::channel(COMMANDS_WAITING);
    let router = router(sender.clone()).into_make_service_with_connect_info::<Caller>();
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the control API has ended");
        }
    });
    Ok((sender, receiver))
}

/// The API's paths, whose commands go to `sender`.
pub fn router(sender: mpsc::Sender<Command>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::answer))
        .route("/v1/status", get(status))
        .route("/v1/services", get(services))
        .route("/v1/backends", get(backends))
        .route("/v1/health", get(health))
        .route("/v1/nat", get(nat))
        .route("/v1/changes", post(change))
        .route("/v1/reload", post(reload))
        .route("/v1/explain", post(explain))
        .route(
            "/v1/diff",
            post(diff).layer(DefaultBodyLimit::max(MAX_CONFIG_BODY_BYTES)),
        )
        .with_state(sender)
}

/// Removes the socket of an agent that was killed; the lock says that none runs. What is no socket
/// was not an agent's, and stays.
fn remove_old(path: &Path) -> anyhow::Result<()> {
    let old = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found.with_context(|| format!("look at {}", path.display()))?,
    };
    anyhow::ensure!(
        old.file_type().is_socket(),
        "{} is there and is no socket: name another path with --socket",
        path.display()
    );
    std::fs::remove_file(path)
        .with_context(|| format!("remove the old control socket {}", path.display()))
}

type Sender = State<mpsc::Sender<Command>>;

async fn status(State(sender): Sender) -> Response {
    ask(&sender, Command::Status).await
}

async fn services(State(sender): Sender) -> Response {
    ask(&sender, Command::Services).await
}

async fn backends(State(sender): Sender) -> Response {
    ask(&sender, Command::Backends).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthQuery {
    service: Option<String>,
}

async fn health(State(sender): Sender, Query(query): Query<HealthQuery>) -> Response {
    attempt(&sender, StatusCode::NOT_FOUND, |reply| {
        Command::Health(query.service, reply)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NatQuery {
    service: Option<String>,
    limit: usize,
}

async fn nat(State(sender): Sender, Query(query): Query<NatQuery>) -> Response {
    attempt(&sender, StatusCode::NOT_FOUND, |reply| {
        Command::Nat(query.service, query.limit, reply)
    })
    .await
}

async fn change(
    State(sender): Sender,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(change): Json<Change>,
) -> Response {
    attempt(&sender, StatusCode::UNPROCESSABLE_ENTITY, |reply| {
        Command::Change(change, caller, reply)
    })
    .await
}

async fn reload(State(sender): Sender, ConnectInfo(caller): ConnectInfo<Caller>) -> Response {
    attempt(&sender, StatusCode::UNPROCESSABLE_ENTITY, |reply| {
        Command::Reload(caller, reply)
    })
    .await
}

async fn diff(State(sender): Sender, Json(request): Json<DiffRequest>) -> Response {
    attempt(&sender, StatusCode::UNPROCESSABLE_ENTITY, |reply| {
        Command::Diff(request, reply)
    })
    .await
}

async fn explain(State(sender): Sender, Json(packet): Json<ExplainRequest>) -> Response {
    attempt(&sender, StatusCode::UNPROCESSABLE_ENTITY, |reply| {
        Command::Explain(packet, reply)
    })
    .await
}

/// A question that the event loop always answers.
async fn ask<T: serde::Serialize>(
    sender: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Response {
    let (reply, answer) = oneshot::channel();
    if sender.send(command(reply)).await.is_err() {
        return stopping();
    }
    answer
        .await
        .map_or_else(|_| stopping(), |value| Json(value).into_response())
}

/// A request that the event loop may refuse.
async fn attempt<T: serde::Serialize>(
    sender: &mpsc::Sender<Command>,
    refused: StatusCode,
    command: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Command,
) -> Response {
    let (reply, answer) = oneshot::channel();
    if sender.send(command(reply)).await.is_err() {
        return stopping();
    }
    match answer.await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(error)) => (refused, Json(ApiError { error })).into_response(),
        Err(_) => stopping(),
    }
}

/// The answer of an agent that ends.
pub(super) fn stopping() -> Response {
    let error = "the agent is stopping; ask again when it has started".to_owned();
    (StatusCode::SERVICE_UNAVAILABLE, Json(ApiError { error })).into_response()
}

/// The answer to a request that failed on the agent's account.
pub(super) fn failed(error: &str) -> Response {
    let error = error.to_owned();
    (StatusCode::INTERNAL_SERVER_ERROR, Json(ApiError { error })).into_response()
}
