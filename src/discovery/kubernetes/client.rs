//! The request to the API server, and the classification of its failures.

use std::io::BufReader;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ureq::config::Config;
use ureq::http::{HeaderMap, HeaderValue, StatusCode, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{Connector as _, RustlsConnector, TcpConnector};

use super::bounded::{BoundedJson, Exceeded};
use super::credentials::CaFile;
use super::decode::{self, Listing};
use super::resolver::InlineResolver;
use crate::discovery::error::{BoxError, DiscoveryError};

/// Appended to an error of the handshake: what ring verifies (rustls, `SUPPORTED_SIG_ALGS`).
const SIGNATURES: &str = "the certificate or its authority has a signature that this agent cannot verify: it takes \
    RSA of 2048 to 8192 bits, P-256 and P-384 with SHA-256 or SHA-384, and Ed25519, but neither P-521 nor SHA-512 \
    with P-256; issue both with one of these";
/// The same for a certificate that is its own authority.
const OWN_AUTHORITY: &str = "the server presents the certificate of an authority as its own: put an authority into \
    ca.crt, and let it issue a certificate for the server";
/// The same for a chain that ends elsewhere.
const NO_ISSUER: &str = "; ca.crt must hold the authority that issued the server's certificate, not that certificate \
    itself nor another cluster's authority";
/// The same for a server that found nothing in common.
const NOTHING_IN_COMMON: &str = "; this agent takes AES-GCM as the only cipher, and no key of P-521: the server needs \
    AES-GCM, and a key of P-256, P-384, Ed25519 or RSA";

/// Longest body: 5,000 pods of 20 KB each. It costs time, not memory, since items are decoded one by one.
const MAX_BODY: u64 = 96 << 20;
/// Longest head of a response; the API server's has about 600 bytes.
const MAX_HEAD: usize = 8192;
/// One TLS record.
const INPUT_BUFFER: usize = 16 * 1024;
/// The head of the request, the token included.
const OUTPUT_BUFFER: usize = 16 * 1024;
/// Without a buffer the decoder reads single bytes through TLS: 201 ms instead of 50 ms for a list.
const DECODE_BUFFER: usize = 16 * 1024;
/// Digits of `Retry-After` that are read: more than its limit has.
const MAX_RETRY_AFTER_DIGITS: usize = 9;

/// A table, or whole pods where the server supports no tables.
const TABLE: HeaderValue =
    HeaderValue::from_static("application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The table that kubectl prints.
    Table,
    /// Whole pods.
    Pods,
}

/// What to request.
pub(super) struct Target<'a> {
    pub(super) namespace: &'a str,
    pub(super) selector: &'a str,
    pub(super) version: &'a str,
    pub(super) form: Form,
    pub(super) own_name: Option<&'a str>,
    /// The whole deadline, for the error's text.
    pub(super) limit: Duration,
}

/// A client of one server.
pub(super) struct Client {
    /// Host and port, IPv6 in brackets.
    server: String,
    /// The last bundle of certificate authorities, and the agent that trusts it.
    trusted: Option<(CaFile, ureq::Agent)>,
    resolver: InlineResolver,
}

impl Client {
    pub(super) fn new(server: String) -> Self {
        Self { server, trusted: None, resolver: InlineResolver::default() }
    }

