//! The address of Redis: one server, a set that sentinels watch over, or a cluster.
//!
//! It may hold passwords, so nothing of it goes into an error, and what is shown is made without them. Must
//! not know connections.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// Until the system asks a silent peer whether it is there. The heartbeat finds out earlier.
const KEEPALIVE: Duration = Duration::from_secs(15);

const SENTINEL_PORT: u16 = 26379;

/// Why a store's address is of no use.
#[derive(Debug, thiserror::Error)]
#[error(
    "read the address of Redis: it must look like redis://host:6379/0, \
     redis-sentinel://host:26379,host:26379/master/0 or redis-cluster://host:6379,host:6379"
)]
pub struct InvalidAddress;

/// An address, taken apart.
pub(super) struct Address {
    pub(super) place: Place,
    /// Without credentials.
    pub(super) shown: String,
}

/// What stands at an address.
pub(super) enum Place {
    /// One server.
    Server(Client),
    /// The servers that name the master of a set, the name they know it by, and how it is spoken to.
    Set { sentinels: Vec<Client>, master: String, how: How },
    /// Some of a cluster's servers, and how each is spoken to.
    Cluster { seeds: Vec<Peer>, how: How },
}

/// A server by its name and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Peer {
    pub(super) host: String,
    pub(super) port: u16,
}

/// How servers that others name are spoken to: in clear or not, as whom, in which database.
#[derive(Clone)]
pub(super) struct How(ConnectionInfo);

impl Address {
    pub(super) fn read(url: &str) -> Result<Self, InvalidAddress> {
        match url.split_once("://") {
            Some((scheme @ ("redis-sentinel" | "rediss-sentinel"), rest)) => sentinels(scheme, rest),
            Some((scheme @ ("redis-cluster" | "rediss-cluster"), rest)) => cluster(scheme, rest),
            _ => server(url),
        }
        .ok_or(InvalidAddress)
    }
}

impl How {
    /// What it takes to connect to `peer`.
    pub(super) fn client(&self, peer: &Peer) -> Result<Client, redis::RedisError> {
        let (host, port) = (peer.host.clone(), peer.port);
        let addr = if let ConnectionAddr::TcpTls { insecure, tls_params, .. } = self.0.addr() {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        Client::open(self.0.clone().set_addr(addr))
    }
}

impl Peer {
    /// Reads `host:port`, as servers name each other; an empty host is the host of whoever said it.
    pub(super) fn read(text: &str, told_by: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Self::of(host, port.parse().ok()?, told_by)
    }

    /// The same from its parts. A server that does not know a name yet says `?`.
    pub(super) fn of(host: &str, port: u16, told_by: &str) -> Option<Self> {
        let host = if host.is_empty() { told_by } else { host.trim_matches(['[', ']']) };
        (port != 0 && host != "?").then(|| Self { host: host.to_owned(), port })
    }

    fn of_info(info: &ConnectionInfo) -> Option<Self> {
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = info.addr()
        else {
            return None;
        };
        Some(Self { host: host.clone(), port: *port })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn server(url: &str) -> Option<Address> {
    let info = connection_info(url)?;
    let scheme = if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        "rediss"
    } else if matches!(info.addr(), ConnectionAddr::Unix(_)) {
        "redis+unix"
    } else {
        "redis"
    };
    let shown = format!("{scheme}://{}/{}", info.addr(), info.redis_settings().db());
    Some(Address { place: Place::Server(Client::open(info).ok()?), shown })
}

fn sentinels(scheme: &str, rest: &str) -> Option<Address> {
    let parts = Parts::of(rest);
    let mut path = parts.path.split('/').filter(|part| !part.is_empty());
    let (master, database) = (path.next()?, path.next().unwrap_or("0"));
    if path.next().is_some() {
        return None;
    }
    let tls = base(scheme);
    let login = login(parts.option("sentinel_user"), parts.option("sentinel_password"));
    let at = |server: &str, login: &str, database: &str| {
        connection_info(&format!("{tls}://{login}{server}/{database}{}", parts.fragment()))
    };
    let mut sentinels = Vec::new();
    for server in parts.servers.split(',') {
        let has_port = server.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let server = if has_port { server.to_owned() } else { format!("{server}:{SENTINEL_PORT}") };
        sentinels.push(Client::open(at(&server, &login, "0")?).ok()?);
    }
    let how = How(at(parts.servers.split(',').next()?, &parts.login(), database)?);
    let shown = format!("{scheme}://{}/{master}/{database}", parts.servers);
    Some(Address { place: Place::Set { sentinels, master: master.to_owned(), how }, shown })
}

fn cluster(scheme: &str, rest: &str) -> Option<Address> {
    let parts = Parts::of(rest);
    if !matches!(parts.path, "" | "0") {
        return None;
    }
    let at = |server: &str| {
        connection_info(&format!("{}://{}{server}/0{}", base(scheme), parts.login(), parts.fragment()))
    };
    let infos = parts.servers.split(',').map(at).collect::<Option<Vec<_>>>()?;
    let seeds = infos.iter().map(Peer::of_info).collect::<Option<Vec<_>>>()?;
    let how = How(infos.into_iter().next()?);
    Some(Address { place: Place::Cluster { seeds, how }, shown: format!("{scheme}://{}", parts.servers) })
}

/// What stands after the scheme.
struct Parts<'a> {
    user_info: Option<&'a str>,
    servers: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, end)| (rest, Some(end)));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user_info, servers) =
            authority.rsplit_once('@').map_or((None, authority), |(user, servers)| (Some(user), servers));
        Self { user_info, servers, path, query, fragment }
    }

    fn login(&self) -> String {
        self.user_info.map_or_else(String::new, |user_info| format!("{user_info}@"))
    }

    fn fragment(&self) -> String {
        self.fragment.map_or_else(String::new, |fragment| format!("#{fragment}"))
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        let mut options = self.query.split('&').filter_map(|option| option.split_once('='));
        options.find(|(at, _)| *at == name).map(|(_, value)| value)
    }
}

