//! The one thread that writes. It drains the queue, applies what it found in one transaction, commits
//! (which waits for the disk) and only then answers each; so many callers share one fsync.
//!
//! When a write has failed, everybody in it is told so, and so is whoever comes until a write succeeds
//! again: the thread opens the database anew and tries, at longer and longer intervals, whether there are
//! calls or not. Must not know what a record means. Read `tables.rs` and `engine.rs` before.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::super::StoreError;
use super::backlog::{Backlog, Crowd, Crowded};
use super::engine::Engine;
use super::tables::{self, Failure, StoreClock, Tables};
use super::walk::{self, Steps, Walk};
use crate::clock;

/// Jobs waiting for the writer; whoever comes after waits for a place.
const QUEUE_MAX: usize = 1024;

/// Jobs in one transaction.
const BATCH_MAX: usize = 256;

/// How often records are looked through for what has expired, apart from what is written.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Of all records each time this part, and so all of them within the hour; or so many, if that is more. But no more
/// than so many bytes.
const SWEPT_PART: u64 = 720;
const SWEPT_MIN: u64 = 4096;
const SWEPT_BYTES: u64 = 16 * 1024 * 1024;

/// In one transaction.
const SWEPT_AT_ONCE: Steps = Steps { records: 1024, bytes: 4 * 1024 * 1024 };

/// Along with each job. More than one record: the walk goes round several times while as many are written as there are,
/// so that what has expired is a small part of the file.
const SWEPT_PER_JOB: Steps = Steps { records: 8, bytes: 16 * 1024 };

/// And for each byte that is written so many more, so that it keeps up with large records, too.
const SWEPT_PER_BYTE: u64 = 2;

/// How often the time is written down along with what is committed, in milliseconds: each time costs pages of a table of
/// its own. After a crash the store's clock may begin by so much before what the file has seen: records live longer.
const CLOCK_KEPT_EVERY: u64 = 1000;

/// Between a failed attempt to write again and the next one, at first and at most.
const HEAL_PAUSE_MIN: Duration = Duration::from_millis(50);
const HEAL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A failure sooner than this after the last one goes on with its pauses: on a disk that is nearly full,
/// small writes succeed and large ones do not.
const RELAPSE_WITHIN: Duration = Duration::from_secs(10);

/// The handle to the thread. Dropping it lets the thread finish what is queued, and waits for its end.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    crowd: Arc<Crowd>,
    thread: Option<JoinHandle<()>>,
}

/// Something to be done within a transaction, and somebody who waits for its commit.
trait Job: Send {
    fn is_abandoned(&self) -> bool;
    fn came_at(&self) -> Instant;
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure>;
    fn answer(self: Box<Self>, committed: &Result<(), Arc<Failure>>);
}

struct Asked<F, T> {
    work: F,
    came_at: Instant,
    result: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

#[derive(Debug, thiserror::Error)]
#[error("reach the writer's thread: it has ended")]
struct WriterEnded;

impl Writer {
    pub(super) fn start(engine: Arc<Engine>, store_clock: StoreClock) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        // Its own runtime, for the queue and the timer of the sweep: the gateway's runtimes never wait
        // for the disk.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let desk = Desk::new(engine, store_clock);
        let crowd = Arc::clone(&desk.crowd);
        let thread = thread::Builder::new()
            .name("onceway-writer".to_owned())
            .spawn(move || runtime.block_on(desk.serve(jobs)))?;
        Ok(Self { queue: Some(queue), crowd, thread: Some(thread) })
    }

    /// As [`Writer::write`], for what may as well be refused where there is too much to do.
    ///
    /// Errors: also `Crowded`; then the work is not done, for certain.
    pub(super) async fn write_if_there_is_time<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tables<'_>) -> Result<T, Failure> + Send + 'static,
    {
        if self.crowd.is_too_large() {
            return Err(StoreError::Crowded(Box::new(Crowded)));
        }
        self.write(work).await
    }

