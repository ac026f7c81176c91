//! The least loaded connection, the first of several. Everybody who asks at once gets the same one.

use super::Policy;
use crate::directory::Live;

/// Keeps the best offer so far with its load.
pub(super) struct LeastLoaded<'a, T> {
    best: Option<(u32, &'a Live<T>)>,
}

impl<'a, T> Policy<'a, T> for LeastLoaded<'a, T> {
    fn new(_: u64) -> Self {
        Self { best: None }
    }

    fn offer(&mut self, live: &'a Live<T>, load: impl Fn(&T) -> u32) {
        let load = load(&live.handle);
        if self.best.is_none_or(|(least, _)| load < least) {
            self.best = Some((load, live));
        }
    }

    fn pick(self, _: impl Fn(&T) -> u32) -> Option<&'a Live<T>> {
        self.best.map(|(_, live)| live)
    }
}
