//! `onceway keys show`: one operation, by its ref or by what its caller sent.

use std::collections::BTreeMap;

use clap::Args;
use http::Method;

use super::call::{Call, CallError, Caller, Carries};
use super::given::Reader;
use super::operation::{Operation, Places, Sought};
use super::place::Unusable;
use super::{KeysError, Seat, shown, while_asking, write_json};
use crate::clock;

/// Hexadecimal digits of a ref.
const REF_DIGITS: usize = 64;

/// What `show` can be told. Without `Debug`: a key or a credential may stand in it.
#[derive(Args)]
pub struct ShowArgs {
    /// The operation's ref, 64 hexadecimal digits
    #[arg(value_name = "REF", value_parser = reference, required_unless_present = "key", conflicts_with = "key")]
    reference: Option<String>,
    /// The idempotency key as the caller sent it; - reads it from standard input, @FILE from a file
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The route that the request took, by its path pattern; needed where several routes are guarded
    #[arg(long, value_name = "PATTERN", requires = "key")]
    route: Option<String>,
    /// The host that the route is narrowed to
    #[arg(long, value_name = "HOST", requires = "key")]
    host: Option<String>,
    /// A part of the route's scope, as the caller sent it; the value may be - or @FILE, too. Several: one each
    #[arg(long, value_name = "PART=VALUE", requires = "key")]
    scope: Vec<String>,
}

/// Reads a ref.
pub(super) fn reference(text: &str) -> Result<String, &'static str> {
    let is_ref = text.len() == REF_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_ref { Ok(text.to_ascii_lowercase()) } else { Err("expected 64 hexadecimal digits") }
}

/// Asks for the operation under a ref.
pub(super) async fn fetch(caller: &Caller, reference: &str) -> Result<Operation, CallError> {
    let target = format!("/v1/operations/{reference}");
    caller.read(Call { method: Method::GET, target, body: Vec::new(), carries: Carries::Nothing }).await
}

impl ShowArgs {
    pub(super) async fn run(
        &self,
        caller: &Caller,
        json: bool,
        seat: &mut Seat<'_>,
    ) -> Result<(), KeysError> {
        if let Some(reference) = &self.reference {
            let operation = fetch(caller, reference).await.map_err(while_asking("show the operation"))?;
            return if json {
                write_json(seat, &operation)
            } else {
                Ok(seat.out.write_all(shown::sheet(&operation, clock::wall()).as_bytes())?)
            };
        }
        let sought = serde_json::to_vec(&self.sought(seat)?)?;
        let target = "/v1/operations/find".to_owned();
        let call = Call { method: Method::POST, target, body: sought, carries: Carries::Key };
        let places: Places = caller.read(call).await.map_err(while_asking("find the operation"))?;
        if json {
            write_json(seat, &places)?;
        }
        let mut operations =
            places.found.iter().filter_map(|spot| spot.operation.as_ref().zip(Some(spot))).peekable();
        if operations.peek().is_none() {
            let refs: Vec<_> = places.found.iter().map(|spot| spot.reference.clone()).collect();
            return Err(KeysError::NoRecord(refs.join(", ")));
        }
        if !json {
            for (operation, spot) in operations {
                if spot.derivation == "previous" {
                    writeln!(seat.out, "found as keys were made before (previous):")?;
                }
                seat.out.write_all(shown::sheet(operation, clock::wall()).as_bytes())?;
            }
        }
        Ok(())
    }

    fn sought(&self, seat: &mut Seat<'_>) -> Result<Sought, Unusable> {
        let mut reader = Reader::of(&mut *seat.input);
        let key = reader.text("--key", self.key.as_deref().unwrap_or_default())?;
        let mut scope: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for part in &self.scope {
            let (name, value) =
                part.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(Unusable::Scope)?;
            scope.entry(name.to_owned()).or_default().push(reader.text("--scope", value)?);
        }
        Ok(Sought { key, route: self.route.clone(), host: self.host.clone(), scope })
    }
}
