//! What it costs to write a record as bytes and to read it back: plain, sealed, compressed, and both.
//!
//! Prints the fewest microseconds of many rounds: what disturbs a round only makes it longer. Every record
//! that is read is compared with the one that was written. Started by `scripts/bench-codec`.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use onceway::protocol::fingerprint::Fingerprint;
use onceway::protocol::record::{Attempt, Phase, Record, Seen, Session, Settled, UnixMillis, Version};
use onceway::protocol::saved::{SavedHead, SavedResponse};
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::{Codec, Compression, Sealing};

/// As the gateway has it, since most of what is measured makes and drops buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY: StorageKey = StorageKey::from_bytes([9; 32]);

/// Rounds of one figure; the least is printed.
const ROUNDS: usize = 30;

/// How long a round takes about.
const ROUND: Duration = Duration::from_millis(5);

const BODIES: [(&str, usize); 4] =
    [("300 B", 300), ("1 KiB", 1024), ("16 KiB", 16 * 1024), ("1 MiB", 1024 * 1024)];

fn main() -> ExitCode {
    let sealing = Sealing::On { keys: &[&[7; 32]], accept_unsealed: false };
    let codecs = [
        ("plain", Codec::default()),
        ("sealed", Codec::new(sealing, Compression::Off)),
        ("compressed", Codec::new(Sealing::Off, Compression::Zstd)),
        ("both", Codec::new(sealing, Compression::Zstd)),
    ];
    println!("{:<9} {:<11} {:>9} {:>9} {:>9}", "body", "record", "write µs", "read µs", "bytes");
    let claim = record(Phase::InFlight);
    let answers = BODIES.map(|(name, len)| (name, answered(len)));
    let mut is_sound = true;
    for (name, record) in std::iter::once(("claim", claim)).chain(answers) {
        for (codec_name, codec) in &codecs {
            is_sound &= row(name, codec_name, codec, &record);
        }
    }
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a row; answers whether what was read was what had been written.
fn row(name: &str, codec_name: &str, codec: &Codec, record: &Record) -> bool {
    let encoded = codec.encode(&KEY, record);
    let is_sound = codec.decode(&KEY, encoded.clone()) == Seen::Record(Box::new(record.clone()));
    let write = least(|| drop(black_box(codec.encode(&KEY, black_box(record)))));
    let read = least(|| drop(black_box(codec.decode(&KEY, black_box(encoded.clone())))));
    let bytes = encoded.head.len() + encoded.body.len();
    println!("{name:<9} {codec_name:<11} {write:>9.2} {read:>9.2} {bytes:>9}");
    is_sound
}

/// The fewest microseconds that `work` took on average in a round.
fn least(mut work: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut times: u32 = 0;
    while began.elapsed() < ROUND {
        work();
        times += 1;
    }
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        (0..times).for_each(|_| work());
        began.elapsed().as_secs_f64() * 1e6 / f64::from(times)
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn answered(len: usize) -> Record {
    let lines = [
        ("content-type", "application/json"),
        ("location", "/v1/payments/pay_01HF8Z7Q9K3M5N7P"),
        ("x-request-id", "5f2b6d0e-3f0c-4c55-9a3c-0d4a3f6f2b1e"),
    ];
    let headers = lines.map(|(name, value)| (name.to_owned(), Bytes::from_static(value.as_bytes()))).into();
    let saved =
        SavedResponse { head: SavedHead { status: 201, headers }, body: json(len), trailers: [].into() };
    record(Phase::Done { saved, settled: Settled { at: UnixMillis(2), keep_for: Duration::from_hours(24) } })
}

/// A list of payments as services answer it: names repeat, values do not.
fn json(len: usize) -> Bytes {
    let payment = |number: u64| {
        let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "{{\"id\":\"pay_{noise:016x}\",\"amount\":{},\"currency\":\"EUR\",\"status\":\"captured\"}},",
            noise % 100_000
        )
    };
    (1..).flat_map(|number| payment(number).into_bytes()).take(len).collect()
}

fn record(phase: Phase) -> Record {
    Record {
        version: Version { attempt: Attempt([1; 16]), revision: 1 },
        session: Session([2; 16]),
        fingerprint: Fingerprint::from_bytes([3; 32]),
        attempts: 1,
        opened_at: UnixMillis(1),
        route: "/v1/payments".to_owned(),
        phase,
    }
}
