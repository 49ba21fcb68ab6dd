//! A path and the steps by which a server reads it: whatever is read as a protected path was guarded as that or refused.
//!
//! The first byte chooses the site, the next five the steps of a server that nobody has seen yet, the rest is the path.

use std::sync::LazyLock;

use super::readers::READERS;
use super::site::{Site, Verdict};
use super::sites::sites;
use super::steps::{CHANGES, Step};

static SITES: LazyLock<Vec<Site>> = LazyLock::new(|| sites().into_iter().map(|(site, _)| site).collect());

pub(crate) fn bear(bytes: &[u8]) {
    let Some((choices, path)) = bytes.split_at_checked(6) else { return };
    let is_target =
        path.starts_with(b"/") && path.iter().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(byte));
    let (true, Ok(path)) = (is_target, std::str::from_utf8(path)) else { return };
    let site = &SITES[usize::from(choices[0]) % SITES.len()];
    let verdict = site.ask(path);
    if verdict == Verdict::Refused {
        return;
    }
    let made_up: Vec<Step> =
        choices[1..].iter().filter_map(|choice| CHANGES.get(usize::from(*choice)).copied()).collect();
    let known = READERS.iter().filter(|reader| !reader.folds_case || site.folds_case());
    for steps in known.map(|reader| reader.steps).chain([made_up.as_slice()]) {
        let is_kept = verdict.keeps(site, path, steps) || !site.may_be_served_by(steps);
        assert!(is_kept, "{path} is {verdict:?}, but not to an upstream that takes {steps:?}");
    }
}

#[test]
fn whatever_was_tried_as_a_path_is_guarded_as_it_is_read() {
    super::try_each("paths", bear);
}
