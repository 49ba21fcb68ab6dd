//! Secrets that stand in files of their own: only the file's name is in the configuration, and what it holds is never
//! shown.
//!
//! Must not know what a secret is for. Read `section.rs` before.

use std::path::Path;

use super::problem::{Unfit, Wrong};
use super::section::{Findings, Section};
use super::{Secret, load};

/// Bytes of such a file at most.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Shortest secret, in bytes, that nobody guesses.
const SECRET_BYTES_MIN: usize = 16;

/// Reads the secret from the file that a key names; white space around it is dropped.
pub(super) fn secret(find: &mut Findings<'_>, section: &Section<'_>, name: &str) -> Option<Secret> {
    let secret = Secret::new(secret_file(find, section, name)?.reveal().trim());
    if secret.reveal().len() < SECRET_BYTES_MIN {
        let wanted = format!("a file that holds a secret of at least {SECRET_BYTES_MIN} bytes of text");
        section.refuse(find, name, Unfit::Expected(wanted));
        return None;
    }
    Some(secret)
}

/// Reads the text of a file that holds a secret. What is not text reads as empty.
pub(super) fn secret_file(find: &mut Findings<'_>, section: &Section<'_>, name: &str) -> Option<Secret> {
    // The secret itself put where its file's name belongs must not be shown: the value never is.
    let file = section.text(find, name, |text| Ok(text.to_owned()))?;
    let bytes = match load::bytes_of(Path::new(&file), SECRET_BYTES_MAX) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(source) => {
            let wrong = Wrong::Unreadable { file: "the file it names".to_owned(), source };
            find.push(section.place_of(find, name), section.path_of(name), wrong);
            return None;
        }
    };
    Some(Secret::new(std::str::from_utf8(&bytes).unwrap_or_default()))
}
