//! What somebody finds who takes the store away.

use onceway::config;
use onceway::protocol::record::Seen;
use onceway::store::codec::{Codec, Compression, Sealing};
use onceway::store::embedded::EmbeddedStore;
use onceway::store::redis::RedisStore;
use onceway::store::{Options, Store, Swapped};
use tempfile::TempDir;

use super::{KeyFiles, OLD, names, run, sharing};
use crate::harness::{Gateway, GatewayPlan, Reply, Upstream, post};
use crate::records::{LONG, a_claim, after, bytes_of, done_with, eventually, some_key};
use crate::servers::redis::{NAMESPACE, RedisServer};

/// What must not be found where records are sealed: body, field value and name, trailer and route.
const SEALED: [&str; 6] = [
    "small-body-of-gold",
    "large-body-of-gold",
    "value-of-gold",
    "x-of-gold",
    "trailer-of-gold",
    "route-of-gold",
];

/// What must never be found: key and credential of the caller, and the keys that seal.
const NEVER: [&str; 4] = ["key-of-gold", "credential-of-gold", OLD, "0f1e2d3c"];

/// A service whose answers are full of what must not be found.
fn golden_upstream() -> Upstream {
    Upstream::by(|request| {
        let reply = Reply::answer(201).header("X-Of-Gold", "value-of-gold");
        if request.target.ends_with("small") {
            return reply.chunked(&["small-body-of-gold"], &[("X-End", "trailer-of-gold")]);
        }
        reply.body(large_body())
    })
}

/// Compressed, it is still too large to be kept within its record.
fn large_body() -> String {
    let noise = (1..8000_u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    noise.fold(String::new(), |body, noise| body + &format!("large-body-of-gold {noise:016x};"))
}

/// Makes a small and a large exchange, each replayed once.
fn exchanges(gateway: &Gateway) {
    for size in ["small", "large"] {
        let ask = post(&format!("/route-of-gold/{size}")).key(&format!("key-of-gold-{size}"));
        let ask = ask.caller("Bearer credential-of-gold");
        let (first, replay) = (gateway.ask(&ask), gateway.ask(&ask));
        assert_eq!((first.word().as_deref(), replay.word().as_deref()), (Some("executed"), Some("replayed")));
        assert_eq!(replay.header("x-of-gold").as_deref(), Some("value-of-gold"));
        assert_eq!((first.status, first.body), (replay.status, replay.body));
    }
}

fn guarding(plan: GatewayPlan) -> GatewayPlan {
    plan.route("/route-of-gold/{size}", "")
}

/// Which of the words stand in the bytes.
fn found<'w>(words: &[&'w str], bytes: &[u8]) -> Vec<&'w str> {
    let stands = |word: &&&str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    words.iter().filter(stands).copied().collect()
}

/// Everything that stands in a Redis: names and values.
fn all_of(redis: &RedisServer) -> Vec<u8> {
    let names: Vec<String> = run(redis, &[b"KEYS", b"*"]);
    let values = names.iter().map(|name| run::<Option<Vec<u8>>>(redis, &[b"GET", name.as_bytes()]));
    let values: Vec<Vec<u8>> = values.flatten().collect();
    [names.concat().into_bytes(), values.concat()].concat()
}

/// What a gateway with these lines of `[store]` leaves on the disk.
fn left_on_disk(lines: &[&str]) -> Vec<u8> {
    let (dir, upstream) = (TempDir::new().unwrap(), golden_upstream());
    let data = dir.path().join("data");
    let plan = guarding(GatewayPlan::before(&upstream).store(&format!("file:{}", data.display())));
    let plan = plan.store_line("local_cache = \"0\"");
    let mut gateway = lines.iter().fold(plan, |plan, line| plan.store_line(line)).start();
    exchanges(&gateway);
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(0));
    let files = std::fs::read_dir(&data).unwrap();
    files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

/// What one leaves in a Redis.
fn left_in_redis(lines: &[&str]) -> Vec<u8> {
    let (redis, upstream) = (RedisServer::start(), golden_upstream());
    let plan = guarding(sharing(&redis, &upstream));
    exchanges(&lines.iter().fold(plan, |plan, line| plan.store_line(line)).start());
    assert_eq!((names(&redis, "r").len(), names(&redis, "b").len()), (2, 1));
    all_of(&redis)
}

