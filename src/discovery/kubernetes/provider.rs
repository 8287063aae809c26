//! The cryptography of TLS: the part of ring's that an API server needs of this client, named piece by piece.
//! `rustls::crypto::ring::default_provider` would add 90 KB: ChaCha20-Poly1305, and signing with private keys.

use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::SignatureScheme as Scheme;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use webpki::ring as algorithm;

/// AES-GCM as the only cipher, and P-256 as the first curve: TLS 1.3 requires both of every server (RFC 8446 9.1),
/// and no API server with TLS 1.2 lacks them by default. X25519 would add 35 KB.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::SECP256R1, kx_group::SECP384R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Random,
        key_provider: &NoKeys,
    }
}

/// All that webpki verifies with ring.
const SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithm::ECDSA_P256_SHA256,
        algorithm::ECDSA_P256_SHA384,
        algorithm::ECDSA_P384_SHA256,
        algorithm::ECDSA_P384_SHA384,
        algorithm::ED25519,
        algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        algorithm::RSA_PKCS1_2048_8192_SHA256,
        algorithm::RSA_PKCS1_2048_8192_SHA384,
        algorithm::RSA_PKCS1_2048_8192_SHA512,
        algorithm::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        algorithm::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        algorithm::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    // TLS 1.2 names the hash and leaves the curve open.
    mapping: &[
        (
            Scheme::ECDSA_NISTP384_SHA384,
            &[algorithm::ECDSA_P384_SHA384, algorithm::ECDSA_P256_SHA384],
        ),
        (
            Scheme::ECDSA_NISTP256_SHA256,
            &[algorithm::ECDSA_P256_SHA256, algorithm::ECDSA_P384_SHA256],
        ),
        (Scheme::ED25519, &[algorithm::ED25519]),
        (Scheme::RSA_PSS_SHA512, &[algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (Scheme::RSA_PSS_SHA384, &[algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (Scheme::RSA_PSS_SHA256, &[algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (Scheme::RSA_PKCS1_SHA512, &[algorithm::RSA_PKCS1_2048_8192_SHA512]),
        (Scheme::RSA_PKCS1_SHA384, &[algorithm::RSA_PKCS1_2048_8192_SHA384]),
        (Scheme::RSA_PKCS1_SHA256, &[algorithm::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// The kernel's random numbers.
#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        SystemRandom::new().fill(bytes).map_err(|_| GetRandomFailed)
    }
}

/// A client that shows a token has no private key, so nothing here signs.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(
        &self,
        _: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("this client has no private key".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that rustls would offer and accept with ring, except what is left out on purpose.
    #[test]
    fn only_chacha20_x25519_and_private_keys_are_left_out() {
        let (ours, theirs) = (provider(), rustls::crypto::ring::default_provider());
        let mut suites: Vec<_> = theirs.cipher_suites.iter().map(|suite| suite.suite()).collect();
        suites.retain(|suite| !format!("{suite:?}").contains("CHACHA20"));
        let own: Vec<_> = ours.cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(own, suites);
        let groups = |provider: &CryptoProvider| {
            provider.kx_groups.iter().map(|group| group.name()).collect::<Vec<_>>()
        };
        let mut others = groups(&theirs);
        others.retain(|group| *group != rustls::NamedGroup::X25519);
        assert_eq!(groups(&ours), others);
        let verified = |provider: &CryptoProvider| {
            let algorithms = provider.signature_verification_algorithms;
            let ids = |algorithms: &[&dyn rustls::pki_types::SignatureVerificationAlgorithm]| {
                let ids = algorithms.iter();
                ids.map(|one| (one.public_key_alg_id(), one.signature_alg_id())).collect::<Vec<_>>()
            };
            let schemes = algorithms.mapping.iter().map(|(scheme, all)| (*scheme, ids(all)));
            (ids(algorithms.all), schemes.collect::<Vec<_>>())
        };
        assert_eq!(verified(&ours), verified(&theirs));
    }
}
