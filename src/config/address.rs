//! Addresses: where to listen, which upstream, which store. Their text may hold credentials, so nothing
//! of it goes into an error.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use url::Url;

use super::problem::Unfit;
use super::{Secret, StoreUrl};

/// Where an upstream is, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UpstreamUrl {
    pub(super) tls: bool,
    pub(super) authority: String,
    pub(super) base_path: String,
}

/// Reads an address to listen on: `127.0.0.1:8080`, `[::1]:0`, `localhost:8080`, or `:8080` for every
/// IPv4 interface (`[::]:8080` is both families where the system allows it).
///
/// Errors: no other host names, since what a name means may change under a running gateway.
pub fn listen(text: &str) -> Result<SocketAddr, Unfit> {
    const WANTED: &str = "an address such as \"127.0.0.1:8080\", \"[::1]:8080\" or \":8080\"";
    let on = |ip: Ipv4Addr, port: &str| Some(SocketAddr::from((ip, port_number(port)?)));
    let address = if let Some(port) = text.strip_prefix(':') {
        on(Ipv4Addr::UNSPECIFIED, port)
    } else if let Some(port) = text.strip_prefix("localhost:") {
        on(Ipv4Addr::LOCALHOST, port)
    } else {
        text.parse().ok()
    };
    address.map_or_else(|| Unfit::expected(WANTED), Ok)
}

fn port_number(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Reads the address of an upstream: `http://` or `https://`, a host, a port or none, a path or none.
pub(super) fn upstream(text: &str) -> Result<UpstreamUrl, Unfit> {
    const WANTED: &str = "an address such as \"http://127.0.0.1:9000\" or \"https://api.internal/base\"";
    let tls = match scheme_of(text) {
        Some("http") => false,
        Some("https") => true,
        _ => return Unfit::expected(WANTED),
    };
    let Some(url) = plain_url(text) else { return Unfit::expected(WANTED) };
    if has_userinfo(text) {
        return Unfit::refused(
            "an upstream address holds no user or password",
            "an address without them, such as \"http://127.0.0.1:9000\", and a client that sends them as a header",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Unfit::expected("an address without \"?\" and \"#\"");
    }
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return Unfit::expected(WANTED);
    };
    let authority = match url.port() {
        Some(0) => return Unfit::expected("a port from 1 to 65535"),
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    if authority.parse::<http::uri::Authority>().is_err() {
        return Unfit::expected(WANTED);
    }
    Ok(UpstreamUrl { tls, authority, base_path: url.path().trim_end_matches('/').to_owned() })
}

/// Reads one of an upstream's servers: a host, a port or none.
pub(super) fn server(text: &str) -> Result<String, Unfit> {
    const WANTED: &str = "a server such as \"10.0.0.1:9000\", without scheme and path";
    match upstream(&format!("http://{text}")) {
        Ok(url) if url.base_path.is_empty() && !text.contains('/') => Ok(url.authority),
        Ok(_) | Err(_) => Unfit::expected(WANTED),
    }
}

/// Reads the name that an upstream's certificate must hold.
pub(super) fn server_name(text: &str) -> Result<String, Unfit> {
    match rustls::pki_types::ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Unfit::expected("a host name such as \"api.internal\""),
    }
}

/// Reads the path that is asked for to see whether a server is well.
pub(super) fn health_path(text: &str) -> Result<String, Unfit> {
    let is_path = text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
    if is_path { Ok(text.to_owned()) } else { Unfit::expected("a path such as \"/healthz\"") }
}

/// Reads an address or a network.
pub(super) fn network(text: &str) -> Result<IpNet, Unfit> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| address())
        .or_else(|_| Unfit::expected("an address or a network such as \"10.0.0.0/8\""))
}

