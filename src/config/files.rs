//! Files that a key names: how they are read, and how their paths are told.
//!
//! Must not know what a file holds: that is for `secrets.rs` and `certificates.rs`. Read `section.rs` before.

use std::path::{Component, Path, PathBuf};

use zeroize::Zeroizing;

use super::load;
use super::problem::{Unfit, Wrong, is_shown, shortened};
use super::section::{Findings, Section};

/// Reads the whole file that a key names; one larger than `max` bytes is refused.
pub(super) fn bytes(
    find: &mut Findings<'_>,
    section: &Section<'_>,
    name: &str,
    max: u64,
) -> Option<Zeroizing<Vec<u8>>> {
    let path = section.path(find, name)?;
    match load::bytes_of(&path, max) {
        Ok(bytes) => Some(Zeroizing::new(bytes)),
        Err(source) => {
            let wrong = Wrong::Unreadable {
                file: shown(section, name, &path),
                expected: section.wanted(name),
                source,
            };
            find.push(section.place_of(find, name), section.path_of(name), wrong);
            None
        }
    }
}

/// Tells that a file that could be read does not hold what it must.
pub(super) fn refuse(find: &mut Findings<'_>, section: &Section<'_>, name: &str, unfit: Unfit) {
    // It was read, so this is a path and not the secret itself.
    let found = shortened(section.typed(name));
    find.push(section.place_of(find, name), section.path_of(name), unfit.found(found));
}

/// The path as typed; hidden where it may be the secret itself, put where the path of its file belongs.
fn shown(section: &Section<'_>, name: &str, path: &Path) -> String {
    let typed = section.typed(name);
    if is_path(path) || (!section.is_secret(name) && is_shown(typed)) {
        shortened(typed)
    } else {
        "the file it names (not shown, since it may be the secret itself)".to_owned()
    }
}

/// Whether this can be nothing but a path: something stands there, or it begins with a directory that exists.
fn is_path(path: &Path) -> bool {
    if path.exists() {
        return true;
    }
    let mut begin = PathBuf::new();
    let mut parts = path.components();
    for part in parts.by_ref() {
        begin.push(part);
        match part {
            Component::CurDir | Component::ParentDir => return true,
            Component::Normal(_) => return parts.next().is_some() && begin.is_dir(),
            Component::RootDir | Component::Prefix(_) => {}
        }
    }
    false
}
