//! Sorting, in one piece of code for all types: each sort of the standard library adds 3 KB to the binary. Pure.

use std::cmp::Ordering;

/// Sorts in place; of equal items, any may come first.
pub(crate) fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// The same by another order.
pub(crate) fn sort_by<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering) {
    let len = items.len();
    heap_sort(&mut Items { items, order }, len);
}

/// Items by their places, without their type.
trait Places {
    /// Whether the item at one place comes before that at another.
    fn is_before(&self, one: usize, other: usize) -> bool;
    /// Exchanges two items.
    fn swap(&mut self, one: usize, other: usize);
}

struct Items<'a, T, F> {
    items: &'a mut [T],
    order: F,
}

impl<T, F: Fn(&T, &T) -> Ordering> Places for Items<'_, T, F> {
    fn is_before(&self, one: usize, other: usize) -> bool {
        let items = (self.items.get(one), self.items.get(other));
        matches!(items, (Some(one), Some(other)) if (self.order)(one, other).is_lt())
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.items.swap(one, other);
    }
}

/// Heapsort: no memory beside the items, and n log n in the worst case, which hostile rows may choose.
fn heap_sort(items: &mut dyn Places, len: usize) {
    for root in (0..len / 2).rev() {
        sift(items, root, len);
    }
    for end in (1..len).rev() {
        items.swap(0, end);
        sift(items, 0, end);
    }
}

/// Moves the item at `root` down until none of its two children, of those before `end`, comes after it.
fn sift(items: &mut dyn Places, mut root: usize, end: usize) {
    loop {
        let mut child = 2 * root + 1;
        if child + 1 < end && items.is_before(child, child + 1) {
            child += 1;
        }
        if child >= end || !items.is_before(root, child) {
            return;
        }
        items.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn items_come_in_order(mut items in prop::collection::vec(0_u16..300, 0..200)) {
            let mut expected = items.clone();
            expected.sort_unstable();
            sort(&mut items);
            prop_assert_eq!(&items, &expected);
            expected.reverse();
            sort_by(&mut items, |one, other| other.cmp(one));
            prop_assert_eq!(&items, &expected);
        }
    }
}
