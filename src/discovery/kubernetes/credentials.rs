//! The files of the service account, read when they are needed: the kubelet replaces them while we
//! run.
//!
//! A token is never kept, logged, or part of any debug output.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ureq::http::HeaderValue;

use crate::discovery::error::DiscoveryError;

/// Longest token: real ones have 1 to 2 KB, and one with many audiences some more. The client's
/// output buffer holds it with the rest of the request.
const MAX_TOKEN: u64 = 12 * 1024;
/// Longest bundle: a hundred certificates.
const MAX_CA: u64 = 256 * 1024;
/// Longest namespace: a DNS label, with a line end.
pub(super) const MAX_NAMESPACE: u64 = 64;

/// Where the files are.
#[derive(Debug)]
pub(super) struct Credentials {
    token: PathBuf,
    ca: PathBuf,
}

impl Credentials {
    pub(super) fn new(dir: &Path) -> Self {
        Self { token: dir.join("token"), ca: dir.join("ca.crt") }
    }

    /// The header with the token of this moment; marked so that nobody prints it.
    pub(super) fn token(&self) -> Result<HeaderValue, DiscoveryError> {
        let text = read_text(&self.token, MAX_TOKEN).map_err(|error| wrong(&self.token, error))?;
        if text.is_empty() {
            return Err(wrong(&self.token, "it is empty"));
        }
        // The error tells nothing of the value.
        let mut value = HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| wrong(&self.token, "it holds what no header can"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The authorities of this moment, as text.
    pub(super) fn ca(&self) -> Result<CaFile, DiscoveryError> {
        let pem = read_text(&self.ca, MAX_CA).map_err(|error| wrong(&self.ca, error))?;
        if pem.contains("-----BEGIN CERTIFICATE-----") {
            Ok(CaFile(pem))
        } else {
            Err(wrong(&self.ca, "it holds no certificate"))
        }
    }
}

/// The text of a `ca.crt` with at least one certificate in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CaFile(pub(super) String);

fn wrong(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DiscoveryError {
    DiscoveryError::Credentials { path: path.to_owned(), source: why.into() }
}

/// A short text file, without the white space around it.
pub(super) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        let error = format!("it is longer than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    Ok(text.trim().to_owned())
}
