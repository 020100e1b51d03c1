//! Why a request is refused or has failed, whichever interface it came by.

use rbee_hive_worker_lifecycle::{ErrorKind, LifecycleError};
use serde_json::{Map, Value, json};

/// A refusal or failure, with the text that its caller reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A parameter is missing, unknown or wrong.
    #[error("{field}: {message}")]
    Params {
        /// The parameter's name.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// `hive_id` is not ours.
    #[error("unknown hive {given:?}: this one is \"localhost\" or {own:?}")]
    UnknownHive {
        /// What was given.
        given: String,
        /// Our own id.
        own: String,
    },
    /// The spawner said no.
    #[error(transparent)]
    Lifecycle(Box<LifecycleError>),
}

impl From<LifecycleError> for Refusal {
    fn from(error: LifecycleError) -> Self {
        Self::Lifecycle(Box::new(error))
    }
}

impl Refusal {
    /// A parameter that can't be used.
    pub(crate) fn params(field: &str, message: impl Into<String>) -> Self {
        Self::Params { field: field.chars().take(80).collect(), message: message.into() }
    }

    /// The kind as on the wire.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Params { .. } => "invalid_params".into(),
            Self::UnknownHive { .. } => "unknown_hive".into(),
            Self::Lifecycle(error) => kind_text(error.kind),
        }
    }

    /// Whether the caller's parameters are to blame rather than the state of things.
    pub(crate) fn is_params(&self) -> bool {
        match self {
            Self::Params { .. } => true,
            Self::UnknownHive { .. } => false,
            Self::Lifecycle(error) => error.kind == ErrorKind::InvalidParams,
        }
    }

    /// `data` of the error object: `kind`, and what else is known.
    pub(crate) fn data(&self) -> Value {
        let mut data = Map::from_iter([("kind".to_owned(), json!(self.kind()))]);
        match self {
            Self::Params { field, .. } => {
                data.insert("field".into(), json!(field));
            }
            Self::UnknownHive { .. } => {}
            Self::Lifecycle(error) => add_lifecycle(&mut data, error),
        }
        Value::Object(data)
    }
}

/// The wire text of a kind.
fn kind_text(kind: ErrorKind) -> String {
    match serde_json::to_value(kind) {
        Ok(Value::String(text)) => text,
        // Unreachable as long as the kinds are plain words, which a test checks.
        _ => "setup_failed".into(),
    }
}

fn add_lifecycle(data: &mut Map<String, Value>, error: &LifecycleError) {
    let mut add = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            data.insert(key.into(), value);
        }
    };
    add("step", error.step.as_ref().map(|v| json!(v)));
    add("errno", error.errno.map(|v| json!(v)));
    add("hint", error.hint.as_ref().map(|v| json!(v)));
    add("tried", (!error.tried.is_empty()).then(|| json!(error.tried)));
    add("verdict", error.verdict.as_ref().map(|v| json!(v)));
    add("log_tail", (!error.log_tail.is_empty()).then(|| json!(error.log_tail)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_the_words_of_the_contract() {
        assert_eq!(kind_text(ErrorKind::NoSuchDevice), "no_such_device");
        assert_eq!(kind_text(ErrorKind::SetupFailed), "setup_failed");
        assert_eq!(kind_text(ErrorKind::ModelNotReadable), "model_not_readable");
    }

    #[test]
    fn data_holds_what_is_known_and_no_operator_detail() {
        let mut error = LifecycleError::new(ErrorKind::SetupFailed, "step failed");
        error.step = Some("mount proc".into());
        error.errno = Some(1);
        error.detail = Some("/secret/path".into());
        let data = Refusal::from(error).data();
        assert_eq!(data, json!({"kind": "setup_failed", "step": "mount proc", "errno": 1}));
    }
}
