//! What a test of the whole gateway is made of: the real binary before a scripted upstream, and a client that
//! says exactly the bytes it is told to.
//!
//! Read `gateway.rs` (the process), `upstream.rs` (who is protected), `client.rs` (who asks), `wire.rs` (the
//! bytes between them). Everything here has a deadline, so that a gateway that hangs fails a test.

pub(crate) mod caller_frames;
pub(crate) mod certificates;
mod client;
mod duplex;
mod frames;
mod gate;
mod gateway;
mod manager;
mod places;
mod planted;
mod service;
mod upstream;
mod wire;

use std::time::{Duration, Instant};

pub(crate) use client::{Ask, Client, ask, get, post};
pub(crate) use duplex::{Echo, over_http2, over_http2_and_tls, rest};
pub(crate) use frames::{CANCEL, FrameServer, Frames, HEADERS, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM};
pub(crate) use gate::Gate;
pub(crate) use gateway::{Gateway, GatewayPlan};
pub(crate) use manager::Manager;
pub(crate) use places::{Babel, Unlistened, Unresponsive};
pub(crate) use service::{Service, read_up_to};
pub(crate) use upstream::{Reply, Upstream};
pub(crate) use wire::Answer;

/// After this, whatever a test waits for does not come any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `holds`, and fails when the patience ends.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own deadline")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
