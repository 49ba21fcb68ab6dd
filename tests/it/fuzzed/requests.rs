//! What a caller says on one connection: the upstream gets only what came from exactly one well-formed request each, in
//! order.
//!
//! The first byte says where the bytes are split into two writes.

use std::sync::atomic::{AtomicU32, Ordering};

use super::origin::Origin;
use super::place::{self, Gateway};
use super::{caller, oracle};

/// A gateway before an upstream that keeps what it gets.
pub(crate) struct Stage {
    gateway: Gateway,
    origin: Origin,
    next: AtomicU32,
}

impl Stage {
    pub(crate) fn start() -> Self {
        let origin = Origin::start();
        let rest =
            format!("[upstreams.default]\nurl = \"{}\"\n[[routes]]\npath = \"/guarded\"\n", origin.url());
        Self {
            gateway: place::gateway("forwarded = \"replace\"", "", &rest),
            origin,
            next: AtomicU32::new(0),
        }
    }

    pub(crate) fn bear(&self, bytes: &[u8]) {
        let Some((split, bytes)) = bytes.split_first() else { return };
        let from = caller::address(self.next.fetch_add(1, Ordering::Relaxed));
        caller::say(self.gateway.callers, from, bytes, usize::from(*split));
        assert_eq!(place::panics(), 0, "a thread of the gateway panicked");
        for caller in [from.to_string(), String::new()] {
            if let Some(objection) = oracle::objection(bytes, &self.origin.take_from(&caller)) {
                panic!("{objection}");
            }
        }
    }
}

#[test]
fn whatever_a_caller_said_once_reaches_the_upstream_as_well_formed_requests_or_not_at_all() {
    let stage = Stage::start();
    super::try_each("requests", |bytes| stage.bear(bytes));
}