    /// The addresses to which the server's host resolved last.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.resolver.addresses()
    }

    /// Requests the list from a server that these authorities vouch for, and decodes it as it arrives.
    pub(super) fn list(
        &mut self,
        target: &Target<'_>,
        ca: CaFile,
        token: HeaderValue,
        deadline: Instant,
    ) -> Result<Listing, DiscoveryError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.timeout(target.limit));
        }
        let request = self
            .agent(ca)
            .get(url(&self.server, target))
            .header(header::AUTHORIZATION, token)
            .header(header::ACCEPT, if target.form == Form::Table { TABLE } else { JSON })
            .config()
            .timeout_global(Some(left))
            .build();
        let response = request.call().map_err(|error| self.classify(error, target.limit))?;
        check_status(response.status(), response.headers(), target.namespace)?;
        let date = date(response.headers());
        let body = response.into_body().into_with_config().limit(MAX_BODY).reader();
        let body = BufReader::with_capacity(DECODE_BUFFER, BoundedJson::new(body));
        let (mut listing, result) = decode::decode(body, target.own_name);
        listing.date = date;
        if listing.overflows() {
            return Err(DiscoveryError::TooLarge { bound: "5,000 pods" });
        }
        match result {
            Ok(()) => Ok(listing),
            Err(error) => Err(self.body_error(error, target.limit)),
        }
    }

    /// An agent that trusts these authorities and no others.
    fn agent(&mut self, ca: CaFile) -> ureq::Agent {
        match &self.trusted {
            Some((known, agent)) if *known == ca => agent.clone(),
            _ => {
                let agent = new_agent(&ca, self.resolver.clone());
                self.trusted = Some((ca, agent.clone()));
                agent
            }
        }
    }

    /// Classifies an error of the decoder, which wraps those of the connection.
    fn body_error(&self, error: serde_json::Error, limit: Duration) -> DiscoveryError {
        if !error.is_io() {
            return DiscoveryError::BadBody { source: Box::new(error) };
        }
        let error = std::io::Error::from(error);
        if let Some(Exceeded(bound)) = Exceeded::of(&error) {
            return DiscoveryError::TooLarge { bound };
        }
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return DiscoveryError::BadBody { source: "unexpected end of the body".into() };
        }
        self.classify(ureq::Error::from(error), limit)
    }

    fn classify(&self, error: ureq::Error, limit: Duration) -> DiscoveryError {
        match error {
            ureq::Error::Timeout(_) => self.timeout(limit),
            ureq::Error::LargeResponseHeader(..) => {
                DiscoveryError::TooLarge { bound: "8 KiB of headers" }
            }
            ureq::Error::BodyExceedsLimit(_) => DiscoveryError::TooLarge { bound: "96 MiB" },
            ureq::Error::Protocol(_) => DiscoveryError::BadBody { source: Box::new(error) },
            // An I/O error wraps an error of the handshake.
            ureq::Error::Io(error) => match error.downcast::<rustls::Error>() {
                Ok(error) => self.tls(error),
                Err(error) => self.network(error),
            },
            ureq::Error::Rustls(error) => self.tls(error),
            error @ (ureq::Error::Tls(_) | ureq::Error::Pem(_)) => {
                let (server, source) = (self.server.clone(), Box::new(error));
                DiscoveryError::Tls { server, source, hint: "" }
            }
            error => self.network(error),
        }
    }

    fn tls(&self, error: rustls::Error) -> DiscoveryError {
        use rustls::CertificateError::{NotValidYet, NotValidYetContext, UnknownIssuer};
        let server = self.server.clone();
        let hint = match &error {
            rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
                return DiscoveryError::CertificateNotYetValid { server };
            }
            rustls::Error::InvalidCertificate(cause) => match unsupported(cause) {
                Some(hint) => {
                    let source = Box::new(error);
                    return DiscoveryError::CertificateUnsupported { server, source, hint };
                }
                None if *cause == UnknownIssuer => NO_ISSUER,
                None => "",
            },
            rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure) => {
                NOTHING_IN_COMMON
            }
            _ => "",
        };
        DiscoveryError::Tls { server, source: Box::new(error), hint }
    }

    fn network(&self, cause: impl Into<BoxError>) -> DiscoveryError {
        DiscoveryError::Network { server: self.server.clone(), source: cause.into() }
    }

    fn timeout(&self, limit: Duration) -> DiscoveryError {
        DiscoveryError::Timeout { server: self.server.clone(), limit }
    }
}

/// What is wrong with the kind of a certificate, and what to do; `None` for any other error.
fn unsupported(cause: &rustls::CertificateError) -> Option<&'static str> {
    use rustls::CertificateError::{
        Other, UnsupportedSignatureAlgorithmContext,
        UnsupportedSignatureAlgorithmForPublicKeyContext,
    };
    match cause {
        UnsupportedSignatureAlgorithmContext { .. }
        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Some(SIGNATURES),
        Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Some(OWN_AUTHORITY),
        _ => None,
    }
}