    /// Has `work` done in a transaction, and answers when that is on the disk.
    ///
    /// Errors: nothing is known of it.
    /// Cancel safety: dropping the future leaves the work undone if it was not yet begun.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tables<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let ((answer, answered), came_at) = (oneshot::channel(), clock::monotonic());
        let queue = self.queue.as_ref().ok_or_else(writer_ended)?;
        if queue.send(Box::new(Asked { work, came_at, result: None, answer })).await.is_err() {
            return Err(writer_ended());
        }
        answered.await.unwrap_or_else(|_| Err(writer_ended()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the embedded store's writer ended by a panic");
        }
    }
}

impl<F, T> Job for Asked<F, T>
where
    T: Send,
    F: FnMut(&mut Tables<'_>) -> Result<T, Failure> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn came_at(&self) -> Instant {
        self.came_at
    }

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Failure> {
        self.result = Some((self.work)(tables)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: &Result<(), Arc<Failure>>) {
        let answer = match (committed, self.result) {
            (Ok(()), Some(result)) => Ok(result),
            (Ok(()), None) => Err(writer_ended()),
            (Err(failure), _) => Err(StoreError::Engine(Box::new(failure.clone()))),
        };
        // Whoever asked may have gone meanwhile: the version in the record tells whose write it was.
        drop(self.answer.send(answer));
    }
}

/// What the thread has on its desk.
struct Desk {
    engine: Arc<Engine>,
    store_clock: StoreClock,
    /// When the time was written down last, by the store's clock.
    clock_kept_at: u64,
    walk: Walk,
    /// Steps of the walk before the next pause.
    left_to_sweep: Steps,
    health: Health,
    backlog: Backlog,
    crowd: Arc<Crowd>,
}

/// Whether the database takes writes, as far as the writer knows.
enum Health {
    Well { relapse: Option<Relapse> },
    Ill { pause: Duration, try_at: Instant },
}

/// With what pause the next illness begins, if it begins before this moment.
struct Relapse {
    pause: Duration,
    before: Instant,
}

impl Desk {
    fn new(engine: Arc<Engine>, store_clock: StoreClock) -> Self {
        let health = Health::Well { relapse: None };
        let clock_kept_at = store_clock.now();
        Self {
            engine,
            store_clock,
            clock_kept_at,
            walk: Walk::somewhere(clock_kept_at),
            left_to_sweep: Steps { records: 0, bytes: 0 },
            health,
            backlog: Backlog::default(),
            crowd: Arc::default(),
        }
    }

    async fn serve(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut swept_at = clock::monotonic();
        loop {
            let patience = match self.health {
                Health::Well { .. } => SWEEP_EVERY.saturating_sub(since(swept_at)),
                Health::Ill { try_at, .. } => try_at.saturating_duration_since(clock::monotonic()),
            };
            let received = tokio::time::timeout(patience, jobs.recv_many(&mut batch, BATCH_MAX)).await;
            self.heal_if_due();
            let oldest = batch.first().map(|job| job.came_at());
            let is_too_much = self.backlog.is_too_much(clock::monotonic(), oldest, !jobs.is_empty());
            self.crowd.set(is_too_much && self.is_well());
            match received {
                Ok(0) => return,
                Ok(_) => self.settle(&mut batch),
                Err(_elapsed) => {}
            }
            // While there is more to sweep it stays due, and jobs that wait come in between.
            if self.is_well() && since(swept_at) >= SWEEP_EVERY && !self.sweep_or_fall_ill() {
                swept_at = clock::monotonic();
            }
        }
    }

    fn settle(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        // Nobody waits for these any more: better undone than done behind everybody's back.
        batch.retain(|job| !job.is_abandoned());
        if batch.is_empty() {
            return;
        }
        let committed = if self.is_well() { self.commit(batch) } else { Err(Failure::Ailing) };
        if let (Err(failure), true) = (&committed, self.is_well()) {
            self.fall_ill(failure);
        }
        let committed = committed.map_err(Arc::new);
        batch.drain(..).for_each(|job| job.answer(&committed));
    }

