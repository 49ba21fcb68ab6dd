//! A histogram that is counted into without a lock: two atomic additions.
//!
//! The library's own takes a lock for each observation, which workers would wait for. A page that is written meanwhile
//! may show a sum that is one observation behind its count. Must not know what is timed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000 * MICRO;
const SECOND: u64 = 1_000 * MILLI;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What the gateway does by itself: from 50 µs to 5 s.
const BRIEF: &[u64] = &[
    50 * MICRO,
    100 * MICRO,
    250 * MICRO,
    500 * MICRO,
    MILLI,
    2_500 * MICRO,
    5 * MILLI,
    10 * MILLI,
    25 * MILLI,
    50 * MILLI,
    100 * MILLI,
    250 * MILLI,
    500 * MILLI,
    SECOND,
    2_500 * MILLI,
    5 * SECOND,
];

/// What services take: from 500 µs to a minute.
const LONG: &[u64] = &[
    500 * MICRO,
    MILLI,
    2_500 * MICRO,
    5 * MILLI,
    10 * MILLI,
    25 * MILLI,
    50 * MILLI,
    100 * MILLI,
    250 * MILLI,
    500 * MILLI,
    SECOND,
    2_500 * MILLI,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    MINUTE,
];

/// How old answers are: from a second to a week.
const AGES: &[u64] = &[
    SECOND,
    5 * SECOND,
    30 * SECOND,
    MINUTE,
    5 * MINUTE,
    30 * MINUTE,
    HOUR,
    6 * HOUR,
    DAY,
    3 * DAY,
    7 * DAY,
];

/// How often something took how long.
#[derive(Clone)]
pub(super) struct Histogram(Arc<Inner>);

struct Inner {
    /// Nanoseconds; each bucket holds what took no longer and fits in none before it. One more takes the rest.
    bounds: &'static [u64],
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// What the sum is counted in, so that it lasts: at a microsecond, a thousand requests of a minute each in every
    /// second overflow it after nine years.
    grain: Grain,
    /// Whether a series of which nothing was seen yet is left out.
    is_shown_empty: bool,
}

#[derive(Clone, Copy)]
enum Grain {
    Micros,
    Seconds,
}

impl Histogram {
    /// Of what the gateway does by itself.
    pub(super) fn brief() -> Self {
        Self::of(BRIEF, Grain::Micros, true)
    }

    /// The same, left out of the page until something was seen: for one of many series of which few are ever used.
    pub(super) fn brief_once_seen() -> Self {
        Self::of(BRIEF, Grain::Micros, false)
    }

    /// Of what services take.
    pub(super) fn long() -> Self {
        Self::of(LONG, Grain::Micros, true)
    }

    /// Of how old answers are.
    pub(super) fn of_ages() -> Self {
        Self::of(AGES, Grain::Seconds, true)
    }

    fn of(bounds: &'static [u64], grain: Grain, is_shown_empty: bool) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, buckets, sum: AtomicU64::new(0), grain, is_shown_empty }))
    }

    /// Counts something that took so long.
    pub(super) fn observe(&self, time: Duration) {
        let inner = &*self.0;
        let nanos = time.as_secs().saturating_mul(SECOND).saturating_add(time.subsec_nanos().into());
        let bucket = inner.bounds.partition_point(|bound| *bound < nanos);
        if let Some(bucket) = inner.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        inner.sum.fetch_add(inner.grain.rounded(nanos), Ordering::Relaxed);
    }
}

impl Grain {
    fn rounded(self, nanos: u64) -> u64 {
        match self {
            Self::Micros => nanos.saturating_add(MICRO / 2) / MICRO,
            Self::Seconds => nanos.saturating_add(SECOND / 2) / SECOND,
        }
    }

    fn duration(self, grains: u64) -> Duration {
        match self {
            Self::Micros => Duration::from_micros(grains),
            Self::Seconds => Duration::from_secs(grains),
        }
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let inner = &*self.0;
        let bounds = inner.bounds.iter().map(|bound| Duration::from_nanos(*bound).as_secs_f64());
        let counts = inner.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        if count == 0 && !inner.is_shown_empty {
            return Ok(());
        }
        let sum = inner.grain.duration(inner.sum.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Histogram")
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn page(histogram: &Histogram) -> String {
        let (mut registry, mut page) = (Registry::default(), String::new());
        registry.register("took", "It", histogram.clone());
        encode(&mut page, &registry).unwrap();
        page
    }

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_it_does_not_exceed() {
        let histogram = Histogram::of(&[MILLI, SECOND], Grain::Micros, true);
        for time in [MILLI, MILLI + 1, SECOND, SECOND + 1] {
            histogram.observe(Duration::from_nanos(time));
        }
        let page = page(&histogram);
        let buckets: Vec<_> = page.lines().filter(|line| line.starts_with("took_bucket")).collect();
        let [first, second, rest] = ["0.001\"} 1", "1.0\"} 3", "+Inf\"} 4"];
        let expected = [first, second, rest].map(|end| format!("took_bucket{{le=\"{end}"));
        assert_eq!(buckets, expected);
        assert!(page.contains("took_sum 2.002\n") && page.contains("took_count 4\n"), "{page}");
    }

    #[test]
    fn one_that_is_shown_only_once_seen_is_left_out_until_then() {
        let histogram = Histogram::brief_once_seen();
        assert!(!page(&histogram).contains("took_count"));
        histogram.observe(Duration::ZERO);
        assert!(page(&histogram).contains("took_count 1\n"));
    }

    #[test]
    fn no_time_is_too_long() {
        let histogram = Histogram::of_ages();
        histogram.observe(Duration::MAX);
        assert!(page(&histogram).contains("took_bucket{le=\"+Inf\"} 1\n"));
    }
}
