//! The subscriptions of one connection: begun and ended by requests, read together.
//!
//! Readers pull, so that a connection that is slow to write holds nothing back: what is lost meanwhile is told by a `cut`. Must never know how
//! notifications travel.

use std::future::pending;
use std::sync::Arc;

use rbee_hive_worker_lifecycle::{EventHub, EventKind, Feed, Filter};
use serde_json::{Value, json};

use super::envelope::{self, Body, Item};
use super::error::{error_response, from_refusal};
use super::methods::{SUBSCRIBE, UNSUBSCRIBE};
use crate::params::{Fields, Refusal};

/// Most subscriptions of one connection.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 16;

/// The subscriptions of one connection.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    hub: Arc<EventHub>,
    list: Vec<(u64, Feed)>,
    begun: u64,
}

impl Subscriptions {
    /// None as yet.
    pub(crate) fn new(hub: Arc<EventHub>) -> Self {
        Self { hub, list: vec![], begun: 0 }
    }

    /// Answers a message that begins or ends a subscription; `None`: it is about something else. The inner `None`: it is a notification.
    pub(crate) fn answer(&mut self, message: &[u8]) -> Option<Option<Value>> {
        let Ok(Body::Single(Item::Call { id, method, params })) = envelope::parse(message) else { return None };
        let result = match method.as_str() {
            name if name == SUBSCRIBE.name => self.subscribe(params),
            name if name == UNSUBSCRIBE.name => self.unsubscribe(params),
            _ => return None,
        };
        Some(id.map(|id| match result {
            Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": id}),
            Err(refusal) => {
                let error = from_refusal(&refusal);
                let data = error.data().and_then(|data| serde_json::from_str(data.get()).ok());
                error_response(id, (error.code(), error.message()), data)
            }
        }))
    }

    fn subscribe(&mut self, params: Option<Value>) -> Result<Value, Refusal> {
        let mut fields = Fields::check(params, SUBSCRIBE.params)?;
        let worker_id = fields.optional_worker_id("worker_id")?.map(|id| id.to_string());
        let filter = Filter { worker_id, kind: kind(fields.take("kind")?)? };
        let after: Option<u64> = fields.take("after")?;
        if self.list.len() >= MAX_SUBSCRIPTIONS {
            let text = format!("this connection has {MAX_SUBSCRIPTIONS} subscriptions already: end one with worker_unsubscribe");
            return Err(rbee_hive_worker_lifecycle::LifecycleError::new(rbee_hive_worker_lifecycle::ErrorKind::AtCapacity, text).into());
        }
        self.begun += 1;
        self.list.push((self.begun, Feed::new(Arc::clone(&self.hub), after, filter)));
        Ok(json!(self.begun))
    }

    fn unsubscribe(&mut self, params: Option<Value>) -> Result<Value, Refusal> {
        let number: u64 = Fields::check(params, UNSUBSCRIBE.params)?.need("subscription")?;
        let before = self.list.len();
        self.list.retain(|(own, _)| *own != number);
        Ok(json!(self.list.len() < before))
    }

    /// The next notifications, in order; for ever, without a subscription. Nothing is lost when this is not awaited to its end.
    pub(crate) async fn next(&mut self) -> Vec<Value> {
        // The one that is the furthest behind: only where that one has read all there is, all of them wait.
        let Some((number, feed)) = self.list.iter_mut().min_by_key(|(_, feed)| feed.place()) else { return pending().await };
        let events = feed.next().await;
        let told =
            |event: &Arc<_>| json!({"jsonrpc": "2.0", "method": "worker_event", "params": {"subscription": *number, "result": **event}});
        events.iter().map(told).collect()
    }
}

/// The kind of this name, if one was given.
pub(crate) fn kind(name: Option<String>) -> Result<Option<EventKind>, Refusal> {
    let known = || EventKind::ALL.map(EventKind::name).join(", ");
    name.map(|name| EventKind::parse(&name).ok_or_else(|| Refusal::params("kind", format!("must be one of {}", known())))).transpose()
}

#[cfg(test)]
mod tests {
    use rbee_hive_policy::WorkerId;
    use rbee_hive_worker_lifecycle::About;

    use super::*;

    fn ask(subscriptions: &mut Subscriptions, method: &str, params: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": "x", "method": method, "params": params}).to_string();
        subscriptions.answer(message.as_bytes()).unwrap().unwrap()
    }

    fn tell(hub: &EventHub, id: &str) {
        hub.tell(EventKind::State, About::worker(&WorkerId::parse(id).unwrap(), 1), json!({"state": "ready"}));
    }

    #[tokio::test]
    async fn each_subscription_gets_what_it_wants_once_and_nothing_after_its_end() {
        let hub = Arc::new(EventHub::default());
        tell(&hub, "a");
        let mut all = Subscriptions::new(Arc::clone(&hub));
        assert_eq!(ask(&mut all, "worker_subscribe", json!({"after": 0}))["result"], 1);
        assert_eq!(ask(&mut all, "worker_subscribe", json!({"worker_id": "b"}))["result"], 2);
        tell(&hub, "b");
        let mut told = vec![];
        for _ in 0..2 {
            told.extend(all.next().await);
        }
        let of = |n: u64| {
            told.iter().map(|t| &t["params"]).filter(|p| p["subscription"] == n).map(|p| p["result"]["seq"].clone()).collect::<Vec<_>>()
        };
        assert_eq!((of(1), of(2)), (vec![json!(1), json!(2)], vec![json!(2)]), "{told:?}");
        assert!(told.iter().all(|t| t["method"] == "worker_event" && t.get("id").is_none()));
        assert_eq!(ask(&mut all, "worker_unsubscribe", json!([1]))["result"], true);
        assert_eq!(ask(&mut all, "worker_unsubscribe", json!([1]))["result"], false);
        tell(&hub, "b");
        assert_eq!(all.next().await.len(), 1);
    }

    #[test]
    fn wrong_and_too_many_subscriptions_are_refused_and_others_are_left_alone() {
        let mut all = Subscriptions::new(Arc::default());
        for wrong in [json!({"kind": "weather"}), json!({"worker_id": "a/b"}), json!({"after": -1}), json!({"colour": 1})] {
            assert_eq!(ask(&mut all, "worker_subscribe", wrong)["error"]["code"], -32602);
        }
        for n in 1..=MAX_SUBSCRIPTIONS {
            assert_eq!(ask(&mut all, "worker_subscribe", json!({}))["result"], n);
        }
        assert_eq!(ask(&mut all, "worker_subscribe", json!({}))["error"]["data"]["kind"], "at_capacity");
        assert!(all.answer(br#"{"jsonrpc": "2.0", "id": 1, "method": "hive_info"}"#).is_none());
        assert!(all.answer(b"nonsense").is_none());
    }
}
