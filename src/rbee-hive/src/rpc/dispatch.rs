//! From request bodies to responses, over jsonrpsee's module of methods.
//!
//! jsonrpsee's own HTTP service is not used: it answers notifications with `null`, loses the connection on a panic, and knows
//! no id but strings and natural numbers (all tried). Its module is, so that subscriptions can come over WebSocket.

use std::sync::Arc;

use jsonrpsee::RpcModule;
use jsonrpsee::types::ErrorObjectOwned;
use rbee_hive_worker_lifecycle::ClientGone;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::envelope::{self, Body, Item};
use super::error::{INTERNAL, REFUSED, error_response, from_refusal};
use super::method::{Method, WhenClientLeaves};
use super::methods::METHODS;
use crate::hive::{Caller, HiveState};
use crate::params::Fields;

/// Most calls that run at one time; each may outlive its client.
const MAX_CALLS: usize = 1024;

/// The JSON-RPC side of a hive.
#[derive(Clone)]
pub(crate) struct Rpc {
    module: Arc<RpcModule<HiveState>>,
    calls: Arc<Semaphore>,
}

impl Rpc {
    /// Registers every method of the table.
    pub(crate) fn new(state: Arc<HiveState>) -> anyhow::Result<Self> {
        let mut module = RpcModule::from_arc(state);
        for method in METHODS {
            register(&mut module, *method)?;
        }
        Ok(Self { module: Arc::new(module), calls: Arc::new(Semaphore::new(MAX_CALLS)) })
    }

    /// Answers a request body; `None` where there is nothing to say (notifications).
    ///
    /// The requests of a batch are carried out one after the other, in order.
    pub(crate) async fn handle(&self, body: &[u8]) -> Option<Value> {
        match envelope::parse(body) {
            Err(response) => Some(response),
            Ok(Body::Single(item)) => self.item(item).await,
            Ok(Body::Batch(items)) => {
                let mut responses = Vec::with_capacity(items.len());
                for item in items {
                    responses.extend(self.item(item).await);
                }
                (!responses.is_empty()).then_some(Value::Array(responses))
            }
        }
    }

    async fn item(&self, item: Item) -> Option<Value> {
        match item {
            Item::Invalid(response) => Some(response),
            Item::Call { id: None, method, params } => {
                self.call(Value::Null, method, params).await;
                None
            }
            Item::Call { id: Some(id), method, params } => Some(self.call(id, method, params).await),
        }
    }

    /// Runs a call in a task of its own: a panic becomes an error response, and the client's going does not cut work in half.
    async fn call(&self, id: Value, method: String, params: Option<Value>) -> Value {
        let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
            let message = format!("{MAX_CALLS} calls are running already");
            return error_response(id, (REFUSED, &message), Some(json!({"kind": "at_capacity"})));
        };
        let leaving = METHODS.iter().find(|m| m.name == method).map_or(WhenClientLeaves::Abandon, |m| m.when_client_leaves);
        let module = Arc::clone(&self.module);
        // Dropped with this future: at the answer, or when the client has gone.
        let (_here, gone) = ClientGone::pair();
        let caller = Caller { gone: Some(gone), ..Caller::current() };
        let task = tokio::spawn(caller.runs(async move {
            let _permit = permit;
            raw_call(&module, &method, params).await
        }));
        let joined = match leaving {
            WhenClientLeaves::Finish => task.await,
            WhenClientLeaves::Abandon => AbortOnDropHandle::new(task).await,
        };
        match joined {
            Ok(Some(mut response)) => {
                response["id"] = id;
                response
            }
            Ok(None) => error_response(id, (INTERNAL, "internal error: the answer could not be encoded"), None),
            Err(source) => {
                tracing::error!(%source, "a method ended abnormally");
                error_response(id, (INTERNAL, "internal error"), None)
            }
        }
    }
}

/// Calls through jsonrpsee under an id of our own: it takes fewer kinds of ids than the protocol has.
async fn raw_call(module: &RpcModule<HiveState>, method: &str, params: Option<Value>) -> Option<Value> {
    let mut request = json!({"jsonrpc": "2.0", "id": 0, "method": method});
    if let Some(params) = params {
        request["params"] = params;
    }
    // The buffer is for subscriptions, which do not come this way.
    let (response, _) = module.raw_json_request(&request.to_string(), 1).await.ok()?;
    serde_json::from_str(response.get()).ok()
}

fn register(module: &mut RpcModule<HiveState>, method: Method) -> anyhow::Result<()> {
    module.register_async_method(method.name, move |params, state, _| {
        let given = params.as_str().map(|text| serde_json::from_str::<Value>(text).unwrap_or(Value::Null));
        async move {
            let answer = match Fields::check(given, method.params) {
                Ok(fields) => (method.call)(state, fields).await,
                Err(refusal) => Err(refusal),
            };
            answer.map_err(|refusal| -> ErrorObjectOwned { from_refusal(&refusal) })
        }
    })?;
    Ok(())
}
