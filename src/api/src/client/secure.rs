//! What a client shows and whom it believes: a bearer token, CAs, a certificate of its own.

use std::fmt;
use std::sync::Arc;

use hyper::header::HeaderValue;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Why a token, certificate or key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecureError {
    /// Not PEM, or not of the kind that is needed.
    #[error("read the {what} (PEM)")]
    Pem {
        /// What it was to be.
        what: &'static str,
        /// The error.
        source: pem::Error,
    },
    /// PEM without a certificate.
    #[error("there is no certificate in the {what}")]
    Empty {
        /// What it was to be.
        what: &'static str,
    },
    /// TLS does not take it.
    #[error("use the {what}")]
    Tls {
        /// What.
        what: &'static str,
        /// The error.
        source: rustls::Error,
    },
    /// A header can't hold it.
    #[error("a token is one line of visible ASCII characters")]
    Token,
}

/// A bearer token. Its `Debug` does not show it.
#[derive(Clone)]
pub struct Token(HeaderValue);

/// Whom a client believes, and what it shows of itself.
#[derive(Clone, Debug)]
pub struct ClientTls(pub(super) Arc<ClientConfig>);

impl Token {
    /// Takes a token without the white space around it.
    ///
    /// # Errors
    /// [`SecureError::Token`] where it is empty or can't be a header.
    pub fn new(text: &str) -> Result<Self, SecureError> {
        let word = text.trim();
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SecureError::Token);
        }
        let mut value: HeaderValue = format!("Bearer {word}").parse().map_err(|_| SecureError::Token)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl ClientTls {
    /// Believes hives whose certificates are of `ca` (PEM) or are in it themselves, and shows nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(ca: &[u8]) -> Result<Self, SecureError> {
        let roots = roots(ca)?;
        Self::with(|builder| Ok(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    /// The same, and shows a certificate chain with its key (both PEM).
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn with_certificate(ca: &[u8], chain: &[u8], key: &[u8]) -> Result<Self, SecureError> {
        let roots = roots(ca)?;
        let chain = certificates(chain, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| SecureError::Pem { what: "key", source })?;
        Self::with(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key))
    }

    fn with(
        make: impl FnOnce(rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>) -> Result<ClientConfig, rustls::Error>,
    ) -> Result<Self, SecureError> {
        let failed = |source| SecureError::Tls { what: "certificate with its key", source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
        Ok(Self(Arc::new(make(builder).map_err(failed)?)))
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, SecureError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, "CA")? {
        roots.add(certificate).map_err(|source| SecureError::Tls { what: "CA", source })?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, SecureError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|source| SecureError::Pem { what, source })?;
    if found.is_empty() { Err(SecureError::Empty { what }) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_is_never_shown() {
        let token = Token::new(" rbh_x\n").unwrap();
        assert_eq!(token.header().to_str().unwrap(), "Bearer rbh_x");
        assert!(!format!("{token:?} {:?}", token.header()).contains("rbh_x"));
        for bad in ["", " ", "a b", "a\nb", "\u{e4}"] {
            assert!(Token::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(matches!(ClientTls::new(b""), Err(SecureError::Empty { what: "CA" })));
        assert!(ClientTls::new(b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
