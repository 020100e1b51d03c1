//! What lies behind a hive's access: the files, which `hive_info` tells of, and the record of refused callers.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Denials, ServerTls, TokenSet, Watched};

/// What lies behind a hive's access.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessState {
    /// Bearer tokens.
    pub(crate) tokens: Option<Arc<Watched<TokenSet>>>,
    /// TLS on the TCP port.
    pub(crate) tls: Option<Arc<Watched<ServerTls>>>,
    /// Where refused callers are told.
    pub(crate) denials: Arc<Denials>,
}

impl AccessState {
    /// `{tokens: null | {valid, expired, problem}, tls: null | {names, problem}}`. Looks for changes first.
    pub(crate) async fn told(&self) -> Value {
        let mut told = json!({"tokens": null, "tls": null});
        if let Some(tokens) = &self.tokens {
            let (set, now) = (tokens.fresh().await, Timestamp::now());
            let expired = set.entries().filter(|token| token.expires.is_some_and(|end| end <= now)).count();
            told["tokens"] = json!({"valid": set.entries().count() - expired, "expired": expired, "problem": tokens.problem()});
        }
        if let Some(tls) = &self.tls {
            let set = tls.fresh().await;
            told["tls"] = json!({"names": &*set.names, "problem": tls.problem()});
        }
        told
    }
}
