//! Every small history of one key, enumerated, and what must hold in each.
//!
//! A handful of requests, two gateway processes and one store are played against each other in every order, with
//! commands that are lost, land late or twice, crashes, processes that stand still, dead sessions, expiry, operators,
//! damage and failovers between any two steps. The decisions are the real ones: `machine::{claim, reclaim, judge,
//! settle, extend, restored, resolve, forget}`, and `scope::HashKey` for the keys of two callers. What an operator sends is
//! always in the air first, so anything may happen between their look and its landing. Only what surrounds them is a
//! model: the store (insert if absent, compare-and-swap, remove; its replicas) and the order in which the ledger calls.
//!
//! What the ledger must do for the proof to be about it, all in `play.rs`: tell its own claim by the
//! whole version; say `NeverSent` only of a claim that it gave up on before it sent anything; take a
//! changed record for its own only if the attempt is its own and the revision newer than the one it
//! knew; forward on a reclaim only if the swap was done; put an outcome where nothing stands by an insert, never over
//! what does; ask for the claim and the session again after its process stood still, before anything is sent; let who
//! waits look again before it is answered.
//!
//! Four properties are promises to callers (`watcher.rs`). That a retry is always answered is checked so: where nothing
//! more can happen by itself, nobody waits. No step can be taken back without an accident, and a history has only so
//! many of those, so from any moment on the steps without faults come to an end.
//!
//! Left out: more than three requests at once (a client that retries is one more request, at any time after or beside
//! the others, at either gateway), and finished answers in memory, which `ledger/answers.rs` has tests of its own for.
//!
//! Read `scenario.rs` (what is played), `world.rs` (what a moment is), `events.rs` (what may happen next), `play.rs`,
//! `store.rs` and `mishaps.rs` (what then becomes of the moment), `watcher.rs` (what must hold), `explore.rs` (the
//! search, by stateright), `bounds.rs` and `claims.rs` (what is claimed, and how far it is followed), and `noticed.rs`
//! (the planted mistakes that show that the search would notice). `scripts/model` prints what was searched.

mod bounds;
mod claims;
mod events;
mod explore;
mod mishaps;
mod noticed;
mod play;
mod scenario;
mod store;
mod watcher;
mod world;
