//! TLS as the hive speaks it: versions 1.2 and 1.3, its own certificate, and those of clients where a CA for them is given.
//!
//! Must never know what travels inside.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use sha2::{Digest as _, Sha256};

use super::tokens::hex;

/// How long a handshake may take: who is slower holds one of a bounded number of connections for nothing.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
/// Longest name of a certificate that is told, characters.
const MAX_NAME: usize = 100;
/// Most names of a certificate that are looked at.
const MAX_NAMES: usize = 32;

/// What the files say.
#[derive(Debug)]
pub(crate) struct ServerTls {
    /// For handshakes.
    pub(crate) config: Arc<ServerConfig>,
    /// DNS names of the hive's certificate: what a client may call it.
    pub(crate) names: Arc<[String]>,
}

/// A client's certificate that has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Its DNS and URI names. The subject is not one: nothing says what kind of name a CA has put there.
    pub(crate) names: Vec<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub(crate) fingerprint: String,
}

/// Certificate chain, key, and the CA of clients where there is a third.
pub(crate) fn read_tls(files: &[Vec<u8>]) -> anyhow::Result<ServerTls> {
    let [chain, key, rest @ ..] = files else { bail!("a certificate and a key are needed") };
    let chain = certificates(chain).context("read the certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(key).context("read the private key (PEM)")?;
    let names = chain.first().map(names_of).unwrap_or_default();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match rest {
        [] => builder.with_no_client_auth(),
        [ca, ..] => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca).context("read the CA of clients")? {
                roots.add(certificate).context("take a CA of clients")?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.context("use the CA of clients")?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).context("use the certificate with its key")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(ServerTls { config: Arc::new(config), names: names.into() })
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().context("read PEM")?;
    if found.is_empty() {
        bail!("there is no certificate in it (PEM)");
    }
    Ok(found)
}

fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return vec![] };
    let all = parsed.valid_dns_names().chain(parsed.valid_uri_names());
    all.filter(|name| name.len() <= MAX_NAME).take(MAX_NAMES).map(str::to_owned).collect()
}

impl Certificate {
    /// Of the client at the other end, where it has shown one.
    pub(crate) fn of_peer(connection: &ServerConnection) -> Option<Self> {
        let certificate = connection.peer_certificates()?.first()?;
        let fingerprint = format!("sha256:{}", hex(&Sha256::digest(certificate)));
        Some(Self { names: names_of(certificate), fingerprint })
    }

    /// What it is called in the audit.
    pub(crate) fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.fingerprint)
    }

    /// Everything by which it can be granted a role.
    pub(crate) fn known_as(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain([&self.fingerprint]).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str) -> (Vec<u8>, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes())
    }

    #[test]
    fn a_certificate_is_used_with_its_own_key_alone() {
        let ((cert, key), (other, other_key)) = (pair("hive.example"), pair("other.example"));
        let tls = read_tls(&[cert.clone(), key.clone()]).unwrap();
        assert_eq!(&*tls.names, ["hive.example"]);
        assert!(read_tls(&[cert.clone(), other_key]).is_err());
        assert!(read_tls(&[cert.clone(), key.clone(), other]).is_ok());
        for torn in [vec![], b"-----BEGIN CERTIFICATE-----\nAA".to_vec()] {
            assert!(read_tls(&[torn.clone(), key.clone()]).is_err());
            assert!(read_tls(&[cert.clone(), torn.clone()]).is_err());
            assert!(read_tls(&[cert.clone(), key.clone(), torn]).is_err());
        }
    }
}
