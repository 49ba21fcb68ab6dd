//! The known mistakes of this field, so that the proofs can show that they would find them.
//!
//! At the place where each would be made the code asks [`Mistake::is_made`]. In whatever is released that is a constant
//! `false`: only tests of the library, and binaries built with the feature `mistakes`, can make one. Must not know who
//! makes them or who looks. `docs/proof.md` tells which method finds which.

#[cfg(any(test, feature = "mistakes"))]
pub use made::{Made, UnknownMistake};

/// What others got wrong, and at which place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// A claim whose session died is run again, as a lock with a lease is (`machine.rs`).
    ExpiringClaim,
    /// A completion does not look whose attempt stands there (`ledger/claim.rs`).
    BlindCompletion,
    /// A release does not look whose attempt stands there (`ledger/claim.rs`).
    BlindRemoval,
    /// A request that was sent and got no answer frees its key (`machine.rs`).
    HopefulRelease,
    /// Who waits for an answer goes by what it read before it waited (`ledger/mod.rs`).
    StaleWaiter,
    /// An answer that is too large to keep frees its key (`machine.rs`).
    ForgetfulGiant,
    /// A record that cannot be read is taken for none (`machine.rs`).
    UnreadableIsAbsent,
    /// All callers share one space of keys (`scope.rs`).
    ScopelessKey,
}

#[cfg(not(any(test, feature = "mistakes")))]
impl Mistake {
    /// Whether it is made. Never, in what is released.
    #[inline]
    #[expect(clippy::unused_self, reason = "asked in the same words as where mistakes can be made")]
    pub(crate) const fn is_made(self) -> bool {
        false
    }
}

#[cfg(any(test, feature = "mistakes"))]
mod made {
    use std::cell::Cell;
    use std::str::FromStr;
    use std::sync::OnceLock;

    use super::Mistake;

    thread_local! {
        static HERE: Cell<Option<Mistake>> = const { Cell::new(None) };
    }
    static EVERYWHERE: OnceLock<Mistake> = OnceLock::new();

    impl Mistake {
        /// All of them.
        pub const ALL: [Self; 8] = [
            Self::ExpiringClaim,
            Self::BlindCompletion,
            Self::BlindRemoval,
            Self::HopefulRelease,
            Self::StaleWaiter,
            Self::ForgetfulGiant,
            Self::UnreadableIsAbsent,
            Self::ScopelessKey,
        ];

        /// Whether it is made in this thread, or everywhere.
        pub(crate) fn is_made(self) -> bool {
            HERE.get() == Some(self) || EVERYWHERE.get() == Some(&self)
        }

        /// Makes it in this thread, and no other, until the answer is dropped.
        #[must_use]
        pub fn make(self) -> Made {
            Made(HERE.replace(Some(self)))
        }

        /// Makes it in the whole process, to its end. The first one counts.
        pub fn make_everywhere(self) {
            EVERYWHERE.get_or_init(|| self);
        }

        /// Its name on a command line.
        pub const fn as_str(self) -> &'static str {
            match self {
                Self::ExpiringClaim => "expiring-claim",
                Self::BlindCompletion => "blind-completion",
                Self::BlindRemoval => "blind-removal",
                Self::HopefulRelease => "hopeful-release",
                Self::StaleWaiter => "stale-waiter",
                Self::ForgetfulGiant => "forgetful-giant",
                Self::UnreadableIsAbsent => "unreadable-is-absent",
                Self::ScopelessKey => "scopeless-key",
            }
        }
    }

    /// A mistake that is being made in this thread.
    #[derive(Debug)]
    pub struct Made(Option<Mistake>);

    impl Drop for Made {
        fn drop(&mut self) {
            HERE.set(self.0);
        }
    }

    /// A name that no mistake has.
    #[derive(Debug, thiserror::Error)]
    #[error("{name:?} is no mistake; there are: {}", Mistake::ALL.map(Mistake::as_str).join(", "))]
    pub struct UnknownMistake {
        name: String,
    }

    impl FromStr for Mistake {
        type Err = UnknownMistake;

        fn from_str(name: &str) -> Result<Self, Self::Err> {
            let named = Self::ALL.into_iter().find(|mistake| mistake.as_str() == name);
            named.ok_or_else(|| UnknownMistake { name: name.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_made_in_its_thread_and_for_as_long_as_it_is_held() {
        let made = Mistake::StaleWaiter.make();
        assert!(Mistake::StaleWaiter.is_made() && !Mistake::ExpiringClaim.is_made());
        std::thread::spawn(|| assert!(!Mistake::StaleWaiter.is_made())).join().unwrap();
        drop(made);
        assert!(!Mistake::StaleWaiter.is_made());
    }

    #[test]
    fn a_mistake_is_found_by_its_name_and_no_other() {
        for mistake in Mistake::ALL {
            assert_eq!(mistake.as_str().parse::<Mistake>().unwrap(), mistake);
        }
        let error = "expiring_claim".parse::<Mistake>().unwrap_err().to_string();
        assert!(
            error.starts_with("\"expiring_claim\" is no mistake; there are: expiring-claim, "),
            "{error}"
        );
    }
}
