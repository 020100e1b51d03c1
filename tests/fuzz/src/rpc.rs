//! The front: bodies of requests, and the parameters in them.

use serde_json::Value;

use crate::params::{Fields, SPAWN_PARAMS, parse_signal, parse_spawn, parse_wait_for};

#[path = "../../../src/rbee-hive/src/rpc/envelope.rs"]
#[allow(dead_code, reason = "the hive uses all of it")]
mod envelope;
#[path = "../../../src/rbee-hive/src/rpc/error.rs"]
#[allow(dead_code, reason = "the hive uses all of it")]
mod error;

use envelope::{Body, Item, MAX_BATCH};

pub(crate) fn rpc(data: &[u8]) {
    match envelope::parse(data) {
        Err(response) => well_formed(&response),
        Ok(Body::Single(item)) => read(item),
        Ok(Body::Batch(items)) => {
            assert!((1..=MAX_BATCH).contains(&items.len()));
            items.into_iter().for_each(read);
        }
    }
}

fn read(item: Item) {
    let (id, method, params) = match item {
        Item::Invalid(response) => return well_formed(&response),
        Item::Call { id, method, params } => (id, method, params),
    };
    assert!(matches!(id, None | Some(Value::Null | Value::Number(_) | Value::String(_))), "an id that can't be sent back");
    let refused = match Fields::check(params.clone(), SPAWN_PARAMS) {
        Ok(mut fields) => {
            parse_spawn(&mut fields, "worker_id").map(|spawn| assert!(!spawn.model.is_empty() && !spawn.model.contains('\0')))
        }
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = refused {
        let told = error::from_refusal(&refusal);
        assert!(!told.message().is_empty() && refusal.data()["kind"].is_string());
    }
    let _ = parse_wait_for(&method);
    if let Some(Value::Object(members)) = params {
        for value in members.values() {
            if let Ok(signal) = parse_signal(value) {
                assert!((1..=64).contains(&signal));
            }
        }
    }
}

fn well_formed(response: &Value) {
    assert_eq!(response["jsonrpc"], "2.0");
    assert!(response["error"]["code"].is_i64() && response.get("id").is_some(), "{response}");
}
