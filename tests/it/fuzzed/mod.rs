//! What the fuzzer tries, tried at every run of the tests with the inputs it keeps: a case that was found once and comes
//! back fails here.
//!
//! Each file but `place.rs` says what must hold of any bytes, and is what a target of `fuzz/` runs. The inputs are in
//! `fuzz/corpus`; `scripts/fuzz` looks for others.

use std::fs;
use std::path::{Path, PathBuf};

use crate::smuggling::message;
use crate::spellings::{readers, site, sites, steps};
use crate::wellformed::{caller, grammar, oracle, origin};

pub(crate) mod answers;
pub(crate) mod configs;
pub(crate) mod keys;
pub(crate) mod operators;
pub(crate) mod paths;
pub(crate) mod place;
pub(crate) mod problems;
pub(crate) mod proxied;
pub(crate) mod records;
pub(crate) mod requests;
pub(crate) mod traces;

/// The inputs of a target, with their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Tries the inputs of a target in their order. The name of the one that fails is the last that is told.
#[expect(clippy::print_stdout, reason = "shown with the failure")]
fn try_each(target: &str, mut bears: impl FnMut(&[u8])) {
    for (path, bytes) in corpus(target) {
        println!("{}", path.display());
        bears(&bytes);
    }
}
