//! Where writes gather: while one statement is under way, what comes meanwhile becomes the next.
//!
//! A commit waits for the disk, and often for a replica. So callers share it: one statement carries the
//! writes of many. The fuller the lane, the cheaper each of them; an empty one adds no delay. Must not know
//! what is written. Read `claims.rs` and `settlements.rs` after.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};

use super::link::{Connected, Link};
use super::trouble::Failure;
use crate::clock;
use crate::protocol::scope::StorageKey;

/// Writes in one statement at most, and their bytes; a single one may have more.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Writes that wait at most. Whoever comes then is refused.
const QUEUE_MAX: usize = 16_384;

/// Before another look at records that other transactions hold.
const HELD_PAUSE: Duration = Duration::from_millis(2);

/// A write that can share a statement with others.
#[async_trait]
pub(super) trait Job: Send + Sync + Sized + 'static {
    type Answer: Send;

    fn key(&self) -> StorageKey;

    fn bytes(&self) -> usize;

    /// Carries the jobs out, one for each key. Whoever has no answer is to be asked again.
    async fn run(
        jobs: &[&Self],
        namespace: &str,
        link: &Link,
        at: &Connected,
    ) -> Result<HashMap<StorageKey, Self::Answer>, Failure>;

    /// What another job of the same key and the same statement is told, when this one was told `answer`.
    /// Nothing: it waits for its turn.
    fn shared(&self, answer: &Self::Answer) -> Option<Self::Answer>;
}

/// The entrance to a lane. Cheap to clone.
pub(super) struct Lane<J: Job> {
    link: Link,
    queue: Arc<Queue<J>>,
}

struct Queue<J: Job> {
    namespace: String,
    waiting: Mutex<VecDeque<Waiting<J>>>,
    arrived: Notify,
}

struct Waiting<J: Job> {
    job: J,
    since: Instant,
    tell: oneshot::Sender<Result<J::Answer, Failure>>,
}

/// The jobs of one statement: of each key the first goes, and the others hear of it.
type Batch<J> = Vec<Vec<Waiting<J>>>;

impl<J: Job> Lane<J> {
    pub(super) fn new(namespace: &str, link: Link) -> Self {
        let queue =
            Queue { namespace: namespace.to_owned(), waiting: Mutex::default(), arrived: Notify::new() };
        Self { link, queue: Arc::new(queue) }
    }

    /// Has the job carried out.
    ///
    /// Cancel safety: a job whose caller has left is not begun.
    pub(super) async fn submit(&self, job: J) -> Result<J::Answer, Failure> {
        // Whoever comes while the connection is down is refused at once.
        self.link.connected().await?;
        let (tell, told) = oneshot::channel();
        let since = clock::monotonic();
        self.queue.push(Waiting { job, since, tell })?;
        told.await.unwrap_or(Err(super::trouble::Outage::Closed.into()))
    }

    /// Carries jobs out for ever. To be run as a task; stops when dropped.
    pub(super) async fn keep(self) {
        loop {
            let batch = self.queue.take();
            if batch.is_empty() {
                self.queue.arrived.notified().await;
                continue;
            }
            let asked: usize = batch.iter().map(Vec::len).sum();
            let again = self.carry_out(batch).await;
            if again.len() == asked {
                tokio::time::sleep(HELD_PAUSE).await;
            }
            self.queue.put_back(again, self.link.patience());
        }
    }

    /// Answers those that are to be asked again.
    async fn carry_out(&self, batch: Batch<J>) -> Vec<Waiting<J>> {
        let at = match self.link.connected().await {
            Ok(at) => at,
            Err(failure) => return refuse(batch, &failure),
        };
        match self.run(&batch, &at).await {
            Ok(answers) => tell(batch, answers),
            // Nothing was written. One of them is held up; the others need not suffer for it.
            Err(failure) if failure.is_lock_timeout() && batch.len() > 1 => {
                let mut again = Vec::new();
                for alone in batch.into_iter().map(|same| vec![same]) {
                    again.extend(match self.run(&alone, &at).await {
                        Ok(answers) => tell(alone, answers),
                        Err(failure) => refuse(alone, &failure),
                    });
                }
                again
            }
            Err(failure) => refuse(batch, &failure),
        }
    }

    async fn run(&self, batch: &Batch<J>, at: &Connected) -> Result<HashMap<StorageKey, J::Answer>, Failure> {
        let jobs: Vec<&J> = batch.iter().filter_map(|same| same.first()).map(|first| &first.job).collect();
        J::run(&jobs, &self.queue.namespace, &self.link, at).await
    }
}

impl<J: Job> Queue<J> {
    fn push(&self, waiting: Waiting<J>) -> Result<(), Failure> {
        let mut queue = self.waiting();
        if queue.len() >= QUEUE_MAX {
            return Err(Failure::Crowded);
        }
        queue.push_back(waiting);
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next batch, in the order of the keys, which two statements that meet must share.
    fn take(&self) -> Batch<J> {
        let mut queue = self.waiting();
        let mut batch: HashMap<StorageKey, Vec<Waiting<J>>> = HashMap::new();
        let mut bytes = 0_usize;
        while let Some(next) = queue.pop_front() {
            if next.tell.is_closed() {
                continue;
            }
            let adds = next.job.bytes();
            let key = next.job.key();
            let is_full = batch.len() >= BATCH_MAX || bytes.saturating_add(adds) > BATCH_BYTES_MAX;
            if is_full && !batch.is_empty() && !batch.contains_key(&key) {
                queue.push_front(next);
                break;
            }
            let same = batch.entry(key).or_default();
            if same.is_empty() {
                bytes = bytes.saturating_add(adds);
            }
            same.push(next);
        }
        drop(queue);
        let mut batch: Vec<_> = batch.into_iter().collect();
        batch.sort_unstable_by_key(|(key, _)| *key);
        batch.into_iter().map(|(_, same)| same).collect()
    }

    /// Those that waited for too long are told so.
    fn put_back(&self, again: Vec<Waiting<J>>, patience: Duration) {
        let now = clock::monotonic();
        let mut queue = self.waiting();
        for waiting in again.into_iter().rev() {
            if now.saturating_duration_since(waiting.since) < patience {
                queue.push_front(waiting);
            } else {
                // Whoever left needs no answer.
                drop(waiting.tell.send(Err(Failure::Contended)));
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting<J>>> {
        // Nothing panics between the steps of a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell<J: Job>(batch: Batch<J>, mut answers: HashMap<StorageKey, J::Answer>) -> Vec<Waiting<J>> {
    let mut again = Vec::new();
    for same in batch {
        let mut same = same.into_iter();
        let Some(first) = same.next() else { continue };
        let Some(answer) = answers.remove(&first.job.key()) else {
            again.push(first);
            again.extend(same);
            continue;
        };
        for other in same {
            match first.job.shared(&answer) {
                // Whoever left needs no answer.
                Some(answer) => drop(other.tell.send(Ok(answer))),
                None => again.push(other),
            }
        }
        drop(first.tell.send(Ok(answer)));
    }
    again
}

fn refuse<J: Job>(batch: Batch<J>, failure: &Failure) -> Vec<Waiting<J>> {
    for waiting in batch.into_iter().flatten() {
        // Whoever left needs no answer.
        drop(waiting.tell.send(Err(failure.clone())));
    }
    Vec::new()
}

impl<J: Job> Clone for Lane<J> {
    fn clone(&self) -> Self {
        Self { link: self.link.clone(), queue: Arc::clone(&self.queue) }
    }
}
