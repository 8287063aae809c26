//! The fake API server's behaviours.

use std::collections::VecDeque;
use std::time::Duration;

/// A way to answer a request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// The requested list.
    Proper,
    /// The list, after a pause.
    Delay(Duration),
    /// A `Status` object with this code, and headers.
    Status(u16, Vec<(String, String)>),
    /// 302 to this URL.
    Redirect(String),
    /// 200 with this body.
    Body(String),
    /// 200 with this beginning, this piece so many times, and this end: a large body at no memory here.
    Repeated(String, String, usize, String),
    /// These bytes in place of a response, then this piece until the client closes.
    Raw(&'static str, &'static str),
    /// 200 with an empty list.
    EmptyList,
    /// 200 whose body ends before its Content-Length.
    Truncated,
    /// 200 with an endless body: a list of ever more pods.
    Endless,
    /// 200 with an endless body: a pod with ever more annotations.
    EndlessPod,
    /// 200 whose body arrives byte by byte, with this pause.
    Dripping(Duration),
    /// An endless head.
    EndlessHead,
    /// No answer: the connection closes after the request.
    Close,
    /// No answer for this long, then the connection closes.
    Silence(Duration),
}

impl Behaviour {
    /// A status without further headers.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::Status(code, Vec::new())
    }

    /// A status with `Retry-After` in seconds.
    #[must_use]
    pub fn retry_after(code: u16, seconds: u64) -> Self {
        Self::Status(code, vec![("Retry-After".to_owned(), seconds.to_string())])
    }

    /// 200 with a body that is not JSON.
    #[must_use]
    pub fn garbage() -> Self {
        Self::Body("<html>it works!</html>".to_owned())
    }
}

/// The next behaviours: first a queue, then one for all later answers.
#[derive(Debug)]
pub(super) struct Script {
    next: VecDeque<Behaviour>,
    always: Behaviour,
}

impl Default for Script {
    fn default() -> Self {
        Self { next: VecDeque::new(), always: Behaviour::Proper }
    }
}

impl Script {
    pub(super) fn push(&mut self, times: usize, behaviour: &Behaviour) {
        self.next.extend(std::iter::repeat_n(behaviour.clone(), times));
    }

    pub(super) fn set_always(&mut self, behaviour: Behaviour) {
        self.next.clear();
        self.always = behaviour;
    }

    pub(super) fn take(&mut self) -> Behaviour {
        self.next.pop_front().unwrap_or_else(|| self.always.clone())
    }
}
