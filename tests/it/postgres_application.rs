//! The recipe of `docs/postgresql.md`: an application whose effect and whose note of the key commit together, so
//! that outcomes which nobody knows are asked for again, and heal by themselves.

use tokio_postgres::Client;

use crate::harness::{GatewayPlan, Reply, Upstream, post};
use crate::servers::postgres::{Database, client};

const TABLES: &str = "
CREATE TABLE payments (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount integer NOT NULL);
CREATE TABLE answered (
    caller text NOT NULL, key text NOT NULL, answer text,
    answered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, key)
);";

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Pays, unless the caller's key was answered before: then it gives that answer.
async fn pay(database: &mut Client, caller: &str, key: &str) -> String {
    let transaction = database.transaction().await.unwrap();
    // Whoever comes while the first is at work waits here for its end.
    let note = "INSERT INTO answered (caller, key) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    if transaction.execute(note, &[&caller, &key]).await.unwrap() == 0 {
        let before = "SELECT answer FROM answered WHERE caller = $1 AND key = $2";
        return transaction.query_one(before, &[&caller, &key]).await.unwrap().get(0);
    }
    let paid = "INSERT INTO payments (amount) VALUES (100) RETURNING 'payment ' || id";
    let answer: String = transaction.query_one(paid, &[]).await.unwrap().get(0);
    let keep = "UPDATE answered SET answer = $3 WHERE caller = $1 AND key = $2";
    transaction.execute(keep, &[&caller, &key, &answer]).await.unwrap();
    transaction.commit().await.unwrap();
    answer
}

/// An application that commits each effect, and whose first answer is lost on its way.
fn forgetful(database: &Database) -> Upstream {
    let url = database.url();
    Upstream::by(move |request| {
        let (caller, key) = (request.header("authorization"), request.header("idempotency-key"));
        let answer = now(async { pay(&mut client(&url).await, &caller.unwrap(), &key.unwrap()).await });
        if request.number == 1 { Reply::default().reset() } else { Reply::answer(201).body(answer) }
    })
}

#[test]
fn an_unknown_outcome_heals_by_itself_where_the_effect_and_the_key_commit_together() {
    let database = now(Database::create());
    now(database.run(TABLES));
    let application = forgetful(&database);
    let gateway = GatewayPlan::before(&application).policy("on_unknown = \"retry\"").start();
    let ask = post("/payments").key("k").caller("alice");
    assert_eq!(gateway.ask(&ask).problem(), (502, "outcome-unknown".into()));
    for word in ["executed", "replayed"] {
        let answer = gateway.ask(&ask);
        assert_eq!((answer.text(), answer.word().as_deref()), ("payment 1".into(), Some(word)));
    }
    assert_eq!(application.executions(), 2);
    assert_eq!(now(database.run("SELECT count(*) FROM payments")).as_deref(), Some("1"));
}

#[test]
fn keys_of_different_callers_are_different_keys_to_the_application_too() {
    let database = now(Database::create());
    now(database.run(TABLES));
    let answers: Vec<String> = now(async {
        let (mut application, mut answers) = (client(&database.url()).await, Vec::new());
        for (caller, key) in [("alice", "k"), ("bob", "k"), ("alice", "k")] {
            answers.push(pay(&mut application, caller, key).await);
        }
        answers
    });
    assert_eq!(answers, ["payment 1", "payment 2", "payment 1"]);
}
