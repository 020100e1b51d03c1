//! Messages between hive, launcher and init: what is understood is understood again when it is passed on, and comes to no harm in a plan.

use std::fmt::Debug;

use rbee_hive_policy::{HostFacts, Policy, WorkerRequest, compile, embedded};
use rbee_hive_sandbox::protocol::{Channel, FromInit, FromLauncher, MAX_MESSAGE, ToInit, ToLauncher};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn launcher(data: &[u8]) {
    if data.len() > MAX_MESSAGE {
        return;
    }
    if let Some(ToLauncher::Spawn { request, .. }) = passed_on::<ToLauncher>(data) {
        plan(&request);
    }
    passed_on::<FromLauncher>(data);
    passed_on::<ToInit>(data);
    passed_on::<FromInit>(data);
}

/// Decodes as a channel does, and does so again with what it would send on.
fn passed_on<M: Serialize + DeserializeOwned + Debug>(data: &[u8]) -> Option<M> {
    let message = Channel::<M, M>::decode(data).ok()?;
    let sent = serde_json::to_vec(&message).expect("a message can be encoded");
    let again = Channel::<M, M>::decode(&sent).unwrap_or_else(|e| panic!("{message:?} was understood, and is not when it is sent on: {e}"));
    assert_eq!(serde_json::to_vec(&again).expect("a message can be encoded"), sent);
    Some(message)
}

/// What the launcher would make of a request, on a host without anything.
fn plan(request: &WorkerRequest) {
    for name in ["mock", "default", "cpu-gguf"] {
        let text = embedded::policy(name).expect("it is embedded");
        let fragments = |name: &str| embedded::fragment(name).map(str::to_owned);
        let policy = Policy::parse(name, "embedded", text, &fragments).expect("it is right");
        if let Ok(plan) = compile(&policy, request, &HostFacts::default()) {
            for (key, limit) in &plan.limits {
                let most = policy.request.max.get(key).or_else(|| policy.limits.get(key).map(|own| &own.value));
                assert!(most.is_none_or(|most| limit.value.within(most)), "{key:?} is wider than the policy: {limit:?}");
            }
        }
    }
}
