//! The series of a family, and handles on them. Labels are looked up when a handle is made, never when it counts.
//!
//! Must not know what is counted. Read `families.rs` before.

use std::fmt;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::families::Described;

/// The names and values of one series.
type Labels = Vec<(&'static str, String)>;

/// A family whose series differ by their labels.
#[derive(Clone)]
pub(super) struct Labelled<M: 'static> {
    described: &'static Described,
    series: Family<Labels, M, fn() -> M>,
}

/// One handle for each word of a closed set.
#[derive(Clone, Debug)]
pub(super) struct PerWord<W, M>(Box<[(W, M)]>);

impl<M> Labelled<M>
where
    M: EncodeMetric + TypedMetric + fmt::Debug + Clone + Send + Sync + 'static,
{
    /// A family without a series yet. `make`: a series that stands at nought.
    pub(super) fn registered(
        registry: &mut Registry,
        described: &'static Described,
        make: fn() -> M,
    ) -> Self {
        let series = Family::new_with_constructor(make);
        described.register(registry, series.clone());
        Self { described, series }
    }

    /// The series with these values of its labels, in the order in which the family names them. The same values give
    /// the same series, whoever asks and whenever.
    pub(super) fn with(&self, values: &[&str]) -> M {
        let names = self.described.labels;
        debug_assert_eq!(names.len(), values.len(), "the labels of {}", self.described.name);
        let labels = names.iter().zip(values).map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.series.get_or_create_owned(&labels)
    }
}

impl<W: Copy + PartialEq, M> PerWord<W, M> {
    /// A handle for each of `words`.
    pub(super) fn of(words: &[W], handle: impl Fn(W) -> M) -> Self {
        Self(words.iter().map(|word| (*word, handle(*word))).collect())
    }

    /// The handle of a word; `None` if it is none of the set.
    pub(super) fn get(&self, word: W) -> Option<&M> {
        // The sets are so small that looking through them is quicker than any index.
        let found = self.0.iter().find(|(known, _)| *known == word).map(|(_, handle)| handle);
        debug_assert!(found.is_some(), "a word that is in no set of labels");
        found
    }
}
