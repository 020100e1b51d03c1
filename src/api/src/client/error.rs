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
