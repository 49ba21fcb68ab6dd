//! Where the gateway's operators' listener is, by whom it is trusted, and what is shown to it.
//!
//! What is typed goes before the configuration file, the file before the environment. Must not connect to anything.
//! Read `trust.rs` for TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use http::Uri;

use super::given::Reader;
use super::trust::{self, BadTrust, Trust};
use crate::config::{self, Admin, ConfigProblems, Secret};

/// Names the address.
const ADMIN_VARIABLE: &str = "ONCEWAY_ADMIN";
/// Names the file with the token.
const TOKEN_VARIABLE: &str = "ONCEWAY_ADMIN_TOKEN_FILE";
/// Where the listener is unless anybody says otherwise.
const ADMIN_DEFAULT: &str = "http://127.0.0.1:8081";
/// Bytes of the file with the token at most.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// Beneath which these arguments stand in a command's help.
const HEADING: &str = "The gateway";
pub(in crate::cli) const ADMIN_HELP: &str =
    "Address of the operators' listener [env: ONCEWAY_ADMIN] [default: http://127.0.0.1:8081]";
const TOKEN_HELP: &str = "File with the token that changes need [env: ONCEWAY_ADMIN_TOKEN_FILE]";

/// Where the gateway is.
#[derive(Args, Debug)]
pub struct AdminArgs {
    /// Address of the operators' listener.
    #[arg(long, value_name = "URL", global = true, help_heading = HEADING, help = ADMIN_HELP)]
    admin: Option<String>,
    /// The gateway's configuration file: address, token and certificate are taken from it
    #[arg(long, value_name = "FILE", global = true, help_heading = HEADING)]
    config: Option<PathBuf>,
    /// File with the token that changes need.
    #[arg(long, value_name = "FILE", global = true, help_heading = HEADING, help = TOKEN_HELP)]
    token_file: Option<PathBuf>,
    /// Certificates, in PEM, of those who vouch for the gateway [default: those that the system trusts]
    #[arg(long, value_name = "FILE", global = true, help_heading = HEADING)]
    ca: Option<PathBuf>,
    /// Certificate and chain, in PEM, by which you show yourself
    #[arg(long, value_name = "FILE", global = true, help_heading = HEADING, requires = "cert_key")]
    cert: Option<PathBuf>,
    /// Private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", global = true, help_heading = HEADING, requires = "cert")]
    cert_key: Option<PathBuf>,
}

/// The listener, and what it is shown.
#[derive(Debug)]
pub(in crate::cli) struct Place {
    /// `host:port`.
    pub(super) authority: String,
    /// Where to connect to.
    pub(super) address: String,
    /// None: in the clear.
    pub(super) tls: Option<Arc<Trust>>,
    token: Token,
}

/// What a change shows.
#[derive(Debug)]
enum Token {
    None,
    Known(Secret),
    In { file: PathBuf, argument: &'static str },
}

/// Why what was typed makes no command.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigProblems),
    /// An address.
    #[error(
        "{0}: expected an address such as \"http://127.0.0.1:8081\" or \"https://onceway.internal:8081\", without a path"
    )]
    Address(&'static str),
    /// The file leaves the port to the system.
    #[error("--config: admin.listen leaves the port to the system; name the address with --admin")]
    NoPort,
    /// A file.
    #[error("{argument}: failed to read the file it names: {source}")]
    Unreadable {
        /// What names it.
        argument: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Something else than text.
    #[error("{0}: expected text in UTF-8")]
    NotText(&'static str),
    /// Both would read the same.
    #[error("{0} and {1}: only one value can be read from standard input")]
    InputTwice(&'static str, &'static str),
    /// TLS.
    #[error(transparent)]
    Trust(#[from] BadTrust),
    /// No token.
    #[error(
        "a change needs the token of admin.token_file: name its file with --token-file, or the gateway's --config"
    )]
    NoToken,
    /// A file that holds none.
    #[error("{0}: expected a file that holds a token, one word of printable ASCII")]
    BadToken(&'static str),
    /// No TLS, and not on this machine.
    #[error(
        "{0} would travel in the clear to another machine: use https://, or run this on the gateway's machine"
    )]
    InTheClear(&'static str),
    /// Nobody to ask.
    #[error(
        "--attempt: needed where nobody can be asked. Look first (onceway keys show {0}), then name the attempt that \
         you saw, or its first eight digits"
    )]
    Unattended(String),
    /// A part of a scope.
    #[error(
        "--scope: expected a part of the route's scope and its value, such as 'header:Authorization=Bearer x'"
    )]
    Scope,
    /// A field.
    #[error("--header: expected a name and a value, such as 'content-type: application/json'")]
    Header,
}

impl AdminArgs {
    /// What is needed to look, and no more.
    pub(in crate::cli) fn to_look(
        admin: Option<String>,
        config: Option<PathBuf>,
        ca: Option<PathBuf>,
    ) -> Self {
        Self { admin, config, ca, token_file: None, cert: None, cert_key: None }
    }

