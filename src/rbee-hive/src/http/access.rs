//! Lets in who may call: the middleware over [`AccessRules`], and what outlives its request.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::{Stream, StreamExt as _};
use serde_json::json;

use super::answer;
use super::peer::Peer;
use crate::access::{AccessRules, Credentials, Decision, Identity, Role, TokenHash, token_hash};
use crate::rpc::error_response;

/// How often a stream asks whether its reader may still read.
const RECHECK: Duration = Duration::from_secs(10);
/// To who is known and has no role.
const NO_ROLE: &str = "this caller may not call the hive: see [access] in the configuration, or --socket-group";
/// To who is not known.
const NOT_KNOWN: &str = "the caller is not known: call as a permitted user, or with a valid bearer token or client certificate";

/// What a route asks of its callers.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) rules: Arc<AccessRules>,
    /// The least role.
    pub(super) role: Role,
}

/// What a caller has shown, to be judged again while it stays: tokens are taken back and expire.
#[derive(Clone)]
pub(super) struct Pass {
    gate: Gate,
    peer: Peer,
    bearer: Option<TokenHash>,
}

impl Pass {
    /// Who it is now.
    async fn judge(&self) -> Decision {
        let Peer { uid, gids, certificate, .. } = &self.peer;
        let shown = Credentials { uid: *uid, gids, certificate: certificate.as_deref(), bearer: self.bearer.as_ref() };
        self.gate.rules.decide(shown).await
    }

    /// Who it is, where it still may use the route.
    pub(super) async fn identity(&self) -> Option<Identity> {
        match self.judge().await {
            Decision::Known { who, role } if role >= self.gate.role => Some(Identity { who, from: self.peer.from(), role }),
            _ => None,
        }
    }

    /// The stream, up to where its reader may no longer read it.
    pub(super) fn while_valid<S: Stream>(self, stream: S) -> impl Stream<Item = S::Item> {
        stream.take_until(async move {
            loop {
                tokio::time::sleep(RECHECK).await;
                if self.identity().await.is_none() {
                    return;
                }
            }
        })
    }
}

/// Refuses who may not call.
pub(super) async fn check(State(gate): State<Gate>, peer: Option<Extension<Peer>>, mut request: Request, next: Next) -> Response {
    let is_rpc = request.uri().path() == "/rpc";
    // The accept loop always gives one; without it nobody is known.
    let Some(Extension(peer)) = peer else { return refuse(is_rpc, (StatusCode::UNAUTHORIZED, NOT_KNOWN), None) };
    let pass = Pass { bearer: bearer(request.headers()).map(token_hash), gate, peer };
    let (gate, from) = (&pass.gate, pass.peer.from());
    let denied = |why: &str| gate.rules.denials.tell(&from, why);
    match pass.judge().await {
        Decision::Known { who, role } if role >= gate.role => {
            request.extensions_mut().insert(Identity { who, from, role });
            request.extensions_mut().insert(pass);
            next.run(request).await
        }
        Decision::Known { who, role } => {
            denied(&format!("{who} is {role}, {} needs {}", request.uri().path(), gate.role));
            let message = format!("this needs the role {}, and the caller has {role}", gate.role);
            refuse(is_rpc, (StatusCode::FORBIDDEN, &message), Some(gate.role))
        }
        Decision::Forbidden { who } => {
            denied(&format!("{who} has no role"));
            refuse(is_rpc, (StatusCode::FORBIDDEN, NO_ROLE), None)
        }
        Decision::Unauthorized { why } => {
            denied(&why);
            refuse(is_rpc, (StatusCode::UNAUTHORIZED, NOT_KNOWN), None)
        }
    }
}

fn refuse(is_rpc: bool, (status, message): (StatusCode, &str), needs: Option<Role>) -> Response {
    let kind = if status == StatusCode::FORBIDDEN { "forbidden" } else { "unauthorized" };
    let mut response = if is_rpc {
        let data = json!({"kind": kind, "needs": needs});
        (status, Json(error_response(serde_json::Value::Null, (-32000, message), Some(data)))).into_response()
    } else {
        answer::error(status, kind, message)
    };
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?;
    // Another scheme, or two of them, is a token that is not known rather than none: it must not fall back to the account.
    let (scheme, token) = given.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
    let only = headers.get_all(header::AUTHORIZATION).iter().count() == 1;
    Some(if only && scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" })
}