/// Reads the address of a store.
pub(super) fn store(text: &str) -> Result<StoreUrl, Unfit> {
    const WANTED: &str = "a store: \"file:DIR\", \"redis://HOST:PORT/DB\", \"redis-sentinel://…\", \
                          \"redis-cluster://…\", \"postgres://HOST:PORT/DB\" or \"memory:\"";
    if text == "memory:" {
        return Ok(StoreUrl::Memory);
    }
    if let Some(path) = text.strip_prefix("file:") {
        return directory(path).map(StoreUrl::Embedded);
    }
    match scheme_of(text) {
        Some("redis" | "rediss") => redis(text),
        Some("redis-sentinel" | "rediss-sentinel") => sentinels(text),
        Some("redis-cluster" | "rediss-cluster") => cluster(text),
        Some("postgres" | "postgresql") => postgres(text),
        _ => Unfit::expected(WANTED),
    }
}

fn redis(text: &str) -> Result<StoreUrl, Unfit> {
    const WANTED: &str = "an address such as \"redis://127.0.0.1:6379/0\"";
    let Some(url) = plain_url(text) else { return Unfit::expected(WANTED) };
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Unfit::expected(WANTED);
    }
    let database = url.path().trim_start_matches('/');
    if !database.is_empty() && database.parse::<u32>().is_err() {
        return Unfit::expected(
            "a database number as the path of the address, such as \"redis://HOST:6379/0\"",
        );
    }
    Ok(StoreUrl::Redis(Secret::new(text)))
}

/// The servers that watch over a set, the name they know it by, and a database number or none.
fn sentinels(text: &str) -> Result<StoreUrl, Unfit> {
    const WANTED: &str = "an address such as \"redis-sentinel://HOST:26379,HOST:26379/MASTER/0\"";
    let mut path = path_of(text).split('/').filter(|part| !part.is_empty());
    let has_master = path.next().is_some();
    let database = path.next().map_or(Ok(0), str::parse::<u32>);
    if !has_servers(text) || !has_master || database.is_err() || path.next().is_some() {
        return Unfit::expected(WANTED);
    }
    Ok(StoreUrl::Redis(Secret::new(text)))
}

/// Some of a cluster's servers. A cluster has one database, which is 0.
fn cluster(text: &str) -> Result<StoreUrl, Unfit> {
    const WANTED: &str = "an address such as \"redis-cluster://HOST:6379,HOST:6379\"";
    if !has_servers(text) || !matches!(path_of(text), "" | "/" | "/0") {
        return Unfit::expected(WANTED);
    }
    Ok(StoreUrl::Redis(Secret::new(text)))
}

/// One server or several, of which the one that takes writes is used.
fn postgres(text: &str) -> Result<StoreUrl, Unfit> {
    const WANTED: &str = "an address such as \"postgres://USER:PASSWORD@HOST:5432/DB\"";
    if has_servers(text) { Ok(StoreUrl::Postgres(Secret::new(text))) } else { Unfit::expected(WANTED) }
}

/// Whether every server of a list `HOST:PORT,HOST:PORT` can be read.
fn has_servers(text: &str) -> bool {
    let is_server = |server: &str| {
        let url = plain_url(&format!("redis://{server}"));
        url.is_some_and(|url| url.host_str().is_some_and(|host| !host.is_empty()) && url.port() != Some(0))
    };
    servers_of(text).split(',').all(is_server)
}

/// What stands between the credentials and the path.
fn servers_of(text: &str) -> &str {
    let authority = authority_of(text);
    authority.rsplit_once('@').map_or(authority, |(_, servers)| servers)
}

/// The path, from its slash on; empty if there is none.
fn path_of(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
}

fn authority_of(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Reads the directory of an embedded store.
fn directory(text: &str) -> Result<PathBuf, Unfit> {
    const WANTED: &str = "a directory such as \"file:./onceway-data\" or \"file:/var/lib/onceway\"";
    let directory = match text.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Unfit::expected(WANTED),
        None => text,
    };
    if directory.is_empty() || directory.contains('\0') {
        return Unfit::expected(WANTED);
    }
    Ok(PathBuf::from(directory))
}

/// The scheme before `://`.
fn scheme_of(text: &str) -> Option<&str> {
    text.split_once("://").map(|(scheme, _)| scheme)
}

