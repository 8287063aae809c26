//! The nodes of one matrix by number, so that a cell needs no name. Pure.

use crate::name::NodeName;

/// Names that may come from peers beyond as many as we know ourselves: their lists may be newer than
/// ours, and nobody shall fill our memory with names.
const STRANGERS: usize = 64;

/// Each name and its number; a number is never another's.
#[derive(Debug)]
pub(super) struct Names {
    /// In the order of the names.
    sorted: Vec<(NodeName, usize)>,
    most: usize,
}

impl Names {
    /// Those that we know ourselves: our own, and those of our peers, in their order.
    pub(super) fn new(own: &NodeName, peers: impl Iterator<Item = NodeName>) -> Self {
        let mut names = Self { sorted: Vec::new(), most: usize::MAX };
        for (number, name) in peers.enumerate() {
            names.sorted.push((name, number));
        }
        let _ = names.learn(own.as_str());
        names.most = names.len() * 2 + STRANGERS;
        names
    }

    /// These, which must be in order.
    pub(super) fn all(names: Vec<NodeName>) -> Option<Self> {
        let in_order = names.is_sorted_by(|one, next| one < next);
        let most = names.len();
        let sorted = names.into_iter().enumerate().map(|(number, name)| (name, number)).collect();
        in_order.then_some(Self { sorted, most })
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    /// The number of a name, if it has one.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        let index = self.find(name).ok()?;
        self.sorted.get(index).map(|(_, number)| *number)
    }

    /// The number of a name that a peer told, which gets one if there is room; `None` for what is no
    /// name.
    pub(super) fn learn(&mut self, name: &str) -> Option<Option<usize>> {
        match self.find(name) {
            Ok(index) => Some(self.sorted.get(index).map(|(_, number)| *number)),
            Err(index) => {
                let name = NodeName::new(name).ok()?;
                let number = self.sorted.len();
                if number >= self.most {
                    return Some(None);
                }
                self.sorted.insert(index, (name, number));
                Some(Some(number))
            }
        }
    }

    /// Forgets the names that came after there were so many.
    pub(super) fn forget(&mut self, known: usize) {
        self.sorted.retain(|(_, number)| *number < known);
    }

    /// All names in their order, each with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeName, usize)> {
        self.sorted.iter().map(|(name, number)| (name, *number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    #[test]
    fn numbers_stay_while_names_come_and_go() {
        let mut names = Names::new(&name("n2"), [name("n1"), name("n3")].into_iter());
        assert_eq!(["n1", "n2", "n3"].map(|name| names.number(name)), [Some(0), Some(2), Some(1)]);
        assert_eq!(names.learn("a"), Some(Some(3)));
        assert_eq!(names.learn("n2"), Some(Some(2)));
        let all: Vec<_> = names.iter().map(|(name, number)| (name.as_str(), number)).collect();
        assert_eq!(all, [("a", 3), ("n1", 0), ("n2", 2), ("n3", 1)]);
        names.forget(3);
        assert_eq!((names.len(), names.number("a"), names.number("n2")), (3, None, Some(2)));
    }

    #[test]
    fn nobody_fills_the_memory_with_names() {
        let mut names = Names::new(&name("n1"), std::iter::empty());
        for number in 0..1000 {
            let known = names.learn(&format!("stranger-{number}")).unwrap();
            assert_eq!(known.is_some(), number < 1 + STRANGERS, "{number}");
        }
        assert_eq!(names.len(), 2 + STRANGERS);
        assert_eq!(names.learn("<b>"), None);
        assert_eq!(names.learn("n1"), Some(Some(0)));
    }
}
