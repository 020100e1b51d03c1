//! From request bodies to responses, over jsonrpsee's module of methods.
//!
//! jsonrpsee's own HTTP service is not used: it answers notifications with `null`, loses the connection on a panic, and knows
//! no id but strings and natural numbers (all tried). Its module is, so that subscriptions can come over WebSocket.

use std::sync::Arc;

use jsonrpsee::RpcModule;
use jsonrpsee::types::ErrorObjectOwned;
use rbee_hive_policy::WorkerId;
use rbee_hive_worker_lifecycle::ClientGone;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::envelope::{self, Body, Item};
use super::error::{INTERNAL, REFUSED, error_response, from_refusal};
use super::method::{Method, WhenClientLeaves};
use super::methods::METHODS;
use crate::access::audit::Change;
use crate::access::{Denials, Identity, Role};
use crate::hive::{Caller, HiveState};
use crate::params::Fields;

/// Most calls that run at one time; each may outlive its client.
const MAX_CALLS: usize = 1024;

/// The JSON-RPC side of a hive.
#[derive(Clone)]
pub(crate) struct Rpc {
    module: Arc<RpcModule<HiveState>>,
    calls: Arc<Semaphore>,
    denials: Arc<Denials>,
}

impl Rpc {
    /// Registers every method of the table.
    pub(crate) fn new(state: Arc<HiveState>) -> anyhow::Result<Self> {
        let denials = Arc::clone(&state.access.denials);
        let mut module = RpcModule::from_arc(state);
        for method in METHODS {
            register(&mut module, *method)?;
        }
        Ok(Self { module: Arc::new(module), calls: Arc::new(Semaphore::new(MAX_CALLS)), denials })
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

    fn denied(&self, caller: Option<&Identity>, method: &str, needs: Role) {
        let (from, who) = caller.map_or(("", "nobody".into()), |caller| (&*caller.from, format!("{} is {}", caller.who, caller.role)));
        self.denials.tell(from, &format!("{who}, {method} needs {needs}"));
    }

    /// Runs a call in a task of its own: a panic becomes an error response, and the client's going does not cut work in half.
    async fn call(&self, id: Value, method: String, params: Option<Value>) -> Value {
        let known = METHODS.iter().find(|m| m.name == method);
        let caller = Caller::current();
        let change = match admitted(known, caller.identity.as_ref(), params.as_ref()) {
            Ok(change) => change,
            Err(needs) => {
                self.denied(caller.identity.as_ref(), &method, needs);
                return forbidden(id, needs, caller.identity.as_ref());
            }
        };
        let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
            let message = format!("{MAX_CALLS} calls are running already");
            ended(change, Some("at_capacity"), None);
            return error_response(id, (REFUSED, &message), Some(json!({"kind": "at_capacity"})));
        };
        let leaving = known.map_or(WhenClientLeaves::Abandon, |m| m.when_client_leaves);
        let module = Arc::clone(&self.module);
        // Dropped with this future: at the answer, or when the client has gone.
        let (_here, gone) = ClientGone::pair();
        let caller = Caller { gone: Some(gone), ..caller };
        let task = tokio::spawn(caller.runs(async move {
            let _permit = permit;
            let response = raw_call(&module, &method, params).await;
            ended(change, None, response.as_ref());
            response
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

/// The record of a change that begins, or nothing where `method` only reads; the error is the role that is missing.
fn admitted(method: Option<&Method>, caller: Option<&Identity>, params: Option<&Value>) -> Result<Option<Change>, Role> {
    let needs = method.map_or(Role::Observe, |m| m.role);
    let caller = caller.filter(|caller| caller.role >= needs).ok_or(needs)?;
    Ok(method.filter(|_| needs > Role::Observe).map(|method| Change::begin(caller, method.name, worker_id(method, params))))
}

/// The worker that a request names, where that is a name at all: nothing else of the parameters may be told.
fn worker_id(method: &Method, params: Option<&Value>) -> Option<String> {
    let place = method.params.iter().position(|param| param.name == "worker_id")?;
    let given = match params? {
        Value::Array(list) => list.get(place)?,
        by_name => by_name.get("worker_id")?,
    };
    WorkerId::parse(given.as_str()?).ok().map(|id| id.to_string())
}

fn ended(change: Option<Change>, outcome: Option<&str>, response: Option<&Value>) {
    let Some(mut change) = change else { return };
    let made = response.and_then(|response| response["result"]["worker_id"].as_str());
    change.about(made.map(str::to_owned));
    let kind = response.and_then(|response| response.get("error")).map(|error| error["data"]["kind"].as_str().unwrap_or("invalid_params"));
    change.ended(outcome.or(kind).unwrap_or("ok"));
}

fn forbidden(id: Value, needs: Role, caller: Option<&Identity>) -> Value {
    let has = caller.map_or("none", |caller| caller.role.name());
    let message = format!("this method needs the role {needs}, and the caller has {has}");
    error_response(id, (REFUSED, &message), Some(json!({"kind": "forbidden", "needs": needs, "has": has})))
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
