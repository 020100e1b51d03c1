//! Where a hive is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

/// Port of an `http://` URL that names none.
const HTTP_PORT: u16 = 80;

/// A Unix socket or a TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Path of a socket.
    Unix(PathBuf),
    /// Host name or address (IPv6 without brackets) and port.
    Tcp {
        /// Host.
        host: String,
        /// Port.
        port: u16,
    },
}

/// A text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no address of a hive: use unix:///run/rbee-hive/hive.sock or http://127.0.0.1:8600")]
pub struct InvalidEndpoint {
    /// What was given, cut to 80 characters.
    pub given: String,
}

impl Endpoint {
    /// Value of the `Host` header, which a hive checks on TCP.
    pub(super) fn host_header(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".into(),
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidEndpoint { given: text.chars().take(80).collect() };
        if let Some(path) = text.strip_prefix("unix://") {
            let absolute = path.starts_with('/') && !path.contains('\0');
            return absolute.then(|| Self::Unix(path.into())).ok_or_else(invalid);
        }
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|a| plain && !a.as_str().contains('@')).ok_or_else(invalid)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        // A port beyond 65535, or an empty one, is none to `Uri` but still there in the text.
        let named = authority.as_str().len() > authority.host().len();
        let port = authority.port_u16().or((!named).then_some(HTTP_PORT)).ok_or_else(invalid)?;
        if host.is_empty() { Err(invalid()) } else { Ok(Self::Tcp { host: host.to_owned(), port }) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { .. } => write!(f, "http://{}", self.host_header()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port }
    }

    #[test]
    fn sockets_and_urls_are_told_apart() {
        assert_eq!("unix:///run/h.sock".parse(), Ok(Endpoint::Unix("/run/h.sock".into())));
        assert_eq!("http://127.0.0.1:8600".parse(), Ok(tcp("127.0.0.1", 8600)));
        assert_eq!("http://localhost:8600/".parse(), Ok(tcp("localhost", 8600)));
        assert_eq!("http://[::1]:8600".parse(), Ok(tcp("::1", 8600)));
        assert_eq!("http://localhost".parse(), Ok(tcp("localhost", 80)));
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        let bad = [
            "",
            "/run/h.sock",
            "unix://h.sock",
            "https://a:1",
            "http://a:1/rpc",
            "http://u@a:1",
            "http://:1",
            "http://a:99999",
            "http://a?b",
            "a:1",
        ];
        for text in bad {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn texts_come_back_as_they_were() {
        for text in ["unix:///run/h.sock", "http://127.0.0.1:8600", "http://[::1]:1"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }
}
