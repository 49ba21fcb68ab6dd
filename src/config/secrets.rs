//! Secrets that stand in files of their own: only the file's name is in the configuration, and what it holds is never
//! shown.
//!
//! Must not know what a secret is for. Read `files.rs` before.

use super::problem::Unfit;
use super::section::{Findings, Section};
use super::{Secret, files};

/// Bytes of such a file at most.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Shortest secret, in bytes, that nobody guesses.
const SECRET_BYTES_MIN: usize = 16;

/// Reads the secret from the file that a key names; white space around it is dropped.
pub(super) fn secret(find: &mut Findings<'_>, section: &Section<'_>, name: &str) -> Option<Secret> {
    let secret = Secret::new(secret_file(find, section, name)?.reveal().trim());
    if secret.reveal().len() < SECRET_BYTES_MIN {
        let wanted = format!("a file that holds a secret of at least {SECRET_BYTES_MIN} bytes of text");
        files::refuse(find, section, name, Unfit::Expected(wanted));
        return None;
    }
    Some(secret)
}

/// Reads the text of a file that holds a secret. What is not text reads as empty.
pub(super) fn secret_file(find: &mut Findings<'_>, section: &Section<'_>, name: &str) -> Option<Secret> {
    let bytes = files::bytes(find, section, name, SECRET_BYTES_MAX)?;
    Some(Secret::new(std::str::from_utf8(&bytes).unwrap_or_default()))
}
