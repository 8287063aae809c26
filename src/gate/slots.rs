//! The open connections, each under an id that is never given twice.
//!
//! An event or a lane may name a connection that is gone, whose place another has taken: its id
//! then finds nothing.

/// Names one connection, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u64);

impl Id {
    /// As the data of an event.
    pub(super) fn as_u64(self) -> u64 {
        self.0
    }

    /// From the data of an event.
    pub(super) fn from_u64(data: u64) -> Self {
        Self(data)
    }

    fn new(generation: u64, index: usize) -> Self {
        Self(generation << 32 | index as u64)
    }

    fn index(self) -> usize {
        usize::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(usize::MAX)
    }

    fn generation(self) -> u64 {
        self.0 >> 32
    }
}

struct Slot<T> {
    /// How often this place was used. It wraps after two billion times; no event and no lane
    /// holds an id for longer than seconds.
    generation: u64,
    value: Option<T>,
}

/// The topmost bit of an id stays free, for the names of what is no connection.
const GENERATIONS: u64 = 1 << 31;

/// Values under ids.
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    live: usize,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), live: 0 }
    }

    /// How many there are.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Puts one in.
    pub(super) fn insert(&mut self, value: T) -> Id {
        self.live += 1;
        let index = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(index) {
            Some(slot) => {
                slot.generation = (slot.generation + 1) % GENERATIONS;
                slot.value = Some(value);
                Id::new(slot.generation, index)
            }
            None => {
                self.slots.push(Slot { generation: 0, value: Some(value) });
                Id::new(0, index)
            }
        }
    }

    /// Finds one.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation == id.generation() { slot.value.as_mut() } else { None }
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        self.get_mut(id)?;
        let value = self.slots.get_mut(id.index())?.value.take()?;
        self.live -= 1;
        self.free.push(id.index());
        Some(value)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.value.as_ref().map(|value| (Id::new(slot.generation, index), value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_finds_nothing_of_the_new() {
        let mut slots = Slots::new();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut 'b'));
        assert_eq!(slots.live(), 1);
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(second, &'b')]);
        assert!(slots.insert('c').as_u64() < 1 << 63);
    }
}
