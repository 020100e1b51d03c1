//! Why a command has not done what was asked, its exit status, and how a person reads it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use nix::errno::Errno;
use rbee_hive_api::{ClientError, ErrorData, InvalidEndpoint};

use super::output::clean;

/// Exit status of what was refused or has failed.
const FAILED: u8 = 1;
/// Exit status of a wrong command line.
const USAGE: u8 = 2;
/// Exit status where there is no hive.
const NO_HIVE: u8 = 3;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The call has no result.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody at any of the usual places.
    #[error("no hive answers")]
    NoHive {
        /// Places and what was wrong with each.
        tried: Vec<(String, String)>,
    },
    /// The environment holds no address.
    #[error("read the environment variable {name}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        source: InvalidEndpoint,
    },
    /// The answer has another shape than this version knows.
    #[error("read the answer of {method}")]
    Answer {
        /// The method.
        method: &'static str,
        /// The error.
        source: serde_json::Error,
    },
    /// The command line means nothing.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read.
    #[error("read {path:?}")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// A policy is wrong, checked without a hive.
    #[error(transparent)]
    Policy(#[from] rbee_hive_policy::PolicyError),
    /// A check found something; it is told in the output.
    #[error("{path:?}: {count} {} the check fail", if *count == 1 { "finding makes" } else { "findings make" })]
    PolicyFindings {
        /// The file.
        path: PathBuf,
        /// How many findings.
        count: usize,
    },
    /// A policy could not be judged by a launcher of its own.
    #[error("judge the policy")]
    Judge(#[source] Box<dyn Error + Send + Sync>),
    /// No built-in policy of that name, and no hive that knows others.
    #[error("no hive answers, and there is no built-in policy {name:?}; there are {}", known.join(", "))]
    UnknownPolicy {
        /// The name.
        name: String,
        /// The built-in ones.
        known: Vec<&'static str>,
    },
    /// A worker's sandbox is no longer as planned.
    #[error("{id} is not as planned: {differences} {}", if *differences == 1 { "difference" } else { "differences" })]
    Drift {
        /// The worker.
        id: String,
        /// How many.
        differences: usize,
    },
    /// There is no proposal for a policy.
    #[error("learn a policy")]
    Learn(#[source] anyhow::Error),
    /// The output could not be written.
    #[error("write the output")]
    Write(#[source] std::io::Error),
    /// The runtime could not be started.
    #[error("start the runtime")]
    Runtime(#[source] std::io::Error),
}

impl CliError {
    /// The exit status that it gives.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::NoHive { .. } | Self::Client(ClientError::NoHive { .. }) => NO_HIVE,
            Self::Usage(_) | Self::Variable { .. } => USAGE,
            _ => FAILED,
        }
    }

    fn data(&self) -> Option<&ErrorData> {
        match self {
            Self::Client(ClientError::Rpc(error)) => Some(&error.data),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Client(ClientError::NoHive { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("this user may not use that socket: see --socket-group and [access] of `rbee-hive serve`".into())
            }
            Self::NoHive { .. } | Self::Client(ClientError::NoHive { .. }) => {
                Some("start one with `rbee-hive serve`, or name one with --socket, --url or RBEE_HIVE_URL".into())
            }
            Self::Drift { .. } => Some("it was changed from outside since it was made: stop the worker and start it again".into()),
            _ => self.data().and_then(|data| data.hint.clone()),
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // A transparent variant and its source say the same.
        let more = error.to_string();
        if !text.ends_with(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

/// `EPERM: Operation not permitted`.
fn errno_text(number: i32) -> String {
    match Errno::from_raw(number) {
        Errno::UnknownErrno => format!("errno {number}"),
        errno => format!("{errno:?}: {}", errno.desc()),
    }
}

/// The error as a person reads it: the sentence, then what else is known, a line each.
pub(crate) fn report(error: &CliError) -> String {
    let mut text = format!("error: {}\n", clean(&chain(error)));
    let mut add = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name}: {}", clean(value));
    };
    let none = ErrorData::default();
    let data = error.data().unwrap_or(&none);
    if let Some(kind) = &data.kind {
        add("kind", kind);
    }
    match (&data.step, data.errno) {
        (Some(step), Some(errno)) => add("step", &format!("{step} ({})", errno_text(errno))),
        (Some(step), None) => add("step", step),
        (None, Some(errno)) => add("errno", &errno_text(errno)),
        (None, None) => {}
    }
    if let Some(verdict) = &data.verdict {
        // The hive's sentence often ends with the verdict's own.
        let told = error.to_string().ends_with(&verdict.message);
        let verdict = if told { verdict.kind.name().to_owned() } else { format!("{} ({})", verdict.message, verdict.kind.name()) };
        add("verdict", &verdict);
    }
    if let Some(hint) = error.hint() {
        add("hint", &hint);
    }
    let list = |title: &str, lines: &[String]| match lines {
        [] => String::new(),
        lines => lines.iter().fold(format!("  {title}:\n"), |text, line| format!("{text}    {}\n", clean(line))),
    };
    let tried = match error {
        CliError::NoHive { tried } => tried.iter().map(|(place, why)| format!("{place}: {why}")).collect(),
        _ => data.tried.clone(),
    };
    text.push_str(&list("tried", &tried));
    text.push_str(&list("last log lines", &data.log_tail));
    text
}

#[cfg(test)]
mod tests {
    use rbee_hive_api::RpcError;
    use serde_json::json;

    use super::*;

    fn rpc(data: serde_json::Value) -> CliError {
        let error: RpcError = serde_json::from_value(json!({"code": -32000, "message": "it failed", "data": data})).unwrap();
        ClientError::Rpc(Box::new(error)).into()
    }

    #[test]
    fn everything_known_has_its_line() {
        let text = report(&rpc(json!({
            "kind": "setup_failed", "step": "mount proc", "errno": 1, "hint": "be root", "tried": ["/a", "/b"], "log_tail": ["one", "two"],
            "verdict": {"kind": "exited", "code": 3, "message": "exited with status 3"}
        })));
        let want = "error: it failed\n  kind: setup_failed\n  step: mount proc (EPERM: Operation not permitted)\n  \
            verdict: exited with status 3 (exited)\n  hint: be root\n  tried:\n    /a\n    /b\n  last log lines:\n    one\n    two\n";
        assert_eq!(text, want);
    }

    #[test]
    fn a_verdict_that_the_sentence_tells_is_only_named() {
        let text = report(&rpc(json!({"verdict": {"kind": "exited", "code": 3, "message": "failed"}})));
        assert_eq!(text, "error: it failed\n  verdict: exited\n");
    }

    #[test]
    fn what_is_not_known_has_none() {
        assert_eq!(report(&rpc(json!(null))), "error: it failed\n");
        assert_eq!(report(&rpc(json!({"kind": "not_found"}))), "error: it failed\n  kind: not_found\n");
        assert_eq!(report(&rpc(json!({"errno": 9999}))), "error: it failed\n  errno: errno 9999\n");
    }

    #[test]
    fn a_workers_words_cannot_move_the_cursor() {
        let text = report(&rpc(json!({"log_tail": ["\u{1b}[2Jgone\r"]})));
        assert!(!text.contains('\u{1b}') && !text.contains('\r') && text.contains("gone"), "{text:?}");
    }

    #[test]
    fn exit_status_tells_refused_usage_and_no_hive_apart() {
        assert_eq!(rpc(json!({})).status(), 1);
        assert_eq!(CliError::Usage("x".into()).status(), 2);
        let absent = || std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(CliError::NoHive { tried: vec![] }.status(), 3);
        assert_eq!(CliError::Client(ClientError::NoHive { endpoint: "e".into(), source: absent() }).status(), 3);
        let protocol = ClientError::Protocol { endpoint: "e".into(), problem: "p".into(), source: None };
        assert_eq!(CliError::Client(protocol).status(), 1);
    }

    #[test]
    fn causes_follow_in_one_line_and_places_in_their_own() {
        let source = std::io::Error::from_raw_os_error(2);
        let text = report(&CliError::ReadFile { path: "/p.toml".into(), source });
        assert!(text.starts_with("error: read \"/p.toml\": No such file"), "{text}");
        let text = report(&CliError::NoHive { tried: vec![("unix:///a".into(), "refused".into())] });
        assert!(text.contains("  tried:\n    unix:///a: refused\n") && text.contains("hint: start one"), "{text}");
    }
}
