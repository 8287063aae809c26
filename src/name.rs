//! Names that cross the network, checked once.
//!
//! The restricted alphabet makes a name safe in a header, a label, a log line and a file.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Longest node name: a DNS subdomain, as Kubernetes requires of a Node (RFC 1123, 253 octets).
pub const MAX_NODE_NAME: usize = 253;
/// Longest instance: that of a DNS label; a UUID has 36 characters.
pub const MAX_INSTANCE: usize = 63;

/// The name of a node, `[A-Za-z0-9.-]{1,253}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// Identifies one run of an agent: the pod's UID, or a random id. `[A-Za-z0-9-]{1,63}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(Arc<str>);

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("is empty")]
    Empty,
    /// It has more characters than this.
    #[error("is longer than {0} characters")]
    TooLong(usize),
    /// It has a character outside the alphabet.
    #[error("holds a character other than letters, digits, '.' and '-'")]
    Alphabet,
}

fn check(text: &str, bound: usize, extra: &[u8]) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > bound {
        return Err(NameError::TooLong(bound));
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || extra.contains(byte);
    if text.as_bytes().iter().all(plain) { Ok(()) } else { Err(NameError::Alphabet) }
}

impl NodeName {
    /// Checks a node's name.
    ///
    /// # Errors
    /// When it is empty, longer than [`MAX_NODE_NAME`], or not of `[A-Za-z0-9.-]`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(text, MAX_NODE_NAME, b".-").map(|()| Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The offset of this pair in `span`: less than `span`, spread evenly over all pairs, and the same
    /// in every release and after every restart.
    #[must_use]
    pub fn share(&self, target: &Self, span: Duration) -> Duration {
        let nanoseconds = (span.as_nanos() * u128::from(self.hash_of_pair(target))) >> 64;
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// FNV-1a over both names, then the finalizer of MurmurHash3, which spreads similar names. Written
    /// here because the hash must not change between releases.
    fn hash_of_pair(&self, target: &Self) -> u64 {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let separator = [0_u8];
        for byte in [self.0.as_bytes(), &separator, target.0.as_bytes()].into_iter().flatten() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

impl Instance {
    /// Checks an instance.
    ///
    /// # Errors
    /// When it is empty, longer than [`MAX_INSTANCE`], or not of `[A-Za-z0-9-]`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(text, MAX_INSTANCE, b"-").map(|()| Self(text.into()))
    }

    /// The instance as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! format_as_text {
    ($name:ty) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}
format_as_text!(NodeName);
format_as_text!(Instance);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_a_dns_subdomain_and_needs_no_escaping() {
        for good in ["a", "node-1.example.org", &"n".repeat(253)] {
            assert_eq!(NodeName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(NodeName::new(""), Err(NameError::Empty));
        assert_eq!(NodeName::new(&"n".repeat(254)), Err(NameError::TooLong(253)));
        for bad in ["a b", "a\"b", "a\r\nb", "ä", "<script>", "a_b", "a/b", "a\0"] {
            assert_eq!(NodeName::new(bad), Err(NameError::Alphabet), "{bad:?}");
        }
    }

    #[test]
    fn the_share_of_a_pair_never_changes() {
        let name = |text: &str| NodeName::new(text).unwrap();
        let share = |a: &str, b: &str| name(a).share(&name(b), Duration::from_secs(10)).as_millis();
        // The values of the first release: others would bunch the probes of mixed releases.
        assert_eq!((share("a", "b"), share("b", "a"), share("n1", "n2")), (6698, 722, 799));
        assert_eq!(name("a").share(&name("b"), Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn an_instance_is_one_label() {
        assert!(Instance::new("0f8fad5b-d9cb-469f-a165-70867728950e").is_ok());
        assert_eq!(Instance::new("a.b"), Err(NameError::Alphabet));
        assert_eq!(Instance::new(&"i".repeat(64)), Err(NameError::TooLong(63)));
    }
}
