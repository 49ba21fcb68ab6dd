//! What attackers try, and what comes of it. `docs/security.md` tells who they are, and names a test for each control.

mod operators;
mod quotas;
mod stored;
mod tenants;
