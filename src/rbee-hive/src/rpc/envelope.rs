//! Request bodies: single calls, notifications, batches, and what is none of them.

use serde_json::Value;

use crate::json::{self, JsonError};

use super::error::{INVALID_REQUEST, PARSE, error_response};

/// Most requests in one batch.
pub(crate) const MAX_BATCH: usize = 64;

/// A body that holds requests.
#[derive(Debug)]
pub(crate) enum Body {
    /// One request.
    Single(Item),
    /// 1 to [`MAX_BATCH`] requests.
    Batch(Vec<Item>),
}

/// One request as far as the protocol goes.
#[derive(Debug)]
pub(crate) enum Item {
    /// A request; without `id` it is a notification and gets no answer.
    Call {
        /// Null, a number or a string.
        id: Option<Value>,
        /// Method name.
        method: String,
        /// Object, array, or nothing.
        params: Option<Value>,
    },
    /// Not a request; the response to it.
    Invalid(Value),
}

/// Reads a body; the error is the response to it.
pub(crate) fn parse(body: &[u8]) -> Result<Body, Value> {
    let refuse = |code, message: &str| Err(error_response(Value::Null, (code, message), None));
    let value = match json::parse(body) {
        Ok(value) => value,
        Err(JsonError::Malformed(_)) => return refuse(PARSE, "parse error: the body is not JSON"),
        Err(twice) => return refuse(INVALID_REQUEST, &format!("invalid request: {twice}")),
    };
    match value {
        Value::Array(list) if list.is_empty() => refuse(INVALID_REQUEST, "invalid request: the batch is empty"),
        Value::Array(list) if list.len() > MAX_BATCH => {
            refuse(INVALID_REQUEST, &format!("invalid request: {} requests in a batch, at most {MAX_BATCH}", list.len()))
        }
        Value::Array(list) => Ok(Body::Batch(list.into_iter().map(item).collect())),
        single => Ok(Body::Single(item(single))),
    }
}

fn item(value: Value) -> Item {
    let invalid = |id: Value, why: &str| Item::Invalid(error_response(id, (INVALID_REQUEST, &format!("invalid request: {why}")), None));
    let Value::Object(mut members) = value else { return invalid(Value::Null, "not an object") };
    let id = members.remove("id");
    // Only a usable id may be sent back; for others the answer's is null.
    let known_id = match &id {
        Some(Value::Null | Value::Number(_) | Value::String(_)) => id.clone().unwrap_or(Value::Null),
        None => Value::Null,
        Some(_) => return invalid(Value::Null, "id is not null, a number or a string"),
    };
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return invalid(known_id, "jsonrpc is not \"2.0\"");
    }
    let Some(Value::String(method)) = members.remove("method") else {
        return invalid(known_id, "method is not a string");
    };
    let params = members.remove("params");
    if !matches!(params, None | Some(Value::Object(_) | Value::Array(_))) {
        return invalid(known_id, "params is not an object or an array");
    }
    Item::Call { id, method, params }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(response: &Value) -> i64 {
        response["error"]["code"].as_i64().unwrap()
    }

    fn invalid(body: Value) -> Value {
        match parse(body.to_string().as_bytes()) {
            Ok(Body::Single(Item::Invalid(response))) => response,
            other => panic!("accepted: {other:?}"),
        }
    }

    #[test]
    fn what_is_not_json_is_a_parse_error() {
        for text in ["", "{", "{\"jsonrpc\": \"2.0\", \"method\": \"a\", \"par", "nope"] {
            assert_eq!(code(&parse(text.as_bytes()).unwrap_err()), -32700, "{text:?}");
        }
    }

    #[test]
    fn a_name_that_is_given_twice_is_refused_wherever_it_stands() {
        let body = br#"{"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"limits": {"pids_max": 5, "pids_max": 50}}}"#;
        let response = parse(body).unwrap_err();
        assert_eq!(code(&response), -32600);
        assert!(response["error"]["message"].as_str().unwrap().contains("\"pids_max\" is given twice"), "{response}");
    }

    #[test]
    fn empty_and_oversized_batches_are_invalid_requests() {
        assert_eq!(code(&parse(b"[]").unwrap_err()), -32600);
        let many = Value::Array(vec![json!({"jsonrpc": "2.0", "method": "m"}); MAX_BATCH + 1]).to_string();
        assert_eq!(code(&parse(many.as_bytes()).unwrap_err()), -32600);
    }

    #[test]
    fn what_is_no_request_is_told_with_its_id_where_it_has_one() {
        assert_eq!(invalid(json!(1))["id"], Value::Null);
        assert_eq!(invalid(json!({"jsonrpc": "1.0", "id": 7, "method": "m"}))["id"], json!(7));
        assert_eq!(invalid(json!({"jsonrpc": "2.0", "id": "x", "method": 1}))["id"], json!("x"));
        assert_eq!(invalid(json!({"jsonrpc": "2.0", "id": {}, "method": "m"}))["id"], Value::Null);
        assert_eq!(code(&invalid(json!({"jsonrpc": "2.0", "id": 1, "method": "m", "params": "x"}))), -32600);
    }

    #[test]
    fn a_null_id_is_a_call_and_an_absent_one_a_notification() {
        let with = |body: Value| match parse(body.to_string().as_bytes()) {
            Ok(Body::Single(Item::Call { id, .. })) => id,
            other => panic!("{other:?}"),
        };
        assert_eq!(with(json!({"jsonrpc": "2.0", "id": null, "method": "m"})), Some(Value::Null));
        assert_eq!(with(json!({"jsonrpc": "2.0", "method": "m"})), None);
    }
}
