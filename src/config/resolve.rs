//! Turns the tables of a file into the types as meant, all but those with a file of their own
//! (`server.rs`, `upstream.rs`, `routes.rs`).

use toml::de::DeTable;

use super::address;
use super::admin::admin;
use super::keys::{self, Known};
use super::place::Place;
use super::record_keys::{self, RecordKeys};
use super::section::{Findings, Section};
use super::server::server;
use super::traces::traces;
use super::upstream::upstreams;
use super::{Backup, Config, Log, Store, defaults, files, routes, secrets, terms};

/// Resolves a whole file. `None`: what is needed to go on is wrong, and the problem is pushed.
pub(super) fn config<'t>(find: &mut Findings<'_>, document: &'t DeTable<'t>) -> Option<Config> {
    let root = Section::of(find, document, Place { line: 1, column: 1 }, String::new(), [&keys::ROOT, &[]]);
    let section = table(find, &root, "server", [&keys::SERVER, &[]]);
    let asks_callers = section.as_ref().is_some_and(|section| section.value("tls_client_ca_file").is_some());
    let server = server(find, section.as_ref());
    let section = table(find, &root, "store", [&keys::STORE, &[]]);
    let store = store(find, section.as_ref());
    let section = table(find, &root, "admin", [&keys::ADMIN, &[]]);
    let admin = admin(find, section.as_ref(), &store.url);
    let section = table(find, &root, "log", [&keys::LOG, &[]]);
    let log = log(find, section.as_ref());
    let section = table(find, &root, "traces", [&keys::TRACES, &[]]);
    let traces = traces(find, section.as_ref());
    let upstreams = upstreams(find, &root);
    let policy = table(find, &root, "policy", [&keys::POLICY, &[]]);
    let routes = routes::routes(find, &root, policy.as_ref(), &upstreams, asks_callers);
    let default_upstream = upstreams.iter().position(|known| known.name == defaults::DEFAULT_UPSTREAM);
    let upstreams: Option<Vec<_>> = upstreams.into_iter().map(|known| known.upstream).collect();
    Some(Config { server, admin, store, upstreams: upstreams?, default_upstream, routes, log, traces })
}

fn table<'t>(find: &mut Findings<'_>, root: &Section<'t>, name: &str, known: Known) -> Option<Section<'t>> {
    Section::open(find, root.value(name)?, name.to_owned(), known)
}

fn store(find: &mut Findings<'_>, section: Option<&Section<'_>>) -> Store {
    let default = Store::default();
    let Some(section) = section else { return default };
    let RecordKeys { keys: encryption_keys, open_only } = encryption_keys(find, section);
    Store {
        url: section.text(find, "url", address::store).unwrap_or(default.url),
        namespace: section.text(find, "namespace", terms::namespace).unwrap_or(default.namespace),
        local_cache: section.size(find, "local_cache").unwrap_or(default.local_cache),
        timeout: section.duration(find, "timeout").unwrap_or(default.timeout),
        session_ttl: section.duration(find, "session_ttl").unwrap_or(default.session_ttl),
        hash_key: secrets::secret(find, section, "hash_key_file"),
        min_replicas: section.count(find, "min_replicas").map_or(default.min_replicas, small),
        accept_eviction: section.flag(find, "accept_eviction").unwrap_or(default.accept_eviction),
        encryption_keys,
        open_only,
        accept_unsealed: section.flag(find, "accept_unsealed").unwrap_or(default.accept_unsealed),
        accept_lost_keys: section.flag(find, "accept_lost_keys").unwrap_or(default.accept_lost_keys),
        compression: section.word(find, "compression").unwrap_or(default.compression),
        backup: backup(find, section),
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn backup(find: &mut Findings<'_>, section: &Section<'_>) -> Option<Backup> {
    let dir = section.path(find, "backup_dir");
    let every = section.duration(find, "backup_every").unwrap_or(defaults::BACKUP_EVERY);
    Some(Backup { dir: dir?, every })
}

/// Reads the keys from the file that `encryption_key_file` names.
fn encryption_keys(find: &mut Findings<'_>, section: &Section<'_>) -> RecordKeys {
    const NAME: &str = "encryption_key_file";
    let Some(text) = secrets::secret_file(find, section, NAME) else { return RecordKeys::default() };
    record_keys::read(text.reveal()).unwrap_or_else(|problems| {
        for unfit in problems {
            files::refuse(find, section, NAME, unfit);
        }
        RecordKeys::default()
    })
}

fn log(find: &mut Findings<'_>, section: Option<&Section<'_>>) -> Log {
    let default = Log::default();
    let Some(section) = section else { return default };
    Log {
        format: section.word(find, "format").unwrap_or(default.format),
        level: section.text(find, "level", terms::log_level).unwrap_or(default.level),
    }
}
