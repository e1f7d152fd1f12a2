//! The relay's certificate: a given one, or its own, whose key stays in the home.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iroh_relay::server::reloading_resolver;
use malai_cluster::Pin;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{RelayError, RelayOptions};
use crate::home::Home;
use crate::home::keystore::{self, KeyError};
use crate::net::relays::pin_of;
use crate::os::fs::{self, StoreError};

/// How often a given certificate is read again: it is renewed under the same names.
const RELOAD_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// How the relay proves itself.
pub(super) struct Certificate {
    pub(super) server_config: ServerConfig,
    /// The pin of its own certificate; `None` for one that was given.
    pub(super) pin: Option<Pin>,
}

/// The certificate that the options name, or the relay's own.
///
/// # Errors
///
/// It cannot be read, made or used.
pub(super) async fn of(home: &Home, options: &RelayOptions) -> Result<Certificate, RelayError> {
    let provider = Arc::new(ring::default_provider());
    match &options.certificate {
        Some((chain, key)) => given(provider, chain, key).await,
        None => own(provider, home, options.address.host()),
    }
}

async fn given(
    provider: Arc<CryptoProvider>,
    chain: &Path,
    key: &Path,
) -> Result<Certificate, RelayError> {
    let (chain, key) = (chain.to_owned(), key.to_owned());
    let resolver = reloading_resolver(&provider, chain, key, RELOAD_INTERVAL).await;
    let resolver = resolver.map_err(|error| RelayError::Certificate(format!("{error:#}")))?;
    Ok(Certificate {
        server_config: builder(provider)?.with_cert_resolver(resolver),
        pin: None,
    })
}

/// The pin of the relay's own certificate.
pub(super) fn own_pin(home: &Home, host: &str) -> Result<Pin, RelayError> {
    let (_, certificate) = signed_by_itself(home, host)?;
    pin_of(&certificate).map_err(|error| bad(&error))
}

fn own(provider: Arc<CryptoProvider>, home: &Home, host: &str) -> Result<Certificate, RelayError> {
    let (key, certificate) = signed_by_itself(home, host)?;
    let pin = pin_of(&certificate).map_err(|error| bad(&error))?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| bad(&error))?;
    let server_config = builder(provider)?.with_single_cert(vec![certificate], key);
    Ok(Certificate {
        server_config: server_config.map_err(|error| bad(&error))?,
        pin: Some(pin),
    })
}

/// A certificate that this relay signs itself, new each time. Its key stays, and so does its pin.
fn signed_by_itself(
    home: &Home,
    host: &str,
) -> Result<(KeyPair, CertificateDer<'static>), RelayError> {
    let key = own_key(&home.relay_key())?;
    let params = CertificateParams::new(vec![host.to_owned()]).map_err(|error| bad(&error))?;
    let certificate = params.self_signed(&key).map_err(|error| bad(&error))?;
    let certificate = certificate.der().clone();
    Ok((key, certificate))
}

fn bad(error: &dyn std::fmt::Display) -> RelayError {
    RelayError::Certificate(error.to_string())
}

fn own_key(path: &Path) -> Result<KeyPair, RelayError> {
    let bad = |error: rcgen::Error| {
        RelayError::Certificate(format!("{}: {error}", fs::display_path(path)))
    };
    match keystore::read_private(path) {
        Ok(text) => return KeyPair::from_pem(&text).map_err(bad),
        Err(KeyError::Missing { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let key = KeyPair::generate().map_err(bad)?;
    match fs::create_atomic(path, key.serialize_pem().as_bytes(), 0o600) {
        Ok(()) => Ok(key),
        // Another relay of this home was faster.
        Err(StoreError::Exists { .. }) => own_key(path),
        Err(error) => Err(error.into()),
    }
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>, RelayError> {
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| RelayError::Certificate(error.to_string()))?;
    Ok(builder.with_no_client_auth())
}
