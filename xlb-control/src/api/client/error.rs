//! What can go wrong with a call.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens at the socket, or there is none.
    #[error(
        "no agent answers at `{}`; is it running? \
         start it with `xlb-agent run`, or name the socket of another one",
        socket_path.display()
    )]
    AgentDown {
        /// Where an agent was looked for.
        socket_path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket's mode, or that of a directory on the way to it, forbids it to this user.
    #[error(
        "this user may not use the agent's socket `{}`; \
         run the command as root or as a member of the socket's group",
        socket_path.display()
    )]
    PermissionDenied {
        /// The socket.
        socket_path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket could not be connected for another reason.
    #[error("connect to the agent's socket `{}`", socket_path.display())]
    Connect {
        /// The socket.
        socket_path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke before the whole answer was there.
    #[error("the agent broke off the call; its log may say why")]
    Broken(#[source] hyper::Error),
    /// The call took too long.
    #[error(
        "the agent at `{}` did not answer within {}",
        socket_path.display(),
        humantime::format_duration(*timeout)
    )]
    Timeout {
        /// The socket.
        socket_path: PathBuf,
        /// The bound on the call.
        timeout: Duration,
    },
    /// The agent refused.
    #[error("{error}")]
    Api {
        /// HTTP status code, 4xx or 5xx.
        status: u16,
        /// What the agent says that went wrong, and what to do about it.
        error: String,
    },
    /// The answer is none that an agent of this version gives.
    #[error(
        "the answer (HTTP status {status}) is not what an agent of this version gives: {detail}; \
         do the agent and this command have the same version?"
    )]
    BadAnswer {
        /// HTTP status code.
        status: u16,
        /// What is wrong with it.
        detail: String,
    },
    /// The request could not be put into words.
    #[error("encode the request")]
    Request(#[source] serde_json::Error),
}

impl ClientError {
    /// The error of a connection that could not be opened.
    pub(super) fn connecting(socket_path: &Path, source: io::Error) -> Self {
        let socket_path = socket_path.to_owned();
        if source.kind() == io::ErrorKind::NotFound
            || source.kind() == io::ErrorKind::ConnectionRefused
        {
            Self::AgentDown {
                socket_path,
                source,
            }
        } else if source.kind() == io::ErrorKind::PermissionDenied {
            Self::PermissionDenied {
                socket_path,
                source,
            }
        } else {
            Self::Connect {
                socket_path,
                source,
            }
        }
    }
}