    /// What these arguments, the file and the environment come to.
    pub(in crate::cli) fn place(&self) -> Result<Place, Unusable> {
        let admin = match &self.config {
            Some(file) => Some(config::load(file)?.admin),
            None => None,
        };
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (is_tls, authority) = match (&self.admin, &admin, variable(ADMIN_VARIABLE)) {
            (Some(url), _, _) => authority_of("--admin", url)?,
            (None, Some(admin), _) => (admin.tls.is_some(), from_here(admin.listen)?),
            (None, None, Some(url)) => authority_of(ADMIN_VARIABLE, &url)?,
            (None, None, None) => authority_of("--admin", ADMIN_DEFAULT)?,
        };
        let port = if is_tls { 443 } else { 80 };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let address = if has_port { authority.clone() } else { format!("{authority}:{port}") };
        let token = match (&self.token_file, &admin, variable(TOKEN_VARIABLE)) {
            (Some(file), _, _) => Token::In { file: file.clone(), argument: "--token-file" },
            (None, Some(Admin { token: Some(token), .. }), _) => Token::Known(token.clone()),
            (None, _, Some(file)) => Token::In { file: file.into(), argument: TOKEN_VARIABLE },
            (None, _, None) => Token::None,
        };
        let tls = if is_tls { Some(Arc::new(self.trust(&authority, admin.as_ref())?)) } else { None };
        Ok(Place { authority, address, tls, token })
    }

    fn trust(&self, authority: &str, admin: Option<&Admin>) -> Result<Trust, Unusable> {
        let read = |argument, file: &Option<PathBuf>| match file {
            Some(file) => read_file(argument, file).map(Some),
            None => Ok(None),
        };
        let (ca, certificate, key) =
            (read("--ca", &self.ca)?, read("--cert", &self.cert)?, read("--cert-key", &self.cert_key)?);
        let own = admin.and_then(|admin| admin.tls.as_ref()).map(|tls| tls.identity.chain());
        let vouched = match (ca, own) {
            (Some(pem), _) => trust::Vouched::By(pem),
            (None, Some(chain)) => trust::Vouched::Exactly(chain),
            (None, None) => trust::Vouched::BySystem,
        };
        let shown = certificate.zip(key);
        Ok(Trust::new(authority, vouched, shown)?)
    }
}

fn read_file(argument: &'static str, file: &Path) -> Result<Vec<u8>, Unusable> {
    Reader::of(&mut std::io::empty()).bytes(argument, file, trust::FILE_BYTES_MAX)
}

impl Place {
    /// What a change shows.
    pub(super) fn token(&self) -> Result<Secret, Unusable> {
        let (file, argument) = match &self.token {
            Token::None => return Err(Unusable::NoToken),
            Token::Known(token) => return Ok(token.clone()),
            Token::In { file, argument } => (file, *argument),
        };
        let bytes = Reader::of(&mut std::io::empty()).bytes(argument, file, TOKEN_BYTES_MAX)?;
        let token = Secret::new(String::from_utf8(bytes).unwrap_or_default().trim());
        let is_word =
            !token.reveal().is_empty() && token.reveal().bytes().all(|byte| byte.is_ascii_graphic());
        if is_word { Ok(token) } else { Err(Unusable::BadToken(argument)) }
    }

    /// As an address is written.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }
}

/// Whether the address is one of TLS, and its host and port.
fn authority_of(argument: &'static str, url: &str) -> Result<(bool, String), Unusable> {
    let unfit = || Unusable::Address(argument);
    let uri: Uri = url.parse().ok().ok_or_else(unfit)?;
    let is_tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(unfit()),
    };
    let authority = uri.authority().ok_or_else(unfit)?.as_str();
    let is_bare = uri.path() == "/" && uri.query().is_none() && !authority.contains('@');
    if is_bare { Ok((is_tls, authority.to_owned())) } else { Err(unfit()) }
}

/// How a listener is reached from the machine on which it listens.
fn from_here(listen: SocketAddr) -> Result<String, Unusable> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listen.ip(),
    };
    if listen.port() == 0 {
        Err(Unusable::NoPort)
    } else {
        Ok(SocketAddr::new(ip, listen.port()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_no_path() {
        let of = |url| authority_of("--admin", url).ok();
        assert_eq!(of("http://127.0.0.1:8081"), Some((false, "127.0.0.1:8081".to_owned())));
        assert_eq!(of("https://onceway.internal/"), Some((true, "onceway.internal".to_owned())));
        assert_eq!(of("http://[::1]:8081"), Some((false, "[::1]:8081".to_owned())));
        for url in ["", "127.0.0.1:8081", "ftp://h", "http://h/x", "http://h?x", "http://u:p@h", "http://"] {
            assert_eq!(of(url), None, "{url}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_the_loopback_one() {
        for (listen, reached) in
            [("0.0.0.0:81", "127.0.0.1:81"), ("[::]:81", "[::1]:81"), ("10.0.0.7:81", "10.0.0.7:81")]
        {
            assert_eq!(from_here(listen.parse().unwrap()).unwrap(), reached);
        }
        assert!(matches!(from_here("127.0.0.1:0".parse().unwrap()), Err(Unusable::NoPort)));
    }
}