    /// All of the batch or nothing of it is on the disk when this returns; after an error, perhaps.
    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let now = self.store_clock.now();
        let keeps_clock = now.saturating_sub(self.clock_kept_at) >= CLOCK_KEPT_EVERY;
        let mut walk = self.walk;
        self.engine.write(|database| {
            let transaction = tables::begin(database)?;
            let mut tables = Tables::open(&transaction, now)?;
            for job in batch.iter_mut() {
                job.apply(&mut tables)?;
            }
            if !tables.is_changed() {
                drop(tables);
                return Ok(transaction.abort()?);
            }
            walk = tables.sweep(walk, swept_along(batch.len(), tables.written()))?;
            if keeps_clock {
                tables.keep_clock()?;
            }
            drop(tables);
            Ok(transaction.commit()?)
        })?;
        self.walk = walk;
        if keeps_clock {
            self.clock_kept_at = now;
        }
        Ok(())
    }

    fn is_well(&self) -> bool {
        matches!(self.health, Health::Well { .. })
    }

    fn fall_ill(&mut self, failure: &Failure) {
        let error: &dyn std::error::Error = failure;
        tracing::error!(error, "the embedded store cannot write: what needs it is refused until it can");
        let now = clock::monotonic();
        let pause = match &self.health {
            Health::Well { relapse: Some(relapse) } if now < relapse.before => relapse.pause,
            Health::Well { .. } => Duration::ZERO,
            Health::Ill { pause, .. } => *pause,
        };
        self.open_anew();
        // Should it have met a page that cannot be read, it must not come back to it at once.
        self.walk = Walk::somewhere(self.store_clock.now());
        self.health = Health::Ill { pause, try_at: clock::monotonic() + pause };
    }

    /// For those who read, if the disk is no more than full; and for the next attempt to write.
    fn open_anew(&self) {
        if let Err(failure) = self.engine.reopen() {
            let error: &dyn std::error::Error = &failure;
            tracing::error!(error, "the embedded store's file cannot be opened anew yet");
        }
    }

    fn heal_if_due(&mut self) {
        let Health::Ill { pause, try_at } = self.health else { return };
        if clock::monotonic() < try_at {
            return;
        }
        let longer = (pause * 2).clamp(HEAL_PAUSE_MIN, HEAL_PAUSE_MAX);
        self.health = match self.engine.prove(self.store_clock.now()) {
            Ok(()) => {
                tracing::info!("the embedded store takes writes again");
                let before = clock::monotonic() + RELAPSE_WITHIN;
                Health::Well { relapse: Some(Relapse { pause: longer, before }) }
            }
            Err(_still) => {
                self.open_anew();
                Health::Ill { pause: longer, try_at: clock::monotonic() + longer }
            }
        };
    }

    /// Answers whether there may be more to sweep.
    fn sweep_or_fall_ill(&mut self) -> bool {
        self.sweep().unwrap_or_else(|failure| {
            self.fall_ill(&failure);
            false
        })
    }

    fn sweep(&mut self) -> Result<bool, Failure> {
        let (now, from) = (self.store_clock.now(), self.walk);
        if self.left_to_sweep.are_done() {
            let records = (self.engine.write(walk::count)? / SWEPT_PART).max(SWEPT_MIN);
            self.left_to_sweep = Steps { records, bytes: SWEPT_BYTES };
        }
        let most = self.left_to_sweep.at_most(SWEPT_AT_ONCE);
        let (to, left) = self.engine.write(|database| {
            let (to, left, meets_expired) = walk::look_ahead(database, from, most, now)?;
            if !meets_expired {
                return Ok((to, left));
            }
            let transaction = tables::begin(database)?;
            let mut tables = Tables::open(&transaction, now)?;
            tables.sweep(from, most)?;
            tables.keep_clock()?;
            drop(tables);
            transaction.commit()?;
            Ok((to, left))
        })?;
        self.walk = to;
        self.left_to_sweep = self.left_to_sweep.less(most.less(left));
        if to.is_round() {
            self.left_to_sweep = Steps { records: 0, bytes: 0 };
        }
        Ok(!self.left_to_sweep.are_done())
    }
}

/// How far the walk goes along with so many jobs that wrote so many bytes.
fn swept_along(jobs: usize, written: u64) -> Steps {
    let jobs = u64::try_from(jobs).unwrap_or(u64::MAX);
    Steps {
        records: SWEPT_PER_JOB.records.saturating_mul(jobs),
        bytes: SWEPT_PER_JOB
            .bytes
            .saturating_mul(jobs)
            .saturating_add(written.saturating_mul(SWEPT_PER_BYTE)),
    }
}

