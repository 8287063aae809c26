//! The files of the service account, read for each request, since the kubelet replaces them at run time.
//!
//! The token is never stored, logged, or part of any debug output.

use std::io;
use std::path::{Path, PathBuf};

use ureq::http::HeaderValue;

use crate::discovery::error::{BoxError, DiscoveryError};
use crate::file;

/// Longest token: usual ones have 1 to 2 KB, those with many audiences more. The client's output buffer
/// holds it with the rest of the request.
const MAX_TOKEN: u64 = 12 * 1024;
/// Longest bundle: a hundred certificates.
const MAX_CA: u64 = 256 * 1024;
/// Longest namespace: a DNS label and a line end.
pub(super) const MAX_NAMESPACE: u64 = 64;

/// The paths of the files.
#[derive(Debug)]
pub(super) struct Credentials {
    token: PathBuf,
    ca: PathBuf,
}

impl Credentials {
    pub(super) fn new(dir: &Path) -> Self {
        Self { token: dir.join("token"), ca: dir.join("ca.crt") }
    }

    /// The header with the current token, marked as sensitive so that no debug output shows it.
    pub(super) fn token(&self) -> Result<HeaderValue, DiscoveryError> {
        let text =
            read_text(&self.token, MAX_TOKEN).map_err(|error| unusable(&self.token, error))?;
        if text.is_empty() {
            return Err(unusable(&self.token, "empty file"));
        }
        // RFC 6750, section 2.1. A header may hold more, but ureq sends none that is not ASCII.
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::try_from(format!("Bearer {text}")).ok().filter(|_| visible);
        // The error does not contain the value.
        let mut value = value.ok_or_else(|| unusable(&self.token, "invalid characters"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The current certificate authorities, as text.
    pub(super) fn ca(&self) -> Result<CaFile, DiscoveryError> {
        let pem = read_text(&self.ca, MAX_CA).map_err(|error| unusable(&self.ca, error))?;
        if pem.contains("-----BEGIN CERTIFICATE-----") {
            Ok(CaFile(pem))
        } else {
            Err(unusable(&self.ca, "no certificate in it"))
        }
    }
}

/// The text of a `ca.crt` with at least one certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CaFile(pub(super) String);

fn unusable(path: &Path, cause: impl Into<BoxError>) -> DiscoveryError {
    DiscoveryError::Credentials { path: path.to_owned(), source: cause.into() }
}

/// The content of a short text file, without surrounding white space.
pub(super) fn read_text(path: &Path, max: u64) -> io::Result<String> {
    Ok(file::read_text(path, max)?.trim().to_owned())
}
