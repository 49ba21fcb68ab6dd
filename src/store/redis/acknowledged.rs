//! Writes that replicas have acknowledged: many at a time, and one `WAIT` for all of them.
//!
//! `WAIT` looks at the writes of the connection it is sent on and blocks that connection. So these writes
//! have a connection of their own on which nothing else is asked, and while one `WAIT` is under way the next
//! writes gather. Must not know records. Read `link.rs` before.
//!
//! Which answers may be given though the replicas have not acknowledged? One only: what an insert found in
//! its way. A claim that is seen before its own `WAIT` is over is in flight or unknown either way, and its owner
//! sends nothing until replicas have it; should a failover lose it, nothing was sent for it. An answer that is
//! seen before its `WAIT` is over is the true one, but should a failover lose it, the claim below it reads as
//! unknown: so whoever reads one writes it once more, and waits for that (`kept.rs`). A swap or a removal that
//! finds its version changed or gone waits like one that wrote: it may have met its own earlier write, whose
//! `WAIT` failed, and the ledger takes that for done.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};

use super::failed::Failed;
use super::link::{Link, Outage};

/// Writes that may queue. Beyond it callers wait for a place, within their deadline.
const QUEUE_MAX: usize = 1024;

/// How many replicas, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replicas {
    pub(super) count: u32,
    /// Two of these fit into a caller's deadline: the batch before its own, and its own.
    pub(super) wait: Duration,
}

/// The way in. Cheap to clone.
#[derive(Clone)]
pub(super) struct Acknowledged(mpsc::Sender<Write>);

/// One write and who waits for it.
struct Write {
    command: Cmd,
    is_asking: bool,
    told: oneshot::Sender<Result<Value, Failed>>,
}

impl Replicas {
    /// Those that a store with this deadline waits for.
    pub(super) fn of(count: u32, deadline: Duration) -> Option<Self> {
        let wait = (deadline * 2 / 5).max(Duration::from_millis(1));
        (count > 0).then_some(Self { count, wait })
    }
}

impl Acknowledged {
    /// The way in, and the task that is to be run on `link`, which must be used by nobody else.
    ///
    /// A batch holds `batch_max` writes, so that it can be made and sent in less time than it waits.
    pub(super) fn new(
        link: Link,
        replicas: Replicas,
        batch_max: usize,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, writes) = mpsc::channel(QUEUE_MAX);
        (Self(queue), keep(link, replicas, batch_max, writes))
    }

    /// Answers what the server answered, once the replicas have what it wrote.
    ///
    /// Cancel safety: a write whose caller left before it was sent is not sent.
    pub(super) async fn perform(&self, command: Cmd, is_asking: bool) -> Result<Value, Failed> {
        let (told, answer) = oneshot::channel();
        let sent = self.0.send(Write { command, is_asking, told }).await;
        if sent.is_err() {
            return Err(Failed::Outage(Outage::Closed));
        }
        answer.await.unwrap_or(Err(Failed::Outage(Outage::Closed)))
    }
}

async fn keep(link: Link, replicas: Replicas, batch_max: usize, mut writes: mpsc::Receiver<Write>) {
    let mut batch = Vec::new();
    while writes.recv_many(&mut batch, batch_max).await > 0 {
        batch.retain(|write| !write.told.is_closed());
        if !batch.is_empty() {
            perform(&link, replicas, std::mem::take(&mut batch)).await;
        }
    }
}

async fn perform(link: &Link, replicas: Replicas, batch: Vec<Write>) {
    let (mut commands, mut callers) =
        (Pipeline::with_capacity(batch.len() + 1), Vec::with_capacity(batch.len()));
    for Write { command, is_asking, told } in batch {
        if is_asking {
            commands.cmd("ASKING");
        }
        commands.add_command(command);
        callers.push((is_asking, told));
    }
    commands.cmd("WAIT").arg(replicas.count).arg(replicas.wait.as_millis().max(1).to_string());
    match link.ask_all(&commands).await {
        Err(failed) => {
            for (_, told) in callers {
                tell(told, Err(failed.clone()));
            }
        }
        Ok(mut answers) => {
            let acknowledged = acknowledged(answers.pop(), replicas.count);
            let mut answers = answers.into_iter();
            for (is_asking, told) in callers {
                if is_asking {
                    answers.next();
                }
                let answer = answers.next().unwrap_or(Err(Failed::Outage(Outage::Lost)));
                tell(told, judge(answer, &acknowledged));
            }
        }
    }
}

/// What the caller of one write is told. See the top of this file.
fn judge(answer: Result<Value, Failed>, acknowledged: &Result<(), Failed>) -> Result<Value, Failed> {
    match answer {
        Ok(Value::BulkString(stands)) => Ok(Value::BulkString(stands)),
        Ok(written) => acknowledged.clone().map(|()| written),
        Err(failed) => Err(failed),
    }
}

fn acknowledged(answer: Option<Result<Value, Failed>>, wanted: u32) -> Result<(), Failed> {
    match answer {
        Some(Ok(Value::Int(found))) if found >= i64::from(wanted) => Ok(()),
        Some(Ok(Value::Int(found))) => Err(Failed::NotReplicated { found, wanted }),
        Some(Err(failed)) => Err(failed),
        Some(Ok(_)) | None => Err(Failed::NotReplicated { found: 0, wanted }),
    }
}

fn tell(told: oneshot::Sender<Result<Value, Failed>>, answer: Result<Value, Failed>) {
    // Whoever left does not want to know; its write is told by its version.
    drop(told.send(answer));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_insert_found_is_told_without_the_replicas() {
        let none = acknowledged(Some(Ok(Value::Int(0))), 1);
        assert!(judge(Ok(Value::BulkString(b"stands".to_vec())), &none).is_ok());
        for written in [Value::Nil, Value::Okay, Value::Int(1), Value::Int(0), Value::Int(-1)] {
            assert!(judge(Ok(written.clone()), &none).is_err(), "{written:?}");
            assert!(judge(Ok(written), &acknowledged(Some(Ok(Value::Int(1))), 1)).is_ok());
        }
    }

    #[test]
    fn an_answer_to_wait_that_is_no_number_acknowledges_nothing() {
        for answer in [None, Some(Ok(Value::Nil)), Some(Ok(Value::Int(1)))] {
            assert!(acknowledged(answer, 2).is_err());
        }
    }

    #[test]
    fn two_waits_fit_into_a_callers_deadline() {
        let deadline = Duration::from_secs(1);
        assert!(Replicas::of(1, deadline).unwrap().wait * 2 < deadline);
        assert_eq!(Replicas::of(0, deadline), None);
    }
}
