//! Whether anything grew. The first half is there to fill what is bounded; in the second half a straight line is laid
//! through the gateway's memory, which is steadier than its last look less its first.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::Failure;
use super::super::process::{Held, kib, mib, number};
use super::visitors::Counts;

/// What that line may rise by in the second half, however long that is.
const RISE_MAX_KIB: f64 = 8.0 * 1024.0;

/// How many more files and threads may be open in the second half than in the first,
const FILES_MORE_MAX: u64 = 16;
const THREADS_MORE_MAX: u64 = 4;

/// and files at the end than at the beginning: to a store, and to who looks.
const FILES_LEFT_MAX: u64 = 2;

/// How much larger the store may be, in percent, and in any case.
const STORE_MORE_PERCENT: u64 = 25;
const STORE_MORE_MAX: u64 = 2 * 1024 * 1024;

/// Looks that are shown.
const SHOWN: usize = 10;

/// What was seen of one gateway.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) looks: Vec<Look>,
    /// Open files before the first visitor came, and after the last had left.
    pub(super) files_before: u64,
    pub(super) files_after: u64,
}

/// What was seen at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) at: Duration,
    pub(super) requests: u64,
    pub(super) held: Held,
    /// Bytes of the store, where it is not the gateway itself.
    pub(super) stored: Option<u64>,
}

impl Course {
    pub(super) fn is_at_rest(&self) -> bool {
        self.files_after <= self.files_before + FILES_LEFT_MAX
    }

    pub(super) fn heading() -> String {
        line(["store", "minutes", "requests", "RSS MiB", "files", "threads", "store MiB"])
    }

    /// Some of the looks, the last among them.
    pub(super) fn rows(&self, store: &str) -> String {
        let step = self.looks.len().div_ceil(SHOWN).max(1);
        let shown = self.looks.iter().rev().step_by(step).collect::<Vec<_>>().into_iter().rev();
        let row = |look: &Look| {
            line([
                store,
                &format!("{:.1}", minutes(look)),
                &look.requests.to_string(),
                &format!("{:.1}", mib(look.held.rss_bytes)),
                &look.held.files.to_string(),
                &look.held.threads.to_string(),
                &look.stored.map_or_else(|| "–".to_owned(), |bytes| format!("{:.1}", mib(bytes))),
            ])
        };
        shown.map(row).collect()
    }

    /// What is to be said of it, and whether that is well.
    pub(super) fn judge(
        &self,
        store: &str,
        counts: &Counts,
        (executions, repeated): (u64, u64),
    ) -> Result<(String, bool), Failure> {
        let (first, second) = self.looks.split_at(self.looks.len() / 2);
        let (Some(begin), Some(end)) = (second.first(), second.last()) else {
            return Err("too short to say anything".into());
        };
        let slope = slope(second);
        let rise = slope * (minutes(end) - minutes(begin));
        let millions = number(end.requests - begin.requests) / 1e6;
        let most = |looks: &[Look], of: fn(&Look) -> u64| looks.iter().map(of).max().unwrap_or_default();
        let both = |of: fn(&Look) -> u64| (most(first, of), most(second, of));
        let (files, threads) = (both(|look| look.held.files), both(|look| look.held.threads));
        let stored = both(|look| look.stored.unwrap_or_default());
        let judged = [
            ("memory", rise <= RISE_MAX_KIB),
            ("open files", files.1 <= files.0 + FILES_MORE_MAX && self.is_at_rest()),
            ("threads", threads.1 <= threads.0 + THREADS_MORE_MAX),
            ("the store", stored.1 <= stored.0 + (stored.0 * STORE_MORE_PERCENT / 100).max(STORE_MORE_MAX)),
            ("executions", executions == counts.worked && repeated == 0),
        ];
        let wrong: Vec<&str> = judged.iter().filter(|(_, is_well)| !is_well).map(|(what, _)| *what).collect();
        let verdict =
            if wrong.is_empty() { "holds".to_owned() } else { format!("FAILS: {}", wrong.join(", ")) };
        let mut text = String::new();
        writeln!(text, "{store} {verdict}")?;
        writeln!(
            text,
            "  memory in the second half {slope:+.1} KiB/minute, {:+.1} KiB/million requests; {rise:+.0} KiB in all, \
             at most {RISE_MAX_KIB:.0}",
            rise / millions
        )?;
        writeln!(
            text,
            "  most in the first half and in the second: open files {} and {}, threads {} and {}, store {:.1} and \
             {:.1} MiB; open files before and after {} and {}",
            files.0,
            files.1,
            threads.0,
            threads.1,
            mib(stored.0),
            mib(stored.1),
            self.files_before,
            self.files_after
        )?;
        writeln!(
            text,
            "  {} requests on {} connections, {} left within a request and {} before the answer; {executions} \
             executions, {} due, {repeated} made twice",
            counts.requests, counts.connections, counts.cut, counts.left, counts.worked
        )?;
        Ok((text, wrong.is_empty()))
    }
}

/// KiB a minute, by least squares.
fn slope(looks: &[Look]) -> f64 {
    let points: Vec<(f64, f64)> =
        looks.iter().map(|look| (minutes(look), kib(look.held.rss_bytes))).collect();
    let count = number(u64::try_from(points.len()).unwrap_or(u64::MAX));
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let alone: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if alone > 0.0 { together / alone } else { 0.0 }
}

fn minutes(look: &Look) -> f64 {
    look.at.as_secs_f64() / 60.0
}

fn line([store, minutes, requests, rss, files, threads, stored]: [&str; 7]) -> String {
    format!("{store:<10} {minutes:>8} {requests:>11} {rss:>8} {files:>6} {threads:>8} {stored:>10}\n")
}
