//! JSON-RPC error objects.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Verdict;

/// The `error` member of a response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// −32700, −32600, −32601, −32602, −32603 by the protocol; −32000 for what the hive refuses or what failed.
    pub code: i64,
    /// One sentence for a person.
    pub message: String,
    /// What is known beyond the sentence; empty where there is none.
    #[serde(default, deserialize_with = "lenient")]
    pub data: ErrorData,
}

/// `data` of an error. Absent members are `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorData {
    /// A word such as `no_such_device`; the list is in `API.md`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The parameter at fault, for −32602.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The setup step that failed, as in `mount proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// `errno(3)` number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Every place tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
    /// Verdict of a worker that died while starting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The last lines of its log, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
}

/// An error must be readable whatever its `data` is: a shape from another version would otherwise hide the message.
fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ErrorData, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let kind = value.get("kind").and_then(Value::as_str).map(str::to_owned);
    Ok(serde_json::from_value(value).unwrap_or(ErrorData { kind, ..ErrorData::default() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_of_any_shape_leaves_the_message_readable() {
        for data in [json!(null), json!("text"), json!([1]), json!({"kind": "not_found", "tried": 5})] {
            let error: RpcError = serde_json::from_value(json!({"code": -32000, "message": "m", "data": data})).unwrap();
            assert_eq!(error.message, "m");
            assert_eq!(error.data.kind.is_some(), data.is_object());
        }
        let bare: RpcError = serde_json::from_value(json!({"code": -32601, "message": "m"})).unwrap();
        assert_eq!(bare.data, ErrorData::default());
    }

    #[test]
    fn known_members_are_read() {
        let data = json!({"kind": "setup_failed", "step": "mount proc", "errno": 1, "hint": "h", "tried": ["/a"], "log_tail": ["x"],
            "verdict": {"kind": "exited", "code": 3, "message": "exited with status 3"}, "more": true});
        let error: RpcError = serde_json::from_value(json!({"code": -32000, "message": "m", "data": data})).unwrap();
        assert_eq!((error.data.step.as_deref(), error.data.errno), (Some("mount proc"), Some(1)));
        assert_eq!((error.data.tried, error.data.log_tail), (vec!["/a".to_owned()], vec!["x".to_owned()]));
        assert_eq!(error.data.verdict.unwrap().message, "exited with status 3");
    }
}
