//! Where PostgreSQL is, and how to log in: from an address to what the client library needs.
//!
//! The address may hold a password, so nothing of it goes into an error. Must not know connections.

use std::fmt::Write as _;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::tls::{Proof, Tls, TlsError};

/// For each host of an address, the TCP and TLS handshakes and the login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Until the system asks a silent peer whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// For how long bytes may stay unacknowledged before the system gives the connection up.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Why a store's address is of no use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAddress {
    /// It cannot be read.
    #[error("read the address of PostgreSQL: it must look like postgres://user:password@host:5432/database")]
    Unreadable,
    /// It demands TLS, and no certificate is trusted here.
    #[error("use TLS to PostgreSQL")]
    Tls(#[source] TlsError),
}

/// An address that was read.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// The same without credentials.
    pub(super) shown: String,
}

impl Address {
    pub(super) fn read(url: &str) -> Result<Self, InvalidAddress> {
        let url = without_verification(url);
        let is_of_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        // The library's own error may quote what it could not use.
        let Some(mut config) = url.parse::<Config>().ok().filter(|_| is_of_postgres) else {
            return Err(InvalidAddress::Unreadable);
        };
        if config.get_hosts().is_empty() {
            return Err(InvalidAddress::Unreadable);
        }
        if config.get_application_name().is_none() {
            config.application_name("onceway");
        }
        if config.get_hosts().len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            // Of several servers, the one that takes writes.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        config.connect_timeout(CONNECT_TIMEOUT);
        config.keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE).keepalives_retries(3);
        config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
        let is_demanded = config.get_ssl_mode() == SslMode::Require;
        let tls = Tls::new(if is_demanded { Proof::Demanded } else { Proof::Waived });
        let tls = tls.map_err(InvalidAddress::Tls)?;
        let shown = shown(&config);
        Ok(Self { config, tls, shown })
    }

    /// How long an attempt may take that tries every host.
    pub(super) fn connect_limit(&self) -> Duration {
        CONNECT_TIMEOUT * u32::try_from(self.config.get_hosts().len()).unwrap_or(1).clamp(1, 8)
    }
}

/// The library knows no `verify-…`; all that is encrypted on demand is verified here.
fn without_verification(url: &str) -> String {
    let demands = ["sslmode=verify-full", "sslmode=verify-ca"];
    demands.iter().fold(url.to_owned(), |url, demand| url.replace(demand, "sslmode=require"))
}

/// The address without the credentials.
fn shown(config: &Config) -> String {
    let mut text = String::from("postgres://");
    for (number, host) in config.get_hosts().iter().enumerate() {
        let ports = config.get_ports();
        let port = ports.get(number).or(ports.first()).copied().unwrap_or(5432);
        let comma = if number == 0 { "" } else { "," };
        // Writing into a string cannot fail.
        let _written = match host {
            Host::Tcp(host) => write!(text, "{comma}{host}:{port}"),
            Host::Unix(path) => write!(text, "{comma}{}:{port}", path.display()),
        };
    }
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{text}/{database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_credentials() {
        for (url, expected) in [
            ("postgres://me:hunter2@db.internal:5433/pay", "postgres://db.internal:5433/pay"),
            ("postgresql://me:hunter2@one,two/pay?sslmode=disable", "postgres://one:5432,two:5432/pay"),
            ("postgres://me@[::1]/", "postgres://::1:5432/me"),
        ] {
            assert_eq!(Address::read(url).unwrap().shown, expected);
        }
    }

    #[test]
    fn of_several_servers_the_one_that_takes_writes_is_wanted() {
        for (url, wanted) in [
            ("postgres://me@one/db", TargetSessionAttrs::Any),
            ("postgres://me@one,two/db", TargetSessionAttrs::ReadWrite),
        ] {
            assert_eq!(Address::read(url).unwrap().config.get_target_session_attrs(), wanted, "{url}");
        }
    }

    #[test]
    fn verification_is_the_meaning_of_every_demand_for_tls() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let address = Address::read(&format!("postgres://me@db/pay?sslmode={mode}"));
            // Where nobody is trusted at all, that is told at once.
            if let Ok(address) = address {
                assert_eq!(address.config.get_ssl_mode(), SslMode::Require, "{mode}");
            }
        }
    }
}
