//! Tokens of a pair: how a peer proves that it receives this agent's probes at its address.
//!
//! Each agent has one *own* token for each peer, and shows it in every probe to that peer's address. The
//! peer shows it back, which no host can that does not receive there. Nothing is distributed or stored: a
//! token is a keyed hash of the peer, and the key is random in each process.
//!
//! A request can claim any sender, so a forged one can bring a forged token. The answer to a probe cannot
//! be forged off the path. It therefore carries a *seal* of the token that the answering agent shows to
//! this one: only the true token fits it.

use std::fmt;

use ring::hmac;
use ring::rand::SystemRandom;

use crate::name::{Instance, NodeName};

/// Symbols of a token: 60 bits. An agent gives a seal to any client, which can then test guesses without
/// asking: half of 2^60 of them, at a billion a second, take 18 years. A guess tests one pair of nodes, since
/// each seal contains their names.
const SYMBOLS: usize = 10;
/// Six bits each (RFC 4648, section 5).
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Between two names: no name contains it.
const SEPARATOR: &str = "/";

/// A token or a seal: ten symbols of base64url.
//
// The comparison is not in constant time: a difference of nanoseconds cannot be seen through a network, and
// each guess would be one request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; SYMBOLS]);

/// The tokens in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairToken {
    /// The sender's token for the receiver.
    pub own: Token,
    /// The receiver's token for the sender, if the sender knows it.
    pub echo: Option<Token>,
}

/// The key of an agent's own tokens.
#[derive(Debug, Clone)]
pub struct TokenKey(hmac::Key);

impl Token {
    /// Reads a token; `None` when it has another length or alphabet.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let symbols: [u8; SYMBOLS] = text.as_bytes().try_into().ok()?;
        symbols.iter().all(|symbol| ALPHABET.contains(symbol)).then_some(Self(symbols))
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every symbol is ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The seal of this token, which the agent of `answering` shows to that of `asking`, in the answer to
    /// one that shows the token `shown`.
    #[must_use]
    pub fn seal(self, shown: Self, answering: &NodeName, asking: &NodeName) -> Self {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        for part in [shown.as_str(), answering.as_str(), SEPARATOR, asking.as_str()] {
            context.update(part.as_bytes());
        }
        Self::of(context.sign())
    }

    fn of(tag: hmac::Tag) -> Self {
        let mut symbols = [0; SYMBOLS];
        for (symbol, byte) in symbols.iter_mut().zip(tag.as_ref()) {
            *symbol = ALPHABET.get(usize::from(byte & 63)).copied().unwrap_or_default();
        }
        Self(symbols)
    }
}

impl PairToken {
    /// Reads `OWN` or `OWN.ECHO`. A wrong echo is no echo: a later release may write it otherwise.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (own, echo) = text.split_once('.').unwrap_or((text, ""));
        Some(Self { own: Token::read(own)?, echo: Token::read(echo) })
    }
}

impl TokenKey {
    /// A random key.
    #[must_use]
    pub fn random() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self(key.expect("the kernel gives random bytes, also to the standard hasher"))
    }

    /// This key, for tests.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The own token for one instance of a peer: it changes with each life of either agent.
    #[must_use]
    pub fn own(&self, node: &NodeName, instance: Option<&Instance>) -> Token {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [node.as_str(), SEPARATOR, instance.map_or("", Instance::as_str)] {
            context.update(part.as_bytes());
        }
        Token::of(context.sign())
    }

    /// The seal for the answer of `answering`, this agent's node, to a request of `asking` and its instance
    /// that does not show the own token.
    #[must_use]
    pub fn seal(
        &self,
        answering: &NodeName,
        (asking, instance): (&NodeName, Option<&Instance>),
        token: PairToken,
    ) -> Option<Token> {
        let own = self.own(asking, instance);
        (token.echo != Some(own)).then(|| own.seal(token.own, answering, asking))
    }
}

impl fmt::Display for PairToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.own.as_str())?;
        self.echo.map_or(Ok(()), |echo| write!(f, ".{}", echo.as_str()))
    }
}

impl fmt::Debug for Token {
    /// Not its value: a log is read by more people than a probe.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    #[test]
    fn tokens_are_read_back_and_nothing_else_is() {
        let key = TokenKey::random();
        let own = key.own(&name("n1"), None);
        let echo = key.own(&name("n2"), None);
        for pair in [PairToken { own, echo: None }, PairToken { own, echo: Some(echo) }] {
            assert_eq!(PairToken::read(&pair.to_string()), Some(pair));
        }
        let own = own.as_str();
        for bad in ["", ".", "short", &format!("{own}x"), &format!("{}ä", &own[..8])] {
            assert_eq!(PairToken::read(bad), None, "{bad:?}");
        }
        for echo in ["", "x", "!!!!!!!!!!"] {
            let read = PairToken::read(&format!("{own}.{echo}")).unwrap();
            assert_eq!(read.echo, None, "{echo:?}");
        }
    }

    #[test]
    fn a_token_is_different_for_each_life_of_either_agent() {
        let instances =
            [None, Some(Instance::new("a").unwrap()), Some(Instance::new("b").unwrap())];
        let mut tokens = Vec::new();
        for key in [TokenKey::random(), TokenKey::random()] {
            for node in ["n1", "n2"] {
                for instance in &instances {
                    let token = key.own(&name(node), instance.as_ref());
                    assert!(!tokens.contains(&token), "{node} {instance:?}");
                    assert_eq!(token, key.own(&name(node), instance.as_ref()));
                    tokens.push(token);
                }
            }
        }
    }

    #[test]
    fn a_seal_fits_one_pair_of_tokens_and_of_nodes() {
        let key = TokenKey::new(b"key");
        let nodes = ["a", "b", "c"].map(name);
        let [a, b, c] = nodes.each_ref().map(|node| key.own(node, None));
        let [answering, asking, other] = &nodes;
        let seal = a.seal(b, answering, asking);
        assert_eq!(seal, a.seal(b, answering, asking));
        for wrong in [
            a.seal(c, answering, asking),
            c.seal(b, answering, asking),
            b.seal(a, answering, asking),
            // Otherwise a guess would test the seals of a whole mesh at once.
            a.seal(b, asking, answering),
            a.seal(b, other, asking),
            a.seal(b, answering, other),
        ] {
            assert!(seal != wrong);
        }
        // Releases that compute another one would never prove themselves to each other.
        let [own, shown] = ["AAAAAAAAAA", "BBBBBBBBBB"].map(|text| Token::read(text).unwrap());
        assert_eq!(own.seal(shown, answering, asking).as_str(), "iRWrvHqQvL");
    }
}
