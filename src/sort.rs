//! Sorting, in one piece of code for all types: each sort of the standard library adds 3 KB to the binary. Pure.

use std::cmp::Ordering;

/// Sorts in place; of equal items, any may come first.
pub(crate) fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// The same by another order.
pub(crate) fn sort_by<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering) {
    let len = items.len();
    sort_places(&mut Items { items, order }, len);
}

/// Sorts items without their type, unless they are in order already, as most are.
fn sort_places(items: &mut dyn Places, len: usize) {
    if (1..len).any(|place| items.is_before(place, place - 1)) {
        quick_sort(items, 0, len, depth(len));
    }
}

/// Twice as often as so many items can be halved.
fn depth(len: usize) -> usize {
    2 * len.max(1).ilog2() as usize
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

/// Quicksort of the items from `begin` on, before `end`. Where it divides badly more often than `depth` allows, since
/// a hostile row may choose the order, heapsort: n log n in the worst case.
fn quick_sort(items: &mut dyn Places, mut begin: usize, end: usize, mut depth: usize) {
    while end.saturating_sub(begin) > 1 {
        if depth == 0 {
            return heap_sort(items, begin, end - begin);
        }
        depth -= 1;
        // What is in order stays so, with the middle as pivot.
        items.swap(begin, begin + (end - begin) / 2);
        let (mut left, mut right) = (begin + 1, end);
        loop {
            while left < right && items.is_before(left, begin) {
                left += 1;
            }
            // Equal items go to both sides.
            while left < right && items.is_before(begin, right - 1) {
                right -= 1;
            }
            if left + 1 >= right {
                break;
            }
            items.swap(left, right - 1);
            left += 1;
            right -= 1;
        }
        let pivot = left - 1;
        items.swap(begin, pivot);
        quick_sort(items, begin, pivot, depth);
        begin = pivot + 1;
    }
}

/// Heapsort of `len` items from `begin` on.
fn heap_sort(items: &mut dyn Places, begin: usize, len: usize) {
    for root in (0..len / 2).rev() {
        sift(items, begin, root, len);
    }
    for end in (1..len).rev() {
        items.swap(begin, begin + end);
        sift(items, begin, 0, end);
    }
}

/// Moves the item at `root` down until none of its two children, of those before `end`, comes after it.
fn sift(items: &mut dyn Places, begin: usize, mut root: usize, end: usize) {
    loop {
        let mut child = 2 * root + 1;
        if child + 1 < end && items.is_before(begin + child, begin + child + 1) {
            child += 1;
        }
        if child >= end || !items.is_before(begin + root, begin + child) {
            return;
        }
        items.swap(begin + root, begin + child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn items_come_in_order(mut items in prop::collection::vec(0_u16..300, 0..200), depth in 0_usize..20) {
            let (before, mut expected) = (items.clone(), items.clone());
            expected.sort_unstable();
            sort(&mut items);
            prop_assert_eq!(&items, &expected);
            expected.reverse();
            sort_by(&mut items, |one, other| other.cmp(one));
            prop_assert_eq!(&items, &expected);
            // Whatever depth it has left.
            let (len, mut items) = (before.len(), before);
            let order = |one: &u16, other: &u16| other.cmp(one);
            quick_sort(&mut Items { items: &mut items, order }, 0, len, depth);
            prop_assert_eq!(&items, &expected);
        }
    }

    /// An order that is made up while it is asked for, so that each pivot divides as badly as it can: items that are
    /// not fixed yet come last, and of two such, one is fixed as the next (McIlroy, A killer adversary for quicksort).
    #[test]
    fn no_order_takes_more_than_n_log_n_comparisons() {
        let len = 4096;
        let ranks: Vec<Cell<usize>> = vec![Cell::new(usize::MAX); len];
        let (fixed, candidate, comparisons) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let fix = |item: usize| {
            ranks[item].set(fixed.get());
            fixed.set(fixed.get() + 1);
        };
        let mut items: Vec<usize> = (0..len).collect();
        let order = |one: &usize, other: &usize| {
            comparisons.set(comparisons.get() + 1);
            let is_open = |item: &&usize| ranks[**item].get() == usize::MAX;
            if is_open(&one) && is_open(&other) {
                fix(if *one == candidate.get() { *one } else { *other });
            }
            let open = [one, other].into_iter().find(is_open);
            candidate.set(open.copied().unwrap_or(candidate.get()));
            ranks[*one].get().cmp(&ranks[*other].get())
        };
        quick_sort(&mut Items { items: &mut items, order }, 0, len, depth(len));
        assert!(items.is_sorted_by_key(|item| ranks[*item].get()));
        assert!(comparisons.get() < len * 12 * 5, "{}", comparisons.get());
    }
}
