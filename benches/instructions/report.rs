//! What is said at the end: the table, and each count that is above its limit or far below.

use std::fmt::Write as _;
use std::process::Command;

use super::limits::{self, Cost, Limits, Verdict, verdict};
use super::servers::version_of;
use super::{BATCH, Failure, Found};

/// Answers the report, or fails with it where a limit is exceeded.
pub(super) fn judge(all: &[Found], writes: bool) -> Result<String, Failure> {
    let by = versions()?;
    let mut limits = if writes && !Limits::path().is_file() {
        Limits { by: by.clone(), rows: Vec::new() }
    } else {
        Limits::read()?
    };
    if writes {
        write(&mut limits, all, &by)?;
    }
    let mut report = table(all, &limits)?;
    if !chooses_the_same_code() {
        report.push_str("The limits are of x86-64 with AVX2, so instructions are held against none here.\n");
    }
    let mut is_exceeded = false;
    for Found { row, cost, .. } in all {
        let (work, store) = (row.work.title(), row.store.title());
        match verdict(*cost, limits.of(work, store).map(|limit| applied(limit, *cost))) {
            Verdict::Within => {}
            Verdict::Slack(words) => {
                writeln!(report, "{work} ({store}): {words}; `scripts/instructions --write` lowers it.")?;
            }
            Verdict::Exceeded(words) => {
                is_exceeded = true;
                writeln!(report, "{work} ({store}): {words}.")?;
            }
        }
    }
    if !is_exceeded {
        return Ok(report);
    }
    Err(format!(
        "{report}\nThe limits were measured with {},\nthis run with {by}.\n\
         Where the cost is meant, `scripts/instructions --write` writes the limits anew.",
        limits.by
    )
    .into())
}

/// Puts every limit a little above what was found.
fn write(limits: &mut Limits, all: &[Found], by: &str) -> Result<(), Failure> {
    if !chooses_the_same_code() {
        return Err("limits are written on x86-64 with AVX2".into());
    }
    by.clone_into(&mut limits.by);
    for Found { row, cost, .. } in all {
        limits.set(row.work.title(), row.store.title(), *cost);
    }
    limits.write()
}

/// Whether libraries that choose their code by the processor choose what they chose where the limits were measured.
/// Valgrind shows the program one of a few processors, and on every one with AVX2 the same.
#[cfg(target_arch = "x86_64")]
fn chooses_the_same_code() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn chooses_the_same_code() -> bool {
    false
}

/// What of a limit can be held against this run.
fn applied(limit: Cost, found: Cost) -> Cost {
    if chooses_the_same_code() { limit } else { Cost { instructions: found.instructions, ..limit } }
}

/// Of what the counts depend on beside our source.
fn versions() -> Result<String, Failure> {
    let rustc = version_of("rustc", "--version")?;
    let (libc, valgrind) = (told("getconf", "GNU_LIBC_VERSION")?, told("valgrind", "--version")?);
    Ok(format!("rustc {rustc}, {libc}, {valgrind} and strace {}", version_of("strace", "--version")?))
}

fn told(program: &str, argument: &str) -> Result<String, Failure> {
    let output = Command::new(program).arg(argument).output();
    let output = output.map_err(|error| format!("run {program}: {error}"))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn table(all: &[Found], limits: &Limits) -> Result<String, Failure> {
    let mut out = format!(
        "{:<26} {:<8} {:>12} {:>9} {:>7} {:>13} {:>8}\n",
        "work", "store", "instructions", "at most", "spread", "system calls", "at most"
    );
    for Found { row, cost, batches, .. } in all {
        let (work, store) = (row.work.title(), row.store.title());
        let limit = limits.of(work, store);
        let instructions = limit.map_or_else(String::new, |limit| limit.instructions.to_string());
        let calls = limit.map_or_else(String::new, |limit| limits::decimal(limit.calls_hundredths));
        let (least, most) = (batches.iter().min().unwrap_or(&1), batches.iter().max().unwrap_or(&1));
        let spread = limits::decimal((most - least) * 10_000 / (*least).max(1));
        write!(out, "{work:<26} {store:<8} {:>12} {instructions:>9}", cost.instructions)?;
        writeln!(out, " {spread:>5} % {:>13} {calls:>8}", limits::decimal(cost.calls_hundredths))?;
    }
    out.push_str("\nSystem calls a request:\n");
    for Found { row, calls, .. } in all {
        let rates = calls.0.iter().map(|(name, number)| (name, number * 100 / u64::from(BATCH)));
        let rates = rates.filter(|(_, rate)| *rate >= 5);
        let words: Vec<_> = rates.map(|(name, rate)| format!("{name} {}", limits::decimal(rate))).collect();
        writeln!(out, "{:<26} {:<8} {}", row.work.title(), row.store.title(), words.join(", "))?;
    }
    Ok(out)
}
