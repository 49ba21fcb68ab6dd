//! No spelling of a protected path slips past its route.
//!
//! `spell.rs` writes paths anew, `readers.rs` says how servers read them, in the steps of `steps.rs`. Whatever
//! one of them reads as a protected path must have been guarded as that, or refused; `docs/paths.md` tells it for
//! people. Here the router is asked in process; `../road/paths_spelled.rs` asks the gateway on its socket.

pub(crate) mod readers;
pub(crate) mod site;
pub(crate) mod sites;
pub(crate) mod spell;
pub(crate) mod steps;

use fastrand::Rng;

use readers::{READERS, Reader};
use site::{Site, Verdict, off, on};
use sites::sites;
use spell::spell;
use steps::CHANGES;

/// Spellings per site, unless the environment's `SPELLINGS` says otherwise; each is read by every reader and by
/// some that are made up.
const SPELLINGS: usize = 500;

/// Servers made up per spelling: a few steps in any order.
const MADE_UP: usize = 4;

#[test]
fn whatever_an_upstream_reads_as_a_protected_path_was_guarded_as_that_or_refused() {
    let mut random = seeded();
    let mut slips = Vec::new();
    for (site, paths) in sites() {
        let may_serve = |reader: &&Reader| {
            (!reader.folds_case || site.folds_case()) && site.may_be_served_by(reader.steps)
        };
        let readers: Vec<_> = READERS.iter().filter(may_serve).collect();
        for _ in 0..number("SPELLINGS").unwrap_or(SPELLINGS) {
            let path = random.choice(paths).unwrap();
            let spelling = spell(&mut random, path);
            let verdict = site.ask(&spelling);
            if verdict == Verdict::Refused {
                continue;
            }
            for reader in &readers {
                let is_kept = verdict.keeps(&site, &spelling, reader.steps);
                slips.extend((!is_kept).then(|| format!("{spelling}  {verdict:?}  by {}", reader.name)));
            }
            for _ in 0..MADE_UP {
                let steps: Vec<_> =
                    (0..random.usize(1..6)).map(|_| *random.choice(CHANGES).unwrap()).collect();
                let is_kept = !site.may_be_served_by(&steps) || verdict.keeps(&site, &spelling, &steps);
                slips.extend((!is_kept).then(|| format!("{spelling}  {verdict:?}  by {steps:?}")));
            }
        }
    }
    assert!(slips.is_empty(), "{} slips, such as\n{}", slips.len(), slips[..slips.len().min(40)].join("\n"));
}

#[test]
fn a_path_as_it_stands_in_its_pattern_is_never_refused() {
    for pattern in [
        "/payments",
        "/payments/",
        "/c++/{id}",
        "/a%20b",
        "/caf%C3%A9",
        "/100%25",
        "/a%3Fb",
        "/v1.2/x.json",
        "/index.php/x",
        "/x.php",
        "/.well-known/{*rest}",
        "/a/...",
        "/a.",
        "/(S(x))/a",
        "/~me/@you/a:b,c",
        "/%20a",
    ] {
        let site = Site::of([on(pattern), off("/{*rest}")]);
        let path = pattern.replace("{id}", "7").replace("{*rest}", "a/b");
        assert_eq!(site.ask(&path), Verdict::Guarded(0), "{pattern}");
        assert_eq!(site.ask(&path.replace("%C3", "%c3")), Verdict::Guarded(0), "{pattern}");
    }
}

#[test]
fn what_callers_send_every_day_is_not_refused() {
    let site =
        Site::of([on("/orders/{id}/refunds"), on("/files/{*rest}"), on("/users/{mail}"), off("/{*rest}")]);
    for (path, route) in [
        ("/orders/a%20b/refunds", 0),
        ("/orders/x:y@z,1/refunds", 0),
        ("/files/a%2Fb/c.tar.gz", 1),
        ("/files/a%252Fb/%E2%82%AC.pdf", 1),
        ("/files/a+b//c/./d%25/e/", 1),
        ("/users/jo.doe+spam%40example.com", 2),
        ("/users/%F0%9F%98%80", 2),
    ] {
        assert_eq!(site.ask(path), Verdict::Guarded(route), "{path}");
    }
    for path in ["/other/a%2fb", "/v1.2/x.json", "/a+b/", "/%7Eme/x;y=1/z", "//cdn//lib.js", "/a/../b"] {
        assert_eq!(site.ask(path), Verdict::Open, "{path}");
    }
}

#[expect(clippy::print_stdout, reason = "a failure is repeated by its seed")]
pub(crate) fn seeded() -> Rng {
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    Rng::with_seed(seed)
}

pub(crate) fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