/// Whom to log in as, as it stands before the host.
fn login(user: Option<&str>, password: Option<&str>) -> String {
    if user.is_none() && password.is_none() {
        return String::new();
    }
    format!("{}:{}@", escaped(user.unwrap_or_default()), escaped(password.unwrap_or_default()))
}

/// What stands in a query may hold signs that end a login.
fn escaped(text: &str) -> String {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'-' | b'.' | b'_' | b'~');
    let escape = |byte| {
        if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(escape).collect()
}

/// The scheme of one server of such a deployment.
fn base(scheme: &str) -> &'static str {
    if scheme.starts_with("rediss") { "rediss" } else { "redis" }
}

fn connection_info(url: &str) -> Option<ConnectionInfo> {
    let info = url.into_connection_info().ok()?;
    let tcp = TcpSettings::default()
        // A claim is one small packet, and its caller waits for it.
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE));
    // The third protocol tells at once that a connection is lost, and carries subscriptions.
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let redis = redis.set_lib_name("onceway", env!("CARGO_PKG_VERSION"));
    Some(info.set_tcp_settings(tcp).set_redis_settings(redis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Address {
        Address::read(url).unwrap_or_else(|_| panic!("{url}"))
    }

    #[test]
    fn a_set_is_read_with_its_sentinels_its_master_and_two_logins() {
        let url = "rediss-sentinel://me:a%2Fb@one:1,two/main/3?sentinel_user=guard&sentinel_password=x@y";
        let address = read(url);
        assert_eq!(address.shown, "rediss-sentinel://one:1,two/main/3");
        let Place::Set { sentinels, master, how } = address.place else { panic!("not a set") };
        let at: Vec<String> =
            sentinels.iter().map(|client| client.get_connection_info().addr().to_string()).collect();
        assert_eq!((at, master.as_str()), (vec!["one:1".to_owned(), "two:26379".to_owned()], "main"));
        let login = sentinels[1].get_connection_info().redis_settings().clone();
        assert_eq!((login.username(), login.password(), login.db()), (Some("guard"), Some("x@y"), 0));
        let named = how.client(&Peer { host: "three".to_owned(), port: 6 }).unwrap();
        let info = named.get_connection_info();
        assert_eq!(info.addr().to_string(), "three:6");
        assert!(matches!(info.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        let login = info.redis_settings();
        assert_eq!((login.username(), login.password(), login.db()), (Some("me"), Some("a/b"), 3));
    }

    #[test]
    fn a_cluster_is_read_with_its_seeds() {
        let address = read("redis-cluster://:hunter2@one:7000,[::1]:7001/0");
        assert_eq!(address.shown, "redis-cluster://one:7000,[::1]:7001");
        let Place::Cluster { seeds, .. } = address.place else { panic!("not a cluster") };
        let at = |host: &str, port| Peer { host: host.to_owned(), port };
        assert_eq!(seeds, [at("one", 7000), at("::1", 7001)]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_shows_nothing_of_it() {
        for url in [
            "redis-sentinel://:hunter2@one:1",
            "redis-sentinel://:hunter2@one:1,/main",
            "redis-sentinel://:hunter2@one:1/main/x",
            "redis-sentinel://:hunter2@one:1/main/0/hunter2",
            "redis-cluster://:hunter2@one:x",
            "redis-cluster://:hunter2@one/1",
            "redis-cluster://",
            "hunter2://one",
        ] {
            let Err(error) = Address::read(url) else { panic!("{url}") };
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn servers_that_name_each_other_are_understood() {
        let read = |text| Peer::read(text, "self").map(|peer| peer.to_string());
        assert_eq!(read("127.0.0.1:7001"), Some("127.0.0.1:7001".to_owned()));
        assert_eq!(read("::1:7001"), Some("::1:7001".to_owned()));
        assert_eq!(read(":7001"), Some("self:7001".to_owned()));
        assert_eq!((read("?:7001"), read("one:0"), read("one")), (None, None, None));
    }
}
