//! What the listeners of all workers share: how TLS is spoken now, how many connections there are, and what has been
//! logged of those that were turned away.
//!
//! Must not know what is served. Read `connection.rs` after.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::intake::Line;
use super::limits::{Alarm, Limits};
use super::tls::{Acceptor, BadTls};
use crate::config::Server;
use crate::telemetry::metrics::{Metrics, Observed};

/// What the listeners of all workers share. A reload has it speak TLS by another configuration.
#[derive(Debug)]
pub struct Reception {
    tls: ArcSwapOption<Acceptor>,
    pub(super) limits: Arc<Limits>,
    pub(super) line: Line,
    pub(super) alarms: Alarms,
    pub(super) metrics: Arc<Metrics>,
}

/// One alarm for each kind of event that an attacker could fill the log with.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    pub(super) too_many_come: Alarm,
    pub(super) all_taken: Alarm,
    pub(super) peer_has_all: Alarm,
    pub(super) not_accepted: Alarm,
    pub(super) no_proxy_header: Alarm,
    pub(super) not_trusted: Alarm,
    pub(super) no_handshake: Alarm,
    pub(super) misbehaved: Alarm,
    pub(super) makes_no_room: Alarm,
    pub(super) beyond_a_limit: Alarm,
}

impl Reception {
    /// A reception that speaks TLS, if it does, by these settings.
    ///
    /// Errors: the certificates cannot be used.
    pub fn of(settings: &Server, metrics: Arc<Metrics>) -> Result<Self, BadTls> {
        let reception = Self {
            tls: ArcSwapOption::empty(),
            limits: Arc::default(),
            line: Line::default(),
            alarms: Alarms::default(),
            metrics,
        };
        reception.show(Acceptor::of(settings)?);
        Ok(reception)
    }

    /// From now on new connections speak TLS by `acceptor`, or not at all. Where it asks for the same as the one
    /// before, that one stays, with the sessions that callers may resume. Where others vouch for callers, connections of
    /// those who showed a certificate before come to their end.
    pub fn show(&self, acceptor: Option<Acceptor>) {
        let before = self.tls.load_full();
        if before.as_deref() != acceptor.as_ref() {
            self.tls.store(Acceptor::succeeded_by(before.as_deref(), acceptor).map(Arc::new));
        }
    }

    /// Tells how many connections there are.
    pub fn observe(&self, now: &mut Observed) {
        now.connections.push(("server", self.limits.open()));
    }

    /// How TLS is spoken now.
    pub(super) fn tls(&self) -> Option<Arc<Acceptor>> {
        self.tls.load_full()
    }
}
