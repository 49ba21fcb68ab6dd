//! Every small history of one key, enumerated, and what must hold in each.
//!
//! A handful of requests, two gateway processes and one store are played against each other in every
//! order, with commands that land late, crashes, dead sessions, expiry, operators and damage between
//! any two steps. The decisions are the real ones: `machine::{claim, reclaim, judge, settle, extend, restored, resolve,
//! forget}`. What an operator sends is always in the air first, so anything may happen between their look and its landing.
//! Only what surrounds them is a model: the store (insert if absent, compare-and-swap, remove) and the
//! order in which the ledger calls.
//!
//! What the ledger must do for the proof to be about it, all in `play.rs`: tell its own claim by the
//! whole version; say `NeverSent` only of a claim that it gave up on before it sent anything; take a
//! changed record for its own only if the attempt is its own and the revision newer than the one it
//! knew; forward on a reclaim only if the swap was done; put an outcome where nothing stands by an insert, never over
//! what does.
//!
//! Left out: stores that lose what they acknowledged, and a process that stands still for longer than
//! its claims are kept.
//!
//! Read `world.rs` (what a moment is), `events.rs` (what may happen next), `play.rs` and `mishaps.rs`
//! (what then becomes of the moment), `watcher.rs` (what must hold), `explore.rs` (the search), and `claims.rs`
//! (what is claimed, and the planted mistakes that show that the search would notice).

mod claims;
mod events;
mod explore;
mod mishaps;
mod play;
mod watcher;
mod world;
