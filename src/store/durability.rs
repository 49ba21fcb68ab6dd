//! What a store tells of how well it keeps what it acknowledges, for people and for the decision to start.
//!
//! The stores find out, the gateway decides, `check --online` shows. Must not know any store.

/// What a store tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durability {
    /// Name and value of whatever decides how safe a claim is, such as `persistence` and `appendonly yes`.
    pub facts: Vec<(&'static str, String)>,
    /// What a crash, a failover or a power loss of exactly this deployment can lose, a sentence each.
    pub losses: Vec<String>,
    /// What should be changed, the worst first.
    pub faults: Vec<Fault>,
}

/// Something that should be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What follows from it.
    pub severity: Severity,
    /// What was found, what it leads to, and what to set, in a sentence without an end.
    pub text: String,
}

/// What follows from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The store cannot be used at all: too old, or a replica.
    Unusable,
    /// Claims are removed while the store is in good health; refused unless `store.accept_eviction` is set.
    Evicts,
    /// The guarantee ends where the store does: said in the log.
    Weak,
}

impl Durability {
    /// The first fault for which a gateway must not take claims.
    pub fn refusal(&self, accept_eviction: bool) -> Option<&Fault> {
        self.faults.iter().find(|fault| match fault.severity {
            Severity::Unusable => true,
            Severity::Evicts => !accept_eviction,
            Severity::Weak => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(severities: &[Severity]) -> Durability {
        let fault = |severity: &Severity| Fault { severity: *severity, text: format!("{severity:?}") };
        Durability { faults: severities.iter().map(fault).collect(), ..Durability::default() }
    }

    #[test]
    fn eviction_is_refused_unless_accepted_and_weakness_is_only_told() {
        let refusal =
            |severities: &[Severity], accept| found(severities).refusal(accept).map(|fault| fault.severity);
        assert_eq!(refusal(&[Severity::Weak], false), None);
        assert_eq!(refusal(&[Severity::Weak, Severity::Evicts], false), Some(Severity::Evicts));
        assert_eq!(refusal(&[Severity::Evicts], true), None);
        assert_eq!(refusal(&[Severity::Evicts, Severity::Unusable], true), Some(Severity::Unusable));
    }
}