fn since(moment: Instant) -> Duration {
    clock::monotonic().saturating_duration_since(moment)
}

fn writer_ended() -> StoreError {
    StoreError::Engine(Box::new(WriterEnded))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use redb::backends::InMemoryBackend;

    use super::super::super::codec::{Encoded, HEAD_LEN};
    use super::*;
    use crate::protocol::scope::StorageKey;

    fn desk() -> Desk {
        let medium = || -> io::Result<Box<dyn redb::StorageBackend>> { Ok(Box::new(InMemoryBackend::new())) };
        let (engine, store_clock) = Engine::open(Box::new(medium), None).unwrap().unwrap();
        Desk::new(Arc::new(engine), store_clock)
    }

    fn put(desk: &Desk, keys: std::ops::Range<u16>, keep_for: Duration) {
        let put = |database: &redb::Database| {
            let transaction = tables::begin(database)?;
            let mut tables = Tables::open(&transaction, desk.store_clock.now())?;
            for key in keys {
                let [high, low] = key.to_be_bytes();
                let mut bytes = [low; 32];
                bytes[0] = high;
                let encoded = Encoded { head: Bytes::from_static(&[7; HEAD_LEN]), body: Bytes::new() };
                tables.insert(&StorageKey::from_bytes(bytes), &encoded, keep_for)?;
            }
            drop(tables);
            Ok(transaction.commit()?)
        };
        desk.engine.write(put).unwrap();
    }

    fn records(desk: &Desk) -> u64 {
        desk.engine.read(walk::count).unwrap()
    }

    #[test]
    fn a_store_in_which_nobody_writes_is_swept_in_bounded_steps_until_nothing_is_left() {
        let mut desk = desk();
        put(&desk, 0..3000, Duration::ZERO);
        let mut seen = vec![records(&desk)];
        // Once from somewhere to the end, and once from the beginning.
        for _round in 0..2 {
            while desk.sweep().unwrap() {
                seen.push(records(&desk));
            }
            seen.push(records(&desk));
        }
        assert!(seen.windows(2).all(|pair| pair[0] - pair[1] <= SWEPT_AT_ONCE.records), "{seen:?}");
        assert_eq!(seen.last(), Some(&0), "{seen:?}");
    }

    #[test]
    fn a_sweep_rests_before_it_has_been_through_a_large_store_and_goes_on_where_it_was() {
        let mut desk = desk();
        let all = u16::try_from(SWEPT_MIN).unwrap() * 3;
        put(&desk, 0..all, Duration::ZERO);
        desk.walk = Walk::somewhere(0);
        let mut rounds = 0;
        while records(&desk) > u64::from(all) / 2 {
            let before = records(&desk);
            while desk.sweep().unwrap() {}
            assert!(before - records(&desk) <= SWEPT_MIN);
            rounds += 1;
        }
        assert!(rounds > 1);
    }

    #[test]
    fn after_a_failure_the_walk_goes_on_somewhere_else() {
        let mut desk = desk();
        put(&desk, 0..10, Duration::from_hours(1));
        desk.walk = Walk::somewhere(0);
        desk.sweep().unwrap();
        let before = desk.walk;
        desk.fall_ill(&Failure::Panicked);
        assert_ne!(desk.walk, before);
    }

    #[test]
    fn what_has_not_expired_is_not_swept() {
        let mut desk = desk();
        put(&desk, 0..10, Duration::from_hours(1));
        for _round in 0..2 {
            assert!(!desk.sweep().unwrap());
        }
        assert_eq!(records(&desk), 10);
    }

    #[test]
    fn a_job_whose_caller_has_gone_before_it_began_is_not_done() {
        let mut desk = desk();
        let (answer, answered) = oneshot::channel();
        drop(answered);
        let work = |_: &mut Tables<'_>| -> Result<(), Failure> { panic!("it was done") };
        let mut batch: Vec<Box<dyn Job>> =
            vec![Box::new(Asked { work, came_at: clock::monotonic(), result: None, answer })];
        desk.settle(&mut batch);
        assert!(batch.is_empty());
    }
}
