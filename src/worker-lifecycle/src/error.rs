//! Why a request about a worker was refused or failed.

use rbee_hive_sandbox::protocol::{LaunchError, LaunchErrorKind};

use crate::view::VerdictView;

/// The kinds; the snake-case text of each is `data.kind` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the contract of API.md")]
pub enum ErrorKind {
    InvalidParams,
    AlreadyExists,
    NotFound,
    PolicyViolation,
    UnknownPolicy,
    NoSuchDevice,
    DeviceBusy,
    NoFreePort,
    AtCapacity,
    Draining,
    NotAllowedNow,
    BinaryNotFound,
    ModelNotFound,
    NotEnforceable,
    SetupFailed,
    ExecFailed,
    StartFailed,
    StartTimeout,
    Timeout,
    LauncherGone,
    InvalidPolicy,
    ModelNotReadable,
}

/// A refused or failed request. `message` is for the caller; `detail` is for the operator's log only.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct LifecycleError {
    /// Kind.
    pub kind: ErrorKind,
    /// One sentence for the caller.
    pub message: String,
    /// Failed step.
    pub step: Option<String>,
    /// `errno(3)` number.
    pub errno: Option<i32>,
    /// What to do next.
    pub hint: Option<String>,
    /// Every place tried.
    pub tried: Vec<String>,
    /// Verdict of a worker that died while starting.
    pub verdict: Option<VerdictView>,
    /// Its last log lines.
    pub log_tail: Vec<String>,
    /// For the operator's log.
    pub detail: Option<String>,
}

impl LifecycleError {
    /// An error of `kind` with nothing but a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            step: None,
            errno: None,
            hint: None,
            tried: vec![],
            verdict: None,
            log_tail: vec![],
            detail: None,
        }
    }
}

impl From<LaunchError> for LifecycleError {
    fn from(e: LaunchError) -> Self {
        let kind = match e.kind {
            LaunchErrorKind::PolicyViolation => ErrorKind::PolicyViolation,
            LaunchErrorKind::UnknownPolicy => ErrorKind::UnknownPolicy,
            LaunchErrorKind::InvalidPolicy => ErrorKind::InvalidPolicy,
            LaunchErrorKind::NoSuchDevice => ErrorKind::NoSuchDevice,
            LaunchErrorKind::DeviceBusy => ErrorKind::DeviceBusy,
            LaunchErrorKind::BinaryNotFound => ErrorKind::BinaryNotFound,
            LaunchErrorKind::ModelNotFound => ErrorKind::ModelNotFound,
            LaunchErrorKind::ModelNotReadable => ErrorKind::ModelNotReadable,
            LaunchErrorKind::NotEnforceable => ErrorKind::NotEnforceable,
            LaunchErrorKind::InvalidParams => ErrorKind::InvalidParams,
            LaunchErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            LaunchErrorKind::AtCapacity => ErrorKind::AtCapacity,
            LaunchErrorKind::NotFound => ErrorKind::NotFound,
            LaunchErrorKind::NotAllowedNow => ErrorKind::NotAllowedNow,
            LaunchErrorKind::ShuttingDown => ErrorKind::LauncherGone,
            LaunchErrorKind::SetupFailed => ErrorKind::SetupFailed,
        };
        Self { step: e.step, errno: e.errno, hint: e.hint, tried: e.tried, ..Self::new(kind, e.message) }
    }
}
