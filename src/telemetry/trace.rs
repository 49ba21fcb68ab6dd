//! Traces: which requests are recorded, and what is recorded of them.
//!
//! One span stands for the request and one for each stretch of its way (`course.rs`). A span is put into a bounded queue
//! when it is over, and taken from there to a collector (`otlp.rs`, `../gateway/collector.rs`); where the queue is full
//! it is dropped and counted. So a collector that is away or slow holds nobody up. Where traces are switched off there
//! is no [`Tracer`], and a request costs one look at an option for each stretch. Must not hold keys, credentials,
//! queries or bodies. Read `trace/context.rs` for the field that carries a trace from hop to hop.

pub mod context;
#[cfg(feature = "otlp")]
pub mod otlp;

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;

use crate::clock;
use context::{Context, SpanId, TRACEPARENT, Told, TraceId};

/// Spans that may wait for the collector. With four of them for a request that runs, this is a second of 16,000
/// requests, in some 20 MiB.
const SPANS_WAITING_MAX: usize = 65_536;

/// Decides which requests are recorded, and takes their spans.
pub struct Tracer {
    sample_one_in: u64,
    queue: SyncSender<Span>,
    ended: Mutex<Receiver<Span>>,
    dropped: AtomicU64,
}

/// One request in its trace.
pub struct Trace {
    tracer: Arc<Tracer>,
    own: Context,
    parent: Option<SpanId>,
    propagates: bool,
    /// One moment by both clocks, so that all its spans are told by one.
    began: (Instant, SystemTime),
}

/// A stretch of a request's way that is over.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// What it is part of; `None`: the trace begins here.
    pub parent: Option<SpanId>,
    /// What kind of stretch.
    pub kind: Kind,
    /// What it is called; for people, of few different ones.
    pub name: Cow<'static, str>,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What else is told of it.
    pub facts: Vec<(&'static str, Fact)>,
    /// Whether it failed.
    pub has_failed: bool,
}

/// What kind of stretch a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that came.
    Server,
    /// A request that was sent on.
    Client,
    /// Anything in between.
    Internal,
}

/// Something told of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Count(i64),
    /// Yes or no.
    Is(bool),
}

/// What is told of a stretch, in the making.
#[derive(Debug, Default)]
pub struct Facts(Vec<(&'static str, Fact)>);

impl Tracer {
    /// Records one of so many of the traces that begin here, and those that came recorded.
    pub fn new(sample_one_in: u64) -> Arc<Self> {
        let (queue, ended) = sync_channel(SPANS_WAITING_MAX);
        Arc::new(Self { sample_one_in, queue, ended: Mutex::new(ended), dropped: AtomicU64::new(0) })
    }

    /// The trace of a request that said this of it. `None`: whoever began it does not record it.
    pub fn begin(self: &Arc<Self>, told: Told) -> Option<Arc<Trace>> {
        let (own, parent) = match told {
            Told::Context(context) if !context.is_sampled() => return None,
            Told::Context(context) => (context.child(), Some(context.span)),
            Told::Nothing | Told::Unreadable => (Context::fresh(|trace| self.is_chosen(trace)), None),
        };
        let began = (clock::monotonic(), clock::wall());
        let propagates = told != Told::Unreadable;
        Some(Arc::new(Trace { tracer: Arc::clone(self), own, parent, propagates, began }))
    }

    /// By the identity of the trace, so that whoever else chooses by that chooses alike.
    fn is_chosen(&self, trace: TraceId) -> bool {
        trace.random_part() < (1_u64 << 56) / self.sample_one_in.max(1)
    }

    fn take(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.lost(1);
        }
    }

    /// Spans that are waiting, at most so many.
    pub fn waiting(&self, most: usize) -> Vec<Span> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).try_iter().take(most).collect()
    }

    /// So many spans do not reach the collector.
    pub fn lost(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }

    /// Spans that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Trace {
    /// The trace it belongs to.
    pub fn id(&self) -> TraceId {
        self.own.trace()
    }

    /// Another stretch of it, to be sent on and recorded when it is over.
    pub(super) fn child(&self) -> Context {
        self.own.child()
    }

    /// Says in the fields of a request that is sent on which stretch it is part of. What the caller said and nobody
    /// can read travels as it came.
    pub(super) fn mark(&self, fields: &mut HeaderMap, stretch: Context) {
        if let (true, Some(field)) = (self.propagates, stretch.field()) {
            fields.insert(TRACEPARENT, field);
        }
    }

    /// Records a stretch that began then and is over now. What is told of it is asked only if it is recorded.
    pub(super) fn over(
        &self,
        name: &'static str,
        kind: Kind,
        stretch: Option<Context>,
        began: Instant,
        tell: impl FnOnce(&mut Facts) -> bool,
    ) {
        if !self.own.is_sampled() {
            return;
        }
        let mut facts = Facts::default();
        let has_failed = tell(&mut facts);
        self.tracer.take(Span {
            trace: self.own.trace,
            id: stretch.unwrap_or_else(|| self.child()).span,
            parent: Some(self.own.span),
            kind,
            name: Cow::Borrowed(name),
            began: self.wall_at(began),
            took: clock::monotonic().saturating_duration_since(began),
            facts: facts.0,
            has_failed,
        });
    }

    /// Records the request itself: it has been answered. Answers what is told of it.
    pub(super) fn answered(&self, began: Instant, tell: impl FnOnce(&mut Facts) -> (String, bool)) {
        if !self.own.is_sampled() {
            return;
        }
        let mut facts = Facts::default();
        let (name, has_failed) = tell(&mut facts);
        self.tracer.take(Span {
            trace: self.own.trace,
            id: self.own.span,
            parent: self.parent,
            kind: Kind::Server,
            name: Cow::Owned(name),
            began: self.wall_at(began),
            took: clock::monotonic().saturating_duration_since(began),
            facts: facts.0,
            has_failed,
        });
    }

    fn wall_at(&self, moment: Instant) -> SystemTime {
        let (began, wall) = self.began;
        if moment < began {
            wall.checked_sub(began.duration_since(moment)).unwrap_or(wall)
        } else {
            wall.checked_add(moment.duration_since(began)).unwrap_or(wall)
        }
    }
}

