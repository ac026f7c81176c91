//! How many connectors may be connected to one core, and how many of them without having registered.

use std::cell::Cell;
use std::rc::Rc;

/// Connections of one core; more are closed on arrival. Each takes a descriptor.
const CONNECTIONS_MAX: usize = 16_384;

/// Connections of one core over each transport that have not registered; more are closed on arrival.
const UNREGISTERED_MAX: usize = 2_048;

/// The places for connections of one core, over all of its listeners.
#[derive(Default)]
pub(crate) struct Places {
    taken: Rc<Cell<usize>>,
    unregistered: Rc<Cell<usize>>,
}

impl Places {
    pub(crate) fn take(&self) -> Option<(Place, Place)> {
        let is_free = self.taken.get() < CONNECTIONS_MAX && self.unregistered.get() < UNREGISTERED_MAX;
        is_free.then(|| (Place::of(&self.taken), Place::of(&self.unregistered)))
    }
}

/// The places for connections of one core over QUIC that have not registered.
#[derive(Default)]
pub(crate) struct Unregistered(Rc<Cell<usize>>);

impl Unregistered {
    pub(crate) fn take(&self) -> Option<Place> {
        (self.0.get() < UNREGISTERED_MAX).then(|| Place::of(&self.0))
    }
}

/// One of them, given back when dropped.
pub(crate) struct Place(Rc<Cell<usize>>);

impl Place {
    fn of(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_connections_over_quic_may_be_without_registration() {
        let unregistered = Unregistered::default();
        let mut places: Vec<_> = (0..UNREGISTERED_MAX).map_while(|_| unregistered.take()).collect();
        assert_eq!(places.len(), UNREGISTERED_MAX);
        assert!(unregistered.take().is_none());
        places.pop();
        assert!(unregistered.take().is_some());
    }
}
