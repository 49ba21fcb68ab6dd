//! The sentinels of a set: who its master is, as far as they know.
//!
//! All are asked at once, and the answer of the highest epoch counts: one that was cut off still names the
//! master of before. So do all that are in reach, if only such are; what was learnt before tells them. They are asked at every connect and again and again meanwhile, since a master that was
//! replaced goes on taking writes, all of which will be lost, until it hears of it. Must not know what the
//! connections to the master are for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Client, Pipeline};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::address::{How, Peer};
use super::dial::Dial;
use super::failed::Failed;
use super::link::{Link, Outage, Purpose};

/// How long one sentinel may take. The connect to the master comes on top.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often they are asked while nothing happens. Until then a replaced master may be written to.
const ASK_EVERY: Duration = Duration::from_millis(500);

const SENTINEL: Purpose = Purpose { name: "sentinel", is_eager: true, patience: Duration::from_secs(1) };

/// The sentinels. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sentinels(Arc<Shared>);

struct Shared {
    links: Vec<Link>,
    name: String,
    how: How,
    named: watch::Sender<Option<Peer>>,
    /// The highest that was told since all sentinels told of a lower one.
    epoch: AtomicU64,
}

impl Sentinels {
    pub(super) fn new(sentinels: Vec<Client>, name: String, how: How) -> Self {
        let links =
            sentinels.into_iter().map(|client| Link::new(Dial::Server(Box::new(client)), SENTINEL, None));
        let (links, named) = (links.collect(), watch::Sender::new(None));
        Self(Arc::new(Shared { links, name, how, named, epoch: AtomicU64::new(0) }))
    }

    /// Keeps asking. To be run as a task; stops when dropped.
    pub(super) async fn keep(self) {
        let mut links = JoinSet::new();
        for link in &self.0.links {
            links.spawn(link.clone().keep());
        }
        loop {
            // What came of it is for those who connect.
            drop(self.ask().await);
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The master by the newest word, and what it takes to connect to it.
    pub(super) async fn master(&self) -> Result<(Client, Peer), Outage> {
        let master = self.ask().await.map_err(|failed| Outage::NoMaster(Box::new(failed)))?;
        Ok((self.0.how.client(&master).map_err(Outage::Connect)?, master))
    }

    /// Returns when the sentinels name another master than `master`.
    pub(super) async fn named_another(&self, master: &Peer) {
        let mut named = self.0.named.subscribe();
        let another =
            named.wait_for(|named| named.as_ref().is_some_and(|named| named != master)).await.is_ok();
        if !another {
            std::future::pending::<()>().await;
        }
    }

    /// How many sentinels are asked, and how many of them are in reach.
    pub(super) async fn reachable(&self) -> (usize, usize) {
        (self.answers().await.0.len(), self.0.links.len())
    }

    async fn ask(&self) -> Result<Peer, Failed> {
        let (answers, failed) = self.answers().await;
        let are_all = answers.len() == self.0.links.len();
        let Some(Answer { epoch, master }) = newest(answers) else {
            return Err(failed.unwrap_or(Failed::NoSuchMaster));
        };
        // Sentinels that were all set up anew begin to count anew.
        if self.0.epoch.fetch_max(epoch, Ordering::AcqRel) > epoch {
            if !are_all {
                return Err(Failed::Outdated);
            }
            self.0.epoch.store(epoch, Ordering::Release);
        }
        self.0.named.send_if_modified(|named| {
            let is_news = named.as_ref() != Some(&master);
            if is_news {
                tracing::info!(%master, "the sentinels name the master");
                *named = Some(master.clone());
            }
            is_news
        });
        Ok(master)
    }

    /// What those say that answer, and why one of the others does not.
    async fn answers(&self) -> (Vec<Answer>, Option<Failed>) {
        let mut questions = JoinSet::new();
        for link in &self.0.links {
            let (link, name) = (link.clone(), self.0.name.clone());
            questions.spawn(async move {
                tokio::time::timeout(PATIENCE, ask_one(&link, &name)).await.unwrap_or(Err(Failed::Late))
            });
        }
        let (mut answers, mut failed) = (Vec::new(), None);
        while let Some(answer) = questions.join_next().await {
            match answer {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(why)) => failed = Some(why),
                Err(_panicked) => {}
            }
        }
        (answers, failed)
    }
}

/// What one sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    /// Grows with every failover; 0 if the sentinel may not tell.
    epoch: u64,
    master: Peer,
}

/// The answer that knows of the latest failover; among equals, whichever most give.
fn newest(answers: Vec<Answer>) -> Option<Answer> {
    let epoch = answers.iter().map(|answer| answer.epoch).max()?;
    let mut votes: HashMap<Peer, usize> = HashMap::new();
    for answer in answers.into_iter().filter(|answer| answer.epoch == epoch) {
        *votes.entry(answer.master).or_default() += 1;
    }
    votes
        .into_iter()
        .max_by(|(one, votes), (other, more)| votes.cmp(more).then(one.cmp(other)))
        .map(|(master, _)| Answer { epoch, master })
}

async fn ask_one(link: &Link, name: &str) -> Result<Answer, Failed> {
    let mut questions = Pipeline::with_capacity(2);
    questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    questions.cmd("SENTINEL").arg("MASTER").arg(name);
    let mut answers = link.ask_all(&questions).await?.into_iter();
    let (Some(at), Some(about)) = (answers.next(), answers.next()) else { return Err(Failed::Senseless) };
    let at: Option<(String, String)> = redis::from_redis_value(at?).map_err(|_error| Failed::Senseless)?;
    let (host, port) = at.ok_or(Failed::NoSuchMaster)?;
    let master = port.parse().ok().and_then(|port| Peer::of(&host, port, &host)).ok_or(Failed::Senseless)?;
    // Whoever may not ask for it leaves the choice to the majority.
    let about: HashMap<String, String> =
        about.ok().and_then(|about| redis::from_redis_value(about).ok()).unwrap_or_default();
    let epoch = about.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Ok(Answer { epoch, master })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(epoch: u64, host: &str) -> Answer {
        Answer { epoch, master: Peer { host: host.to_owned(), port: 6379 } }
    }

    #[test]
    fn the_word_of_the_highest_epoch_counts_also_against_a_majority() {
        let host = |answers| newest(answers).map(|answer| answer.master.host);
        assert_eq!(host(vec![answer(1, "old"), answer(2, "new"), answer(1, "old")]), Some("new".to_owned()));
        assert_eq!(host(vec![answer(0, "b"), answer(0, "a"), answer(0, "a")]), Some("a".to_owned()));
        assert_eq!(host(Vec::new()), None);
    }
}
