//! Keeps web pages out: on TCP the `Host` must be this machine by a loopback name, and an `Origin` must be that same host.
//!
//! Without it a page anywhere could reach the hive through its reader's browser (DNS rebinding, cross-site requests).

use axum::Extension;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::answer;
use super::peer::{Peer, Transport};

/// Refuses requests with a foreign `Host` or `Origin`.
pub(super) async fn check(peer: Option<Extension<Peer>>, request: Request, next: Next) -> Response {
    if matches!(&peer, Some(Extension(peer)) if peer.transport == Transport::Unix) {
        return next.run(request).await;
    }
    match refusal(request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(why) => answer::error(StatusCode::FORBIDDEN, "forbidden", why),
    }
}

/// Why a request is refused, if it is.
fn refusal(uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let text = |name| headers.get(name).map(|v: &header::HeaderValue| v.to_str().unwrap_or(""));
    let Some(host) = text(header::HOST) else { return Some("the request has no Host") };
    let all_local = [Some(host), uri.authority().map(|a| a.as_str())].into_iter().flatten().all(is_local);
    if !all_local || headers.get_all(header::HOST).iter().count() > 1 {
        return Some("Host is not localhost, 127.0.0.1 or [::1]");
    }
    match text(header::ORIGIN) {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => Some("Origin is another site"),
        _ => None,
    }
}

fn is_local(authority: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        authority.strip_prefix(name).is_some_and(|rest| match rest.strip_prefix(':') {
            Some(port) => port.parse::<u16>().is_ok(),
            None => rest.is_empty(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_local() {
        for good in ["localhost", "localhost:8600", "127.0.0.1:8600", "[::1]", "[::1]:8600"] {
            assert!(is_local(good), "{good}");
        }
        for bad in ["", "localhost.evil.org", "localhost:", "127.0.0.1.nip.io", "127.0.0.1:99999", "evil.org", "u@localhost"] {
            assert!(!is_local(bad), "{bad}");
        }
    }
}
