//! Why a call has no result.

use std::time::Duration;

use crate::RpcError;

/// A call without a result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing accepts connections there.
    #[error("no hive answers at {endpoint}")]
    NoHive {
        /// Where it was looked for.
        endpoint: String,
        /// What `connect(2)` said.
        source: std::io::Error,
    },
    /// There is something, and no TLS with it: it is not whom it says, or it does not believe the client.
    #[error("speak TLS with the hive at {endpoint}")]
    Tls {
        /// Where.
        endpoint: String,
        /// What is wrong.
        source: std::io::Error,
    },
    /// An `https` address, and no CA to know the hive by.
    #[error("know the hive at {endpoint}: no CA is given")]
    NoCa {
        /// Where.
        endpoint: String,
    },
    /// A token, and a way on which others could read it.
    #[error("present a token to {endpoint}: it would go there in clear")]
    Clear {
        /// Where.
        endpoint: String,
    },
    /// The hive refused, or what it tried has failed.
    #[error(transparent)]
    Rpc(Box<RpcError>),
    /// Something answers, but not as a hive does, or stopped in the middle.
    #[error("understand what answers at {endpoint}: {problem}")]
    Protocol {
        /// Where.
        endpoint: String,
        /// What is wrong.
        problem: String,
        /// The error below, where there is one.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It took too long.
    #[error("the hive at {endpoint} did not {act} within {limit:?}")]
    Timeout {
        /// What it was to do.
        act: String,
        /// Where.
        endpoint: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl ClientError {
    /// The same with the error below.
    pub(super) fn because(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        match self {
            Self::Protocol { endpoint, problem, .. } => Self::Protocol { endpoint, problem, source: Some(Box::new(cause)) },
            other => other,
        }
    }

    /// `data.kind` of the hive's error.
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Rpc(error) => error.data.kind.as_deref(),
            _ => None,
        }
    }
}
