//! `previous` of a route or of `[policy]`: how keys and fingerprints were made before.
//!
//! A key that is left out means that this part has not changed. Must not know what is done with it.

use crate::protocol::policy::{FingerprintBody, KeyMode, KeySource, Policy, ScopeMissing, ScopeSource};

use super::keys;
use super::section::{Findings, Section};
use super::terms;

/// What the table says; `None` means as now.
#[derive(Clone, Debug, Default)]
pub(super) struct Previous {
    key_from: Option<Vec<KeySource>>,
    scope: Option<Vec<ScopeSource>>,
    scope_missing: Option<ScopeMissing>,
    fingerprint_headers: Option<Vec<String>>,
    fingerprint_body: Option<FingerprintBody>,
}

/// Reads the table of this name in `section`, if it is there.
pub(super) fn previous(find: &mut Findings<'_>, section: &Section<'_>) -> Option<Previous> {
    const NAME: &str = "previous";
    let value = section.value(NAME)?;
    let table = Section::open(find, value, section.path_of(NAME), [&keys::PREVIOUS, &[]])?;
    Some(Previous {
        key_from: table.texts(find, "key_from", terms::key_source),
        scope: table.texts(find, "scope", terms::scope_source),
        scope_missing: table.word(find, "scope_missing"),
        fingerprint_headers: table.texts(find, "fingerprint_headers", terms::fingerprint_header),
        fingerprint_body: table.word(find, "fingerprint_body"),
    })
}

impl Previous {
    /// The route as it was; `None` where nothing has changed.
    pub(super) fn of(self, policy: &Policy) -> Option<Box<Policy>> {
        let earlier = Policy {
            key_from: self.key_from.unwrap_or_else(|| policy.key_from.clone()),
            scope: self.scope.unwrap_or_else(|| policy.scope.clone()),
            scope_missing: self.scope_missing.unwrap_or(policy.scope_missing),
            fingerprint_headers: self
                .fingerprint_headers
                .unwrap_or_else(|| policy.fingerprint_headers.clone()),
            fingerprint_body: self.fingerprint_body.unwrap_or(policy.fingerprint_body),
            ..policy.clone()
        };
        // A request without a key in its old place is not one that was asked before.
        (earlier != *policy).then(|| Box::new(Policy { key: KeyMode::Optional, previous: None, ..earlier }))
    }
}
