//! What the stand-in does instead of answering properly.

use std::collections::VecDeque;
use std::time::Duration;

/// One way to answer a request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// The list, as asked.
    Proper,
    /// The list, after a while.
    Delay(Duration),
    /// A `Status` object with this code, and headers beside it.
    Status(u16, Vec<(String, String)>),
    /// 302 to that URL.
    Redirect(String),
    /// 200 with this body.
    Body(String),
    /// 200 with a proper list without items.
    EmptyList,
    /// 200 whose body breaks off half-way, within its announced length.
    Truncated,
    /// 200 whose body never ends: one list of ever more pods.
    Endless,
    /// 200 whose body never ends: one list of one pod of ever more annotations.
    EndlessPod,
    /// 200 whose body comes byte by byte, with this pause between two.
    Dripping(Duration),
    /// A head that never ends.
    EndlessHead,
    /// Nothing: the connection is closed once the request is read.
    Close,
    /// Nothing, for this long; then closed.
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

    /// 200 with something that is no JSON.
    #[must_use]
    pub fn garbage() -> Self {
        Self::Body("<html>it works!</html>".to_owned())
    }
}

/// What comes next: a queue first, then one behaviour for good.
#[derive(Debug)]
pub(super) struct Plan {
    next: VecDeque<Behaviour>,
    always: Behaviour,
}

impl Default for Plan {
    fn default() -> Self {
        Self { next: VecDeque::new(), always: Behaviour::Proper }
    }
}

impl Plan {
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
