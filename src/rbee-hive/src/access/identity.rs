//! A caller that is known.

use super::Role;

/// Who calls, from where, and what it may do. All texts are short and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `token:NAME`, `certificate:NAME` or `uid:NUMBER`.
    pub(crate) who: String,
    /// `unix pid 42`, `tcp 127.0.0.1:5000` or `tls 10.0.0.7:5000`.
    pub(crate) from: String,
    /// What it may do.
    pub(crate) role: Role,
}
