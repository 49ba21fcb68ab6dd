//! Claims on stores that several gateways share.

use std::sync::Arc;
use std::time::Duration;

use onceway::protocol::record::Seen;
use onceway::store::{Closure, Gate, SessionLife, Store, Swapped, Watch};
use tokio::time::timeout;

use super::moving::walk;
use super::records::{insert, seen};
use super::{SHORT, Shared};
use crate::records::{LONG, a_claim, after, bytes_of, done_with, eventually, some_key, some_session};

async fn connected(store: Arc<dyn Store>) -> Arc<dyn Store> {
    eventually("the handle connects", || async { store.ping().await.is_ok() }).await;
    store
}

async fn is_told(watch: &mut Watch) -> bool {
    timeout(Duration::from_secs(10), watch.changed()).await.is_ok()
}

pub(super) async fn a_session_that_is_not_renewed_is_absent_after_its_time(bench: &impl Shared) {
    let (store, session) = (bench.transfer(), some_session());
    store.renew_session(session, SHORT).await.unwrap();
    let life = || async { store.session_life(session).await.unwrap() };
    eventually("the session ends", || async { life().await == SessionLife::Absent }).await;
    assert_eq!(store.sessions().await.unwrap(), Vec::new());
}

pub(super) async fn a_renewal_starts_the_time_anew(bench: &impl Shared) {
    let (store, session, witness) = (bench.store(), some_session(), some_session());
    store.renew_session(session, SHORT).await.unwrap();
    store.renew_session(session, LONG).await.unwrap();
    // Written after the first renewal, so when it has ended, the first renewal's time is over too.
    store.renew_session(witness, SHORT).await.unwrap();
    let life = |of| async move { store.session_life(of).await.unwrap() };
    eventually("the witness ends", || async { life.clone()(witness).await == SessionLife::Absent }).await;
    assert_eq!(life(session).await, SessionLife::Alive);
}

pub(super) async fn another_handle_is_told_of_swaps_and_removals(bench: &impl Shared) {
    let (watching, writing) = (bench.store(), connected(bench.another()).await);
    for length in [10, 100_000] {
        let (key, claim) = (some_key(), a_claim());
        let done = after(&claim, done_with(bytes_of(length)));
        insert(&writing, &key, &claim).await;
        let mut watch = watching.watch(&key).await.unwrap();
        assert_eq!(writing.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
        assert!(is_told(&mut watch).await, "of the swap, {length} bytes");
        assert_eq!(watching.fetch(&key).await.unwrap(), seen(&done));
        writing.remove(&key, done.version).await.unwrap();
        assert!(is_told(&mut watch).await, "of the removal, {length} bytes");
    }
}

pub(super) async fn a_closed_gate_is_told_to_every_handle(bench: &impl Shared) {
    let another = connected(bench.another()).await;
    for gate in [Gate::Closed(Closure::Arriving), Gate::Open] {
        bench.transfer().set_gate(gate).await.unwrap();
        assert_eq!(another.renew_session(some_session(), LONG).await.unwrap(), gate);
    }
}

pub(super) async fn installations_that_share_a_server_do_not_see_each_other(bench: &impl Shared) {
    let (here, there) = (bench.transfer(), bench.elsewhere());
    connected(there.clone()).await;
    let (key, session) = (some_key(), some_session());
    insert(&bench.store(), &key, &a_claim()).await;
    here.renew_session(session, LONG).await.unwrap();
    here.set_gate(Gate::Closed(Closure::Backup)).await.unwrap();
    assert_eq!(there.fetch(&key).await.unwrap(), Seen::Nothing);
    assert_eq!(there.session_life(session).await.unwrap(), SessionLife::Absent);
    assert_eq!(there.gate().await.unwrap(), Gate::Open);
    assert_eq!((walk(&there, 10).await.len(), there.sessions().await.unwrap().len()), (0, 0));
    assert_eq!(there.insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Nothing);
}