fn new_agent(ca: &CaFile, resolver: InlineResolver) -> ureq::Agent {
    let roots = parse_pem(ca.0.as_bytes()).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        // A broken block among good ones: its authority is not trusted.
        _ => None,
    });
    let provider = Arc::new(super::provider::provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots.collect::<Vec<_>>()))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let config = Config::builder()
        .tls_config(tls)
        .https_only(true)
        // By default ureq reads HTTPS_PROXY and would send the token there.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("wylis/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(MAX_HEAD)
        .input_buffer_size(INPUT_BUFFER)
        .output_buffer_size(OUTPUT_BUFFER)
        // At half a minute or more between two requests, an idle connection would only hold memory
        // on both sides.
        .max_idle_connections(0)
        .build();
    // Without ureq's connector for proxies.
    let connector = ().chain(TcpConnector::default()).chain(RustlsConnector::default());
    ureq::Agent::with_parts(config, connector, resolver)
}

fn check_status(
    status: StatusCode,
    headers: &HeaderMap,
    namespace: &str,
) -> Result<(), DiscoveryError> {
    let status = status.as_u16();
    Err(match status {
        200 => return Ok(()),
        300..=399 => DiscoveryError::Redirect { status },
        401 => DiscoveryError::Unauthorized,
        403 => DiscoveryError::Forbidden { namespace: namespace.to_owned() },
        429 => DiscoveryError::Throttled { retry_after: retry_after(headers) },
        500..=599 => DiscoveryError::ServerError { status, retry_after: retry_after(headers) },
        _ => DiscoveryError::BadStatus { status },
    })
}

/// RFC 9110 6.6.1.
fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}

/// The pause in seconds. The API server never sends a date instead (RFC 9110 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return None;
    }
    let short = text.get(..MAX_RETRY_AFTER_DIGITS).unwrap_or(text);
    short.parse().ok().map(Duration::from_secs)
}

fn url(server: &str, target: &Target<'_>) -> String {
    let Target { namespace, selector, version, form, .. } = target;
    let mut url = format!(
        "https://{server}/api/v1/namespaces/{}/pods?labelSelector={}&resourceVersion={version}",
        Encoded(namespace),
        Encoded(selector)
    );
    // Version 0 alone means "any version in the cache". Some releases take another version alone as
    // the exact one.
    if *version != super::ANY_VERSION {
        url.push_str("&resourceVersionMatch=NotOlderThan");
    }
    if *form == Form::Table {
        url.push_str("&includeObject=None");
    }
    url
}

/// Percent-encodes all but the unreserved characters of RFC 3986 2.3.
struct Encoded<'a>(&'a str);

impl std::fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<'a>(namespace: &'a str, selector: &'a str, version: &'a str) -> Target<'a> {
        let form = Form::Pods;
        Target { namespace, selector, version, form, own_name: None, limit: Duration::ZERO }
    }

    #[test]
    fn the_url_has_selector_and_version() {
        let first = url("[fd00::1]:443", &target("wylis", "app.kubernetes.io/name=wylis", "0"));
        let expected = "https://[fd00::1]:443/api/v1/namespaces/wylis/pods\
            ?labelSelector=app.kubernetes.io%2Fname%3Dwylis&resourceVersion=0";
        assert_eq!(first, expected);
        let next = url("h:1", &target("../x", "a in (b, c)", "77"));
        let expected = "https://h:1/api/v1/namespaces/..%2Fx/pods\
            ?labelSelector=a%20in%20%28b%2C%20c%29&resourceVersion=77\
            &resourceVersionMatch=NotOlderThan";
        assert_eq!(next, expected);
    }

    #[test]
    fn retry_after_is_in_seconds() {
        let read = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, value)]))
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("99999999999999999999"), Some(Duration::from_secs(999_999_999)));
        for none in ["", "-1", "1.5", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
