//! Keeps web pages out: on TCP the `Host` must be a name of this hive, and an `Origin` must be that same host.
//!
//! Its names are the loopback ones; with TLS also the address that was connected to and the names in its certificate. Without the check a page
//! anywhere could reach the hive through its reader's browser (DNS rebinding, cross-site requests).

use axum::Extension;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::answer;
use super::peer::{Peer, Transport};

/// What a request may say of where it goes.
struct Expected<'a> {
    scheme: &'static str,
    names: &'a [String],
}

/// Refuses requests with a foreign `Host` or `Origin`.
pub(super) async fn check(peer: Option<Extension<Peer>>, request: Request, next: Next) -> Response {
    let peer = peer.map(|Extension(peer)| peer);
    let expected = match &peer {
        Some(peer) if peer.transport == Transport::Unix => return next.run(request).await,
        Some(peer) if peer.transport == Transport::Tls => Expected { scheme: "https://", names: &peer.names },
        _ => Expected { scheme: "http://", names: &[] },
    };
    match refusal(request.uri(), request.headers(), &expected) {
        None => next.run(request).await,
        Some(why) => answer::error(StatusCode::FORBIDDEN, "forbidden", why),
    }
}

/// Why a request is refused, if it is.
fn refusal(uri: &Uri, headers: &HeaderMap, expected: &Expected<'_>) -> Option<&'static str> {
    let text = |name| headers.get(name).map(|v: &header::HeaderValue| v.to_str().unwrap_or(""));
    let Some(host) = text(header::HOST) else { return Some("the request has no Host") };
    let is_ours = |authority: &str| is_local(authority) || is_named(authority, expected.names);
    let all_ours = [Some(host), uri.authority().map(|a| a.as_str())].into_iter().flatten().all(is_ours);
    if !all_ours || headers.get_all(header::HOST).iter().count() > 1 {
        return Some("Host is not localhost, 127.0.0.1 or [::1], nor with TLS a name in the hive's certificate or its address");
    }
    match text(header::ORIGIN) {
        Some(origin) if origin.strip_prefix(expected.scheme) != Some(host) => Some("Origin is another site"),
        _ => None,
    }
}

/// Whether it is one of these names, whatever the port.
fn is_named(authority: &str, names: &[String]) -> bool {
    let Ok(authority) = authority.parse::<axum::http::uri::Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    names.iter().any(|name| match name.strip_prefix("*.") {
        // One label, as in a certificate.
        Some(rest) => host.split_once('.').is_some_and(|(label, parent)| !label.is_empty() && parent.eq_ignore_ascii_case(rest)),
        None => host.eq_ignore_ascii_case(name),
    })
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
    fn with_tls_the_certificates_names_are_the_hives() {
        let names = ["hive.example".to_owned(), "*.cluster.example".to_owned(), "10.0.0.7".to_owned(), "fd00::7".to_owned()];
        for good in ["hive.example", "HIVE.example:8600", "a.cluster.example", "10.0.0.7:8600", "[fd00::7]:8600"] {
            assert!(is_named(good, &names), "{good}");
        }
        for bad in ["", "example", "hive.example.evil.org", "cluster.example", "a.b.cluster.example", ".cluster.example", "u@hive.example"]
        {
            assert!(!is_named(bad, &names), "{bad}");
        }
        let origin = |scheme, origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "hive.example:1".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            refusal(&Uri::from_static("/"), &headers, &Expected { scheme, names: &names })
        };
        assert_eq!(origin("https://", "https://hive.example:1"), None);
        assert!(origin("https://", "http://hive.example:1").is_some() && origin("http://", "https://hive.example:1").is_some());
    }

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
