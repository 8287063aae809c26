//! A cluster's certificates: an authority, and server certificates that are valid or wrong in one way.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The validity of a server certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// 2020 to 2099.
    Now,
    /// 2000 to 2001.
    Expired,
    /// 2098 to 2099: a fresh certificate for a host whose clock is behind.
    NotYet,
}

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate chain and key, ready for rustls.
#[derive(Clone, Debug)]
pub struct Identity(Arc<ServerConfig>);

impl Authority {
    /// Creates an authority; two with the same name have different keys.
    ///
    /// # Panics
    /// When rcgen refuses.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2099, 12, 31);
        let key = KeyPair::generate().expect("generate the authority's key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("sign the authority");
        Self { issuer }
    }

    /// The authority's certificate, as in `ca.crt`.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a server certificate for these names; IP addresses become IP names.
    ///
    /// # Panics
    /// When a name is invalid, or rustls refuses the key.
    #[must_use]
    pub fn issue(&self, names: &[&str], validity: Validity) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names of the server");
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (from, until) = match validity {
            Validity::Now => (2020, 2099),
            Validity::Expired => (2000, 2001),
            Validity::NotYet => (2098, 2099),
        };
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().expect("generate the server's key");
        let cert = params.signed_by(&key, &self.issuer).expect("sign the server's certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity::new(cert.der().clone(), key)
    }
}

impl Identity {
    /// A certificate and its key as other tools made them.
    ///
    /// # Panics
    /// When they are not PEM, or the key is of a kind that rustls cannot use.
    #[must_use]
    pub fn from_pem(certificate: &str, key: &str) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        Self::new(certificate.expect("a certificate"), key)
    }

    fn new(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate that matches its key");
        Self(Arc::new(config))
    }

    /// The rustls configuration.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

/// Several authorities in one `ca.crt`, as during a rotation.
#[must_use]
pub fn bundle(authorities: &[&Authority]) -> String {
    authorities.iter().map(|authority| authority.pem()).collect()
}
