//! The shape of a steering policy, and the list of them.
//!
//! A policy picks one of the connections of the best level, which are offered to it one after another: their
//! number is not known before. To add one, write its file, and list it here by a `mod` and a line of
//! [`policies`].

mod least_loaded;
mod less_loaded_of_two;

use crate::directory::Live;

/// Picks one of the connections that are offered.
pub(super) trait Policy<'a, T>: Sized {
    /// Without an offer yet. `seed` is the exchange's.
    fn new(seed: u64) -> Self;

    /// Takes one into the choice; `load` tells the exchanges in flight on it.
    fn offer(&mut self, live: &'a Live<T>, load: impl Fn(&T) -> u32);

    /// The choice; `None` if nothing was offered.
    fn pick(self, load: impl Fn(&T) -> u32) -> Option<&'a Live<T>>;
}

/// Makes the enum of the policies, and runs what is generic over a policy with the one that is meant.
macro_rules! policies {
    ($($(#[$doc:meta])* $name:ident => $policy:path,)+) => {
        /// How one connection is picked among those of the best level.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum PolicyName {
            $($(#[$doc])* $name,)+
        }

        impl PolicyName {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }

        /// As [`choose_by`](super::choose_by), with the policy that `ask` names.
        pub(super) fn choose_by_name<'a, T>(
            directory: &'a crate::directory::Directory<T>,
            ask: &super::Ask<'_>,
            load: impl Fn(&T) -> u32,
        ) -> Result<&'a Live<T>, super::NoConnection> {
            match ask.policy {
                $(PolicyName::$name => super::choose_by::<T, $policy>(directory, ask, load),)+
            }
        }
    };
}

/// The policy for the few exchanges that go to one replica's management.
pub(super) fn least_loaded<'a, T: 'a>() -> impl Policy<'a, T> {
    least_loaded::LeastLoaded::new(0)
}

policies! {
    /// The less loaded of two random ones: spreads nearly as well as a comparison of all, without sending
    /// everybody to the same one.
    #[default]
    LessLoadedOfTwo => less_loaded_of_two::LessLoadedOfTwo<'a, T>,
    /// The least loaded, the first of several. For few exchanges that have no use for a random choice.
    LeastLoaded => least_loaded::LeastLoaded<'a, T>,
}
