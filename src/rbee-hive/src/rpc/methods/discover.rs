//! `rpc.discover`

use serde_json::{Value, json};

use super::super::method::{Method, WhenClientLeaves};
use super::{METHODS, NOTHING};
use crate::params::Need;

/// The table of methods as an OpenRPC document.
fn openrpc() -> Value {
    let methods: Vec<Value> = METHODS
        .iter()
        .map(|method| {
            let params: Vec<Value> = method
                .params
                .iter()
                .map(|param| {
                    let schema: Value = serde_json::from_str(param.schema).unwrap_or(Value::Bool(true));
                    json!({"name": param.name, "required": param.need == Need::Required, "schema": schema})
                })
                .collect();
            json!({"name": method.name, "summary": method.summary, "params": params, "paramStructure": "either", "result": {"name": "result", "schema": {}}})
        })
        .collect();
    json!({"openrpc": "1.3.2", "info": {"title": "rbee-hive", "version": env!("CARGO_PKG_VERSION")}, "methods": methods})
}

/// The method.
pub(super) const METHOD: Method = Method {
    name: "rpc.discover",
    summary: "This description",
    params: NOTHING,
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |_, _| Box::pin(async move { Ok(openrpc()) }),
};