impl Facts {
    /// A word of a few.
    pub fn word(&mut self, name: &'static str, word: &'static str) {
        self.0.push((name, Fact::Text(Cow::Borrowed(word))));
    }

    /// A text.
    pub fn text(&mut self, name: &'static str, text: impl Into<String>) {
        self.0.push((name, Fact::Text(Cow::Owned(text.into()))));
    }

    /// An identity, as a UUID.
    pub fn id(&mut self, name: &'static str, id: [u8; 16]) {
        self.text(name, uuid::Uuid::from_bytes(id).to_string());
    }

    /// A number.
    pub fn count(&mut self, name: &'static str, number: impl Into<i64>) {
        self.0.push((name, Fact::Count(number.into())));
    }

    /// A duration, in microseconds.
    pub fn micros(&mut self, name: &'static str, time: Duration) {
        self.0.push((name, Fact::Count(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))));
    }

    /// That something is so.
    pub fn is(&mut self, name: &'static str) {
        self.0.push((name, Fact::Is(true)));
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({})", self.own.trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(flags: &str) -> Told {
        let mut fields = HeaderMap::new();
        let line = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        fields.insert(TRACEPARENT, line.parse().unwrap());
        Told::by(&fields)
    }

    #[test]
    fn a_trace_that_comes_is_recorded_if_whoever_began_it_does() {
        let tracer = Tracer::new(1);
        assert!(tracer.begin(told("00")).is_none());
        let trace = tracer.begin(told("01")).unwrap();
        trace.over("claim", Kind::Internal, None, clock::monotonic(), |_| false);
        trace.answered(clock::monotonic(), |_| ("POST".to_owned(), false));
        let spans = tracer.waiting(10);
        let ends: Vec<_> = spans.iter().map(|span| (span.id == trace.own.span, span.parent)).collect();
        assert_eq!(
            ends,
            [(false, Some(trace.own.span)), (true, Some(SpanId([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 2, 0xb7])))]
        );
    }

    #[test]
    fn of_the_traces_that_begin_here_one_in_so_many_is_recorded() {
        let (tracer, asked) = (Tracer::new(4), 4000);
        let begun = (0..asked).filter_map(|_| tracer.begin(Told::Nothing));
        let recorded = begun.filter(|trace| trace.own.is_sampled()).count();
        // Nine standard deviations either way.
        assert!((750..=1250).contains(&recorded), "{recorded} of {asked}");
    }

    #[test]
    fn a_full_queue_drops_spans_and_counts_them() {
        let tracer = Tracer::new(1);
        let trace = tracer.begin(Told::Nothing).unwrap();
        for _ in 0..SPANS_WAITING_MAX + 3 {
            trace.over("claim", Kind::Internal, None, clock::monotonic(), |_| false);
        }
        assert_eq!((tracer.dropped(), tracer.waiting(usize::MAX).len()), (3, SPANS_WAITING_MAX));
    }

    #[test]
    fn what_nobody_can_read_is_passed_on_as_it_came() {
        let tracer = Tracer::new(1);
        for (said, is_passed_on) in [(Told::Unreadable, true), (Told::Nothing, false)] {
            let (trace, mut fields) = (tracer.begin(said).unwrap(), HeaderMap::new());
            fields.insert(TRACEPARENT, "as it came".parse().unwrap());
            trace.mark(&mut fields, trace.child());
            assert_eq!(fields[TRACEPARENT] == "as it came", is_passed_on);
        }
    }
}
