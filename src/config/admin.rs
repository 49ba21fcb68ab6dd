//! Turns `[admin]` into what the operators' listener needs.
//!
//! Read `keys/admin.rs` for what may stand there.

use std::os::unix::fs::PermissionsExt as _;

use super::problem::Unfit;
use super::section::{Findings, Section};
use super::{Admin, CallersCertificate, Secret, StoreUrl, address, certificates, files, pattern, secrets};

/// Resolves the table.
pub(super) fn admin(find: &mut Findings<'_>, section: Option<&Section<'_>>, store: &StoreUrl) -> Admin {
    let default = Admin::default();
    let Some(section) = section else { return default };
    let listen = section.text(find, "listen", address::listen);
    let token = token(find, section);
    let named = section.path(find, "audit_file");
    let audit_file = match (named, store) {
        (Some(file), _) => Some(file),
        (None, _) if section.value("token_file").is_none() => None,
        (None, StoreUrl::Embedded(dir)) => Some(dir.join("audit.jsonl")),
        (None, StoreUrl::Memory | StoreUrl::Redis(_) | StoreUrl::Postgres(_)) => {
            section.missing(find, "audit_file");
            None
        }
    };
    Admin {
        listen: listen.unwrap_or(default.listen),
        is_explicit: listen.is_some(),
        is_token_open: token.is_some() && is_open(find, section, "token_file"),
        token,
        audit_file,
        // Health and metrics are for those too who have no certificate.
        tls: certificates::server_tls(find, section, CallersCertificate::Optional),
        host_names: section.texts(find, "host_names", pattern::host).unwrap_or_default(),
    }
}

/// Whether others than the owner and the group of the file may read it.
fn is_open(find: &Findings<'_>, section: &Section<'_>, name: &str) -> bool {
    const OTHERS_READ: u32 = 0o004;
    let file = section.value(name).and_then(|value| value.get_ref().as_str());
    let file = file.and_then(|text| find.expand(text).ok());
    let mode =
        file.and_then(|file| std::fs::metadata(file).ok()).map(|metadata| metadata.permissions().mode());
    mode.is_some_and(|mode| mode & OTHERS_READ != 0)
}

fn token(find: &mut Findings<'_>, section: &Section<'_>) -> Option<Secret> {
    const NAME: &str = "token_file";
    let token = secrets::secret(find, section, NAME)?;
    if token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(token);
    }
    let wanted = "a file that holds one word of printable ASCII".to_owned();
    files::refuse(find, section, NAME, Unfit::Expected(wanted));
    None
}
