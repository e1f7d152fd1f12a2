//! The cipher suites of all connections, the fastest on this processor first.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CipherSuiteCommon, CryptoProvider, ring};
use rustls::{CipherSuite, SupportedCipherSuite, Tls13CipherSuite};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = ring::default_provider();
    let in_hardware = has_aes();
    provider
        .cipher_suites
        .sort_by_key(|suite| place(suite.suite(), in_hardware));
    // iroh seals its address validation tokens with the first of these and a key of 32 bytes. With a cipher that has
    // shorter keys it panics, and takes the endpoint down.
    provider.cipher_suites.splice(0..0, for_tokens());
    Arc::new(provider)
});

/// The cipher suites of endpoints. All three of TLS 1.3 are strong enough; the dialer chooses. AES-128 is 9 % faster
/// than AES-256 on processors with AES instructions; on others, ChaCha20 is much faster.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// A cipher suite with 32-byte keys that no QUIC connection is offered.
fn for_tokens() -> Option<SupportedCipherSuite> {
    let Tls13CipherSuite {
        common,
        hkdf_provider,
        aead_alg,
        ..
    } = ring::cipher_suite::TLS13_AES_256_GCM_SHA384.tls13()?;
    let CipherSuiteCommon {
        suite,
        hash_provider,
        confidentiality_limit,
    } = *common;
    // Made once per process: see `PROVIDER`.
    Some(SupportedCipherSuite::Tls13(Box::leak(Box::new(
        Tls13CipherSuite {
            common: CipherSuiteCommon {
                suite,
                hash_provider,
                confidentiality_limit,
            },
            hkdf_provider: *hkdf_provider,
            aead_alg: *aead_alg,
            quic: None,
        },
    ))))
}

fn place(suite: CipherSuite, aes_in_hardware: bool) -> u8 {
    match suite {
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 if aes_in_hardware => 2,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => 0,
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 1,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => 2,
        // Cipher suites of older TLS versions, which QUIC does not use.
        _ => 3,
    }
}

/// Whether the processor has instructions for AES and for GCM's multiplication.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

#[cfg(test)]
mod tests {
    use rustls::CipherSuite;

    use super::{place, provider};
    use crate::net::endpoint::{self, Ports};
    use crate::settings::Reach;

    #[test]
    fn the_quickest_comes_first_and_none_is_left_out() {
        let mut suites = [
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        suites.sort_by_key(|suite| place(*suite, true));
        assert_eq!(suites[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        suites.sort_by_key(|suite| place(*suite, false));
        assert_eq!(suites[0], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        let offered: Vec<_> = provider()
            .cipher_suites
            .iter()
            .map(|suite| suite.suite())
            .collect();
        for suite in suites {
            assert!(offered.contains(&suite), "{offered:?}");
        }
    }

    /// What a daemon requires of an address with many connections.
    #[tokio::test]
    async fn an_address_can_be_asked_to_prove_itself() {
        let bind = |byte| {
            let seed = malai_cluster::SecretSeed::from_bytes([byte; 32]);
            async move {
                endpoint::bind(&seed, Reach::Loopback, Ports::Any)
                    .await
                    .unwrap()
            }
        };
        let (server, client) = tokio::join!(bind(1), bind(2));
        let address = server.addr();
        let serving = tokio::spawn(async move {
            let mut asked = 0;
            while let Some(incoming) = server.accept().await {
                if incoming.remote_addr_validated() {
                    return (asked, incoming.accept().unwrap().await.is_ok());
                }
                asked += 1;
                incoming.retry().unwrap();
            }
            (asked, false)
        });
        let connection = client
            .connect(address, malai_wire::version::ALPN)
            .await
            .unwrap();
        let (asked, accepted) = serving.await.unwrap();
        assert!(asked >= 1 && accepted, "asked {asked} times");
        drop(connection);
    }
}
