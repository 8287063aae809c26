//! The nodes of one matrix by number, so that a cell needs no name.

use crate::name::NodeName;

/// Names that rows of peers may add beyond twice the names of the own list: their lists may be newer,
/// and must not fill the memory.
const MAX_ADDED: usize = 64;

/// Each name and its number, which never passes to another name.
#[derive(Debug)]
pub(crate) struct Names {
    /// In the order of the names.
    sorted: Vec<(NodeName, usize)>,
    max: usize,
}

impl Names {
    /// The own name and those of the peers, which come in order.
    pub(crate) fn new(own: &NodeName, peers: impl Iterator<Item = NodeName>) -> Self {
        let sorted = peers.enumerate().map(|(number, name)| (name, number)).collect();
        let mut names = Self { sorted, max: usize::MAX };
        let _ = names.add(own);
        names.max = names.len() * 2 + MAX_ADDED;
        names
    }

    /// All names of a finished matrix; `None` unless they are in order.
    pub(crate) fn all(names: Vec<NodeName>) -> Option<Self> {
        let in_order = names.is_sorted_by(|one, next| one < next);
        let max = names.len();
        let sorted = names.into_iter().enumerate().map(|(number, name)| (name, number)).collect();
        in_order.then_some(Self { sorted, max })
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    fn find(&self, name: &NodeName) -> Result<usize, usize> {
        self.sorted.binary_search_by(|(known, _)| known.cmp(name))
    }

    /// The number of a name, if it has one.
    pub(crate) fn number(&self, name: &NodeName) -> Option<usize> {
        let index = self.find(name).ok()?;
        self.sorted.get(index).map(|(_, number)| *number)
    }

    /// The number of a name, which is added where it is new; `None` when there is no room for it.
    pub(crate) fn add(&mut self, name: &NodeName) -> Option<usize> {
        match self.find(name) {
            Ok(index) => self.sorted.get(index).map(|(_, number)| *number),
            Err(_) if self.len() >= self.max => None,
            Err(index) => {
                let number = self.len();
                self.sorted.insert(index, (name.clone(), number));
                Some(number)
            }
        }
    }

    /// Removes the names added since there were `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.sorted.retain(|(_, number)| *number < len);
    }

    /// All names in their order, each with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeName, usize)> {
        self.sorted.iter().map(|(name, number)| (name, *number))
    }
}

#[cfg(test)]
mod tests {
    use wylis_harness::bounds::worst_case;

    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    #[test]
    fn numbers_stay_while_names_come_and_go() {
        let mut names = Names::new(&name("n2"), [name("n1"), name("n3")].into_iter());
        let numbers = ["n1", "n2", "n3"].map(|text| names.number(&name(text)));
        assert_eq!(numbers, [Some(0), Some(2), Some(1)]);
        assert_eq!(names.add(&name("a")), Some(3));
        assert_eq!(names.add(&name("n2")), Some(2));
        let all: Vec<_> = names.iter().map(|(name, number)| (name.as_str(), number)).collect();
        assert_eq!(all, [("a", 3), ("n1", 0), ("n2", 2), ("n3", 1)]);
        names.truncate(3);
        assert_eq!(names.len(), 3);
        assert_eq!(["a", "n2"].map(|text| names.number(&name(text))), [None, Some(2)]);
    }

    #[test]
    fn added_names_are_bounded() {
        let mut names = Names::new(&name("n1"), std::iter::empty());
        for number in 0..1000 {
            let added = names.add(&name(&format!("added-{number}")));
            assert_eq!(added.is_some(), number < 1 + MAX_ADDED, "{number}");
        }
        assert_eq!(names.len(), 2 + MAX_ADDED);
        assert!(MAX_ADDED as f64 <= worst_case("MAX_ADDED"));
        assert_eq!(names.add(&name("n1")), Some(0));
    }
}
