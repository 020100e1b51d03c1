//! Who may call: a pure rule over the peer and its token, and the middleware that applies it.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer;
use super::peer::Peer;
use crate::rpc::error_response;

/// Who may call.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessRules {
    /// Root, who started the hive, and configured users.
    pub(crate) uids: BTreeSet<u32>,
    /// The socket's group and configured groups.
    pub(crate) gids: BTreeSet<u32>,
    /// SHA-256 of the token, so that a comparison always takes the same time.
    token: Option<[u8; 32]>,
}

/// What the rules say to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Go on.
    Allowed,
    /// Nobody knows who it is, or its token is wrong.
    Unauthorized,
    /// It is known, and not among those who may.
    Forbidden,
}

impl AccessRules {
    /// Also lets in whoever presents `token`.
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(Sha256::digest(token).into());
        self
    }

    /// The rule itself.
    pub(crate) fn decide(&self, peer: &Peer, bearer: Option<&str>) -> Decision {
        if let Some(given) = bearer {
            let given: [u8; 32] = Sha256::digest(given).into();
            return match self.token {
                Some(token) if bool::from(token.ct_eq(&given)) => Decision::Allowed,
                // A wrong token is not made good by an account: its sender believes to be somebody else.
                _ => Decision::Unauthorized,
            };
        }
        match peer.uid {
            Some(uid) if self.uids.contains(&uid) => Decision::Allowed,
            Some(_) if peer.gids.iter().any(|gid| self.gids.contains(gid)) => Decision::Allowed,
            Some(_) => Decision::Forbidden,
            None => Decision::Unauthorized,
        }
    }
}

/// Refuses who may not call.
pub(super) async fn check(State(rules): State<Arc<AccessRules>>, peer: Option<Extension<Peer>>, request: Request, next: Next) -> Response {
    // Without a peer (which the accept loop always gives) nobody is known.
    let decision = peer.map_or(Decision::Unauthorized, |Extension(peer)| rules.decide(&peer, bearer(request.headers())));
    let (status, kind, message) = match decision {
        Decision::Allowed => return next.run(request).await,
        Decision::Unauthorized => {
            (StatusCode::UNAUTHORIZED, "unauthorized", "the caller is not known: call as a permitted user, or with a valid bearer token")
        }
        Decision::Forbidden => {
            (StatusCode::FORBIDDEN, "forbidden", "this user may not call the hive: see [access] in the configuration, or --socket-group")
        }
    };
    if request.uri().path() == "/rpc" {
        let body = error_response(serde_json::Value::Null, (-32000, message), Some(json!({"kind": kind})));
        return (status, Json(body)).into_response();
    }
    answer::error(status, kind, message)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::peer::Transport;

    fn peer(uid: Option<u32>, gids: &[u32]) -> Peer {
        Peer { transport: Transport::Tcp, uid, gids: gids.to_vec() }
    }

    fn rules() -> AccessRules {
        AccessRules { uids: [0, 1000].into(), gids: [50].into(), token: None }
    }

    #[test]
    fn listed_users_and_members_of_listed_groups_may_call() {
        assert_eq!(rules().decide(&peer(Some(0), &[]), None), Decision::Allowed);
        assert_eq!(rules().decide(&peer(Some(1000), &[]), None), Decision::Allowed);
        assert_eq!(rules().decide(&peer(Some(1001), &[7, 50]), None), Decision::Allowed);
        assert_eq!(rules().decide(&peer(Some(1001), &[7]), None), Decision::Forbidden);
        assert_eq!(rules().decide(&peer(None, &[]), None), Decision::Unauthorized);
    }

    #[test]
    fn the_token_lets_in_and_a_wrong_one_does_not() {
        let with = rules().with_token("secret");
        assert_eq!(with.decide(&peer(None, &[]), Some("secret")), Decision::Allowed);
        for wrong in ["", "Secret", "secret2", "secre"] {
            assert_eq!(with.decide(&peer(Some(0), &[]), Some(wrong)), Decision::Unauthorized, "{wrong:?}");
        }
        assert_eq!(rules().decide(&peer(None, &[]), Some("secret")), Decision::Unauthorized);
    }
}
