//! Bytes are a path and the steps by which a server reads it: whatever is read as a protected path was guarded as
//! that or refused. The sites and steps are those of `tests/it/spellings/`.
#![no_main]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/it/spellings/readers.rs"]
mod readers;
#[path = "../../tests/it/spellings/site.rs"]
mod site;
#[path = "../../tests/it/spellings/sites.rs"]
mod sites;
#[path = "../../tests/it/spellings/steps.rs"]
mod steps;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use readers::READERS;
use site::{Site, Verdict};
use sites::sites;
use steps::{CHANGES, Step};

static SITES: LazyLock<Vec<Site>> = LazyLock::new(|| sites().into_iter().map(|(site, _)| site).collect());

// The first byte chooses the site, the next five the steps of a server that nobody has seen yet, the rest is the path.
fuzz_target!(|bytes: &[u8]| {
    let Some((choices, path)) = bytes.split_at_checked(6) else { return };
    let is_target = path.starts_with(b"/") && path.iter().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(byte));
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
});