#[test]
fn nothing_of_an_exchange_can_be_read_on_a_disk_where_records_are_sealed() {
    let files = KeyFiles::new();
    let key = files.line(&[OLD]);
    for lines in [vec![key.as_str()], vec![key.as_str(), "compression = \"zstd\""]] {
        let left = left_on_disk(&lines);
        assert!(left.windows(3).any(|window| window == b"OW\x02"), "there is a sealed record");
        assert_eq!(found(&SEALED, &left), [""; 0]);
        assert_eq!(found(&NEVER, &left), [""; 0]);
    }
}

#[test]
fn nothing_of_an_exchange_can_be_read_in_a_redis_where_records_are_sealed() {
    let files = KeyFiles::new();
    let key = files.line(&[OLD]);
    for lines in [vec![key.as_str()], vec![key.as_str(), "compression = \"zstd\""]] {
        let left = left_in_redis(&lines);
        assert!(left.windows(3).any(|window| window == b"OW\x02"), "there is a sealed record");
        assert_eq!(found(&SEALED, &left), [""; 0]);
        assert_eq!(found(&NEVER, &left), [""; 0]);
    }
}

#[test]
fn where_records_are_not_sealed_answers_can_be_read_and_keys_and_credentials_cannot() {
    for left in [left_on_disk(&[]), left_in_redis(&[])] {
        assert_eq!(found(&SEALED, &left), SEALED);
        assert_eq!(found(&NEVER, &left), [""; 0]);
    }
}

#[test]
fn a_key_file_that_does_not_do_is_an_error_with_its_place_that_shows_nothing_of_it() {
    let files = KeyFiles::new();
    for (lines, told) in [
        (vec!["hunter2"], "line 1 is none"),
        (vec!["", OLD, "hunter2"], "line 3 is none"),
        (vec![OLD, OLD], "line 2 of the file it names holds the key of line 1 again"),
        (vec!["open-only"], "it holds none"),
    ] {
        let text =
            format!("[upstreams.default]\nurl = \"http://127.0.0.1:1\"\n[store]\n{}\n", files.line(&lines));
        let shown = config::parse("onceway.toml", &text, &|_| None).unwrap_err().to_string();
        let place = "onceway.toml:4:23  store.encryption_key_file: found \"/";
        assert!(shown.starts_with(place) && shown.contains(told), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains(OLD), "{shown}");
    }
}

/// Sizes around every bound: none, too small to compress, kept within the record or apart from it.
const SIZES: [usize; 8] = [0, 1, 1023, 1024, 16 * 1024 - 28, 16 * 1024 - 27, 16 * 1024 + 1, 1024 * 1024];

async fn every_size_comes_back(store: &dyn Store) {
    for length in SIZES {
        let (key, claim) = (some_key(), a_claim());
        let done = after(&claim, done_with(bytes_of(length)));
        assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Nothing);
        assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
        let seen = Seen::Record(Box::new(done.clone()));
        assert_eq!(store.fetch(&key).await.unwrap(), seen, "fetched, {length} bytes");
        assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), seen, "met, {length} bytes");
        assert_eq!(store.remove(&key, done.version).await.unwrap(), Swapped::Done);
        assert_eq!(store.fetch(&key).await.unwrap(), Seen::Nothing);
    }
}

fn codecs() -> [Codec; 2] {
    let sealing = Sealing::On { keys: &[&[1; 32]], accept_unsealed: false };
    [Compression::Off, Compression::Zstd].map(|compression| Codec::new(sealing, compression))
}

#[tokio::test]
async fn answers_of_every_size_come_back_from_a_disk_sealed() {
    for codec in codecs() {
        let dir = TempDir::new().unwrap();
        every_size_comes_back(&EmbeddedStore::open(dir.path()).unwrap().with_codec(codec)).await;
    }
}

#[tokio::test]
async fn answers_of_every_size_come_back_from_a_redis_sealed() {
    let server = RedisServer::start();
    for codec in codecs() {
        let options = Options { codec, ..Options::of(NAMESPACE) };
        let store = RedisStore::connect(&server.url(), &options).unwrap();
        eventually("the store connects", || async { store.ping().await.is_ok() }).await;
        every_size_comes_back(&store).await;
    }
}