/// Parses an address that needs no repair: the parser would silently drop tabs and turn `\` into `/`.
fn plain_url(text: &str) -> Option<Url> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    // "http:///x" would be repaired to the host x.
    let has_host = scheme_of(text)
        .and_then(|scheme| text.get(scheme.len() + 3..))
        .is_some_and(|rest| !rest.starts_with('/'));
    if is_plain && has_host { Url::parse(text).ok() } else { None }
}

fn has_userinfo(text: &str) -> bool {
    authority_of(text).contains('@')
}

impl StoreUrl {
    /// What the store is and where: never holds a credential.
    pub fn describe(&self) -> String {
        match self {
            Self::Memory => "memory:".to_owned(),
            Self::Embedded(directory) => format!("file:{}", directory.display()),
            Self::Redis(address) | Self::Postgres(address) => {
                let text = address.reveal();
                format!("{}://{}{}", scheme_of(text).unwrap_or_default(), servers_of(text), path_of(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_listen_address_is_read() {
        for (text, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:0", "[::1]:0"),
            (":8080", "0.0.0.0:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(listen(text), Ok(address.parse().unwrap()), "{text}");
        }
        for text in
            ["", "8080", ":", ":x", ":+80", ":65536", "127.0.0.1", "::1:80", "example.com:80", "localhost"]
        {
            assert!(listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_upstream_is_taken_apart() {
        let parts = |tls, authority: &str, base_path: &str| {
            Ok(UpstreamUrl { tls, authority: authority.into(), base_path: base_path.into() })
        };
        assert_eq!(upstream("http://127.0.0.1:9000"), parts(false, "127.0.0.1:9000", ""));
        assert_eq!(upstream("http://127.0.0.1:9000/"), parts(false, "127.0.0.1:9000", ""));
        assert_eq!(upstream("https://api.internal/base/"), parts(true, "api.internal", "/base"));
        assert_eq!(upstream("http://[::1]:9000/a%20b"), parts(false, "[::1]:9000", "/a%20b"));
    }

    #[test]
    fn an_upstream_without_host_or_with_more_than_a_path_is_refused() {
        for text in [
            "",
            "127.0.0.1:9000",
            "ftp://h",
            "http://",
            "http:///x",
            "http:h",
            "http://:80",
            "http://h:0",
            "http://h:99999",
            "http://u@h",
            "http://u:p@h",
            "http://@h",
            "http://h?q",
            "http://h/#f",
            "http://h/a b",
            "http://h\\x",
            " http://h",
            "HTTP://",
        ] {
            assert!(upstream(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_kind_of_store_is_read() {
        for (text, shown) in [
            ("memory:", "memory:"),
            ("file:./onceway-data", "file:./onceway-data"),
            ("file:/var/lib/onceway", "file:/var/lib/onceway"),
            ("file:///var/lib/onceway", "file:/var/lib/onceway"),
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("rediss://me:hunter2@cache:6380/3", "rediss://cache:6380/3"),
            ("redis://:hunter2@cache", "redis://cache"),
        ] {
            let url = store(text).unwrap();
            assert_eq!(url.describe(), shown, "{text}");
            assert!(!format!("{url:?}").contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn no_error_about_a_store_shows_its_address() {
        for text in [
            "postgres://me:hunter2@/db",
            "redis-sentinel://:hunter2@h",
            "redis-sentinel://:hunter2@h/main/x",
            "redis-sentinel://:hunter2@h,/main",
            "redis-cluster://:hunter2@h/1",
            "redis-cluster://:hunter2@h:0",
            "redis://:hunter2@",
            "redis://:hunter2@h/x",
            "redis://:hunter2@h:0",
            "mysql://:hunter2@h",
            "hunter2",
            "memory:hunter2",
            "file:",
            "file://hunter2",
            "",
        ] {
            let unfit = store(text).unwrap_err();
            assert!(!unfit.to_string().contains("hunter2"), "{text}: {unfit}");
        }
    }
}
