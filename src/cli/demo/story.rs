//! The story: the same three mishaps, first before the bare payments API, then before the gateway.
//!
//! Owns what happens and in which order; shows what the client saw and what the API did. Needs nothing of
//! the gateway but its address. Read `payments.rs`, `client.rs` and `stage.rs` for the cast.

use std::io::Write;
use std::net::SocketAddr;

use http::StatusCode;
use tokio_util::task::TaskTracker;

use super::client::{Answer, LossyWire, NoAnswer, PATIENCE, Payment};
use super::payments::Payments;
use super::stage::Stage;

/// Length of what tells the cards and keys of one run from those of another.
const RUN_CHARS: usize = 8;

/// How often a card was charged for what its holder meant as one payment, act by act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Before the bare API.
    pub without: Charged,
    /// Before the gateway.
    pub with: Charged,
}

/// How often the card of each act was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// The answer was lost, and the client tried again.
    pub lost_answer: usize,
    /// The button was clicked twice.
    pub double_click: usize,
    /// A key came back with another amount.
    pub reused_key: usize,
}

/// Why the story broke off.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// What was to be shown could not be written.
    #[error("write the story")]
    Write(#[from] std::io::Error),
    /// The wire that loses an answer could not be laid.
    #[error("lay a wire for the client")]
    Wire(#[source] std::io::Error),
}

/// The addresses and tools of one side of the story.
struct Scene<'a> {
    server: SocketAddr,
    payments: &'a Payments,
    tasks: &'a TaskTracker,
    /// Told apart by it: no card and no key is used on both sides, nor by two runs of the story.
    run: String,
}

/// Plays the story on `out`: `direct` leads to the API, `gateway` to the gateway before it.
///
/// Cancel safety: the story breaks off; nothing is left running.
pub async fn play(
    out: &mut impl Write,
    is_coloured: bool,
    payments: &Payments,
    direct: SocketAddr,
    gateway: SocketAddr,
) -> Result<Tally, StoryError> {
    let tasks = TaskTracker::new();
    let mut stage = Stage::on(out, is_coloured);
    let scene = |server| {
        let mut run = uuid::Uuid::new_v4().simple().to_string();
        run.truncate(RUN_CHARS);
        Scene { server, payments, tasks: &tasks, run }
    };

    stage.part("WITHOUT THE GATEWAY", "client -> payments API")?;
    let without = scene(direct).play(&mut stage).await?;
    stage.part("WITH THE GATEWAY", "client -> gateway -> payments API")?;
    let with = scene(gateway).play(&mut stage).await?;

    stage.part("HOW OFTEN THE CARD WAS CHARGED", "by the requests under one key\n")?;
    stage.line(format_args!("  {:<48} without      with", ""))?;
    stage.tally("the answer is lost, the client retries", without.lost_answer, with.lost_answer)?;
    stage.tally("a double click", without.double_click, with.double_click)?;
    stage.tally("a used key comes back with another amount", without.reused_key, with.reused_key)?;
    stage.flush()?;

    tasks.close();
    tasks.wait().await;
    Ok(Tally { without, with })
}

impl Scene<'_> {
    async fn play<W: Write>(self, stage: &mut Stage<'_, W>) -> Result<Charged, StoryError> {
        Ok(Charged {
            lost_answer: self.lost_answer(stage).await?,
            double_click: self.double_click(stage).await?,
            reused_key: self.reused_key(stage).await?,
        })
    }

    /// The payment is made and answered, but the connection dies before the answer is through.
    async fn lost_answer<W: Write>(&self, stage: &mut Stage<'_, W>) -> Result<usize, StoryError> {
        stage.act("1. The answer is lost, the client retries")?;
        let (key, card) = (self.named("lost-answer"), self.named("card-1"));
        let payment = Payment { key: &key, card: &card, amount: "42.00" };
        let wire = LossyWire::to(self.server, self.tasks).await.map_err(StoryError::Wire)?;
        self.show(stage, "pays 42.00 EUR", &payment.send_to(wire.address).await, &card)?;
        self.show(stage, "retries: same request, same key", &payment.send_to(wire.address).await, &card)
    }

    /// Two equal requests, the second while the first is under way.
    async fn double_click<W: Write>(&self, stage: &mut Stage<'_, W>) -> Result<usize, StoryError> {
        stage.act("2. A double click: two requests at once, one key")?;
        let (key, card) = (self.named("double-click"), self.named("card-2"));
        let payment = Payment { key: &key, card: &card, amount: "9.90" };
        let before = self.payments.charges().total();
        let first = payment.send_to(self.server);
        let second = async {
            // Not earlier, or chance would decide which of the two is the first.
            drop(tokio::time::timeout(PATIENCE, self.payments.charges().beyond(before)).await);
            payment.send_to(self.server).await
        };
        let (first, second) = tokio::join!(first, second);
        stage.client("clicks \"pay 9.90 EUR\"", &first)?;
        let charged = self.show(stage, "clicks again meanwhile", &second, &card)?;
        if !is_in_flight(&second) {
            return Ok(charged);
        }
        self.show(stage, "retries a little later", &payment.send_to(self.server).await, &card)
    }

    /// A key that has served its payment is used for another.
    async fn reused_key<W: Write>(&self, stage: &mut Stage<'_, W>) -> Result<usize, StoryError> {
        stage.act("3. A used key comes back with another amount")?;
        let (key, card) = (self.named("reused-key"), self.named("card-3"));
        let payment = Payment { key: &key, card: &card, amount: "15.00" };
        self.show(stage, "pays 15.00 EUR", &payment.send_to(self.server).await, &card)?;
        let other = Payment { amount: "1500.00", ..payment };
        self.show(stage, "pays 1500.00 EUR under the same key", &other.send_to(self.server).await, &card)
    }

    /// Shows both sides, and answers how often the card was charged by now.
    fn show<W: Write>(
        &self,
        stage: &mut Stage<'_, W>,
        deed: &str,
        seen: &Result<Answer, NoAnswer>,
        card: &str,
    ) -> Result<usize, StoryError> {
        let charged = self.payments.charges().of_card(card);
        stage.client(deed, seen)?;
        stage.api(charged)?;
        stage.flush()?;
        Ok(charged)
    }

    fn named(&self, what: &str) -> String {
        format!("{what}-{}", self.run)
    }
}

fn is_in_flight(seen: &Result<Answer, NoAnswer>) -> bool {
    seen.as_ref().is_ok_and(|answer| answer.status == StatusCode::CONFLICT)
}
