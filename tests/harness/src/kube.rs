//! Clients of a real API server: over TLS with a certificate or a token, or in plain HTTP through
//! `kubectl proxy`.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::http::{self, Response};

/// Far longer than any answer takes; one that waits for a cache takes 3 s.
const DEADLINE: Duration = Duration::from_secs(20);
/// The content type of most bodies.
pub const JSON: &str = "application/json";
/// The content type of a merge patch.
pub const MERGE: &str = "application/merge-patch+json";

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// GET, POST and so on.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// The content type of the body.
    pub content_type: &'a str,
    /// The body; may be empty.
    pub body: &'a str,
}

impl Request<'_> {
    /// The bytes of the request, with more header lines.
    #[must_use]
    pub fn bytes(&self, host: SocketAddr, headers: &str) -> Vec<u8> {
        let Request { method, path, content_type, body } = self;
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: {JSON}\r\n{headers}"
        );
        if !body.is_empty() {
            let length = body.len();
            text += &format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n");
        }
        (text + "\r\n" + body).into_bytes()
    }
}

/// A client of an API server.
pub trait Api {
    /// Sends a request, and returns the whole answer.
    ///
    /// # Errors
    /// The connection's errors.
    fn send(&self, request: &Request<'_>) -> io::Result<Response>;

    /// `GET path`, with any status.
    ///
    /// # Panics
    /// Without an answer.
    fn get(&self, path: &str) -> Response {
        let request = Request { method: "GET", path, content_type: JSON, body: "" };
        self.send(&request).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Sends a request that must succeed, and returns the answer.
    ///
    /// # Panics
    /// When it fails.
    fn done(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.send(&Request { method, path, content_type, body: &body });
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(answer.status < 300, "{method} {path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// `GET path`, which must succeed, as JSON.
    fn read(&self, path: &str) -> Value {
        self.done("GET", path, JSON, &Value::Null)
    }

    /// `POST path`, which must succeed.
    fn create(&self, path: &str, body: &Value) -> Value {
        self.done("POST", path, JSON, body)
    }
}

/// A client over TLS.
#[derive(Debug, Clone)]
pub struct KubeApi {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    token: Option<String>,
}

impl KubeApi {
    /// A client with a client certificate. `ca`, `certificate` and `key` are PEM.
    ///
    /// # Panics
    /// When one is invalid.
    #[must_use]
    pub fn with_certificate(address: SocketAddr, ca: &str, certificate: &str, key: &str) -> Self {
        let chain = certificates(certificate);
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key in PEM");
        let config = builder(ca).with_client_auth_cert(chain, key).expect("a key that fits");
        Self { address, config: Arc::new(config), token: None }
    }

    /// A client with a token.
    #[must_use]
    pub fn with_token(address: SocketAddr, ca: &str, token: &str) -> Self {
        let config = Arc::new(builder(ca).with_no_client_auth());
        Self { address, config, token: Some(token.to_owned()) }
    }
}

impl Api for KubeApi {
    fn send(&self, request: &Request<'_>) -> io::Result<Response> {
        let stream = TcpStream::connect_timeout(&self.address, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        // Without it, the request after the handshake waits 40 ms for an ACK.
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let token = self.token.as_ref();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        stream.write_all(&request.bytes(self.address, &token.unwrap_or_default()))?;
        http::read_response(&mut stream)
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.collect::<Result<_, _>>().expect("certificates in PEM")
}

fn builder(ca: &str) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(certificates(ca));
    assert!(trusted > 0, "no authority in the PEM");
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots)
}
