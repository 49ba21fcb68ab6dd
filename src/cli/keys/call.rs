//! One call to the operators' listener: a connection, a request, its answer or why there is none.
//!
//! Each call has a connection of its own. What carries a secret goes over TLS or stays on this machine. Must not know
//! what is asked for.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::operation::Problem;
use super::place::{Place, Unusable};

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take: the gateway may look through ten thousand records for it.
const ANSWER_PATIENCE: Duration = Duration::from_mins(2);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Calls one gateway.
pub(in crate::cli) struct Caller {
    place: Place,
}

/// What is asked of the gateway.
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    /// JSON, or nothing.
    pub(super) body: Vec<u8>,
    pub(super) carries: Carries,
}

/// Which secret travels with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    /// None.
    Nothing,
    /// A caller's key and credentials.
    Key,
    /// The token; so it is a change.
    Token,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It must not be made.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// It cannot be written.
    #[error("write the request")]
    Request(#[source] http::Error),
    /// No connection.
    #[error("connect to {url}")]
    Connect {
        /// Where to.
        url: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// No TLS.
    #[error("agree on TLS with {url}")]
    Tls {
        /// With whom.
        url: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke off.
    #[error("get an answer from {url}")]
    Broken {
        /// From whom.
        url: String,
        /// What broke.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came.
    #[error("get an answer from {url} in time")]
    TimedOut {
        /// From whom.
        url: String,
    },
    /// The answer is none of a gateway's operators' listener.
    #[error("understand the answer of {url} (status {status})")]
    Strange {
        /// From whom.
        url: String,
        /// Its status.
        status: u16,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The gateway said no.
    #[error("{detail} ({code}, status {status})")]
    Refused {
        /// Which no.
        code: String,
        /// In its words.
        detail: String,
        /// Its status.
        status: u16,
    },
}

impl Caller {
    pub(in crate::cli) fn of(place: Place) -> Self {
        Self { place }
    }

    /// Asks for a document.
    ///
    /// Cancel safety: the call may have been carried out.
    pub(super) async fn read<T: DeserializeOwned>(&self, call: Call) -> Result<T, CallError> {
        let (status, body) = self.carry_out(call).await?;
        serde_json::from_slice(&body).map_err(|source| self.strange(status, source))
    }

    /// Asks for something to be done of which nothing is told but that it was.
    ///
    /// Cancel safety: the call may have been carried out.
    pub(super) async fn tell(&self, call: Call) -> Result<(), CallError> {
        self.carry_out(call).await.map(drop)
    }

    /// Asks for what is for everybody, and waits no longer than this; answers the status and the body, whatever they are.
    ///
    /// Cancel safety: nothing is changed by it.
    pub(in crate::cli) async fn look(
        &self,
        target: String,
        patience: Duration,
    ) -> Result<(u16, Bytes), CallError> {
        let call = Call { method: Method::GET, target, body: Vec::new(), carries: Carries::Nothing };
        let looked = timeout(patience, self.make(call)).await;
        looked.unwrap_or_else(|_| Err(CallError::TimedOut { url: self.url() }))
    }

    async fn carry_out(&self, call: Call) -> Result<(u16, Bytes), CallError> {
        let (status, body) = self.make(call).await?;
        if (200..300).contains(&status) { Ok((status, body)) } else { Err(self.refused(status, &body)) }
    }

    async fn make(&self, call: Call) -> Result<(u16, Bytes), CallError> {
        let carries = call.carries;
        let request = self.request(call)?;
        let stream = self.connect(carries).await?;
        let exchange = async {
            match &self.place.tls {
                None => self.exchange(stream, request).await,
                Some(trust) => {
                    let tls = TlsConnector::from(std::sync::Arc::clone(&trust.settings));
                    let agreed = tls.connect(trust.name.clone(), stream).await;
                    let stream = agreed.map_err(|source| CallError::Tls { url: self.url(), source })?;
                    self.exchange(stream, request).await
                }
            }
        };
        timeout(ANSWER_PATIENCE, exchange)
            .await
            .unwrap_or_else(|_| Err(CallError::TimedOut { url: self.url() }))
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>, CallError> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.target)
            .header(HOST, &self.place.authority)
            .header(ACCEPT, "application/json, application/problem+json");
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if call.carries == Carries::Token {
            let token = self.place.token()?;
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
            let mut bearer = bearer.map_err(|error| CallError::Request(error.into()))?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        request.body(Full::from(call.body)).map_err(CallError::Request)
    }

    async fn connect(&self, carries: Carries) -> Result<TcpStream, CallError> {
        let failed = |source| CallError::Connect { url: self.url(), source };
        let connected = timeout(CONNECT_PATIENCE, TcpStream::connect(&self.place.address)).await;
        let stream =
            connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(failed)?;
        let secret = match carries {
            Carries::Nothing => None,
            Carries::Key => Some("the key"),
            Carries::Token => Some("the token"),
        };
        let is_here = stream.peer_addr().map_err(failed)?.ip().to_canonical().is_loopback();
        match secret {
            Some(secret) if self.place.tls.is_none() && !is_here => Err(Unusable::InTheClear(secret).into()),
            Some(_) | None => Ok(stream),
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        request: Request<Full<Bytes>>,
    ) -> Result<(u16, Bytes), CallError> {
        let broken = |error: hyper::Error| CallError::Broken { url: self.url(), source: error.into() };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut answer = std::pin::pin!(async move {
            let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|source| CallError::Broken { url: self.url(), source })?;
            Ok((head.status.as_u16(), body.to_bytes()))
        });
        // The connection moves the bytes; if it ends first, the answer knows already how.
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    fn refused(&self, status: u16, body: &[u8]) -> CallError {
        match serde_json::from_slice::<Problem>(body) {
            Ok(Problem { code, title, detail }) => {
                let detail = if detail.is_empty() { title } else { detail };
                CallError::Refused { code, detail, status }
            }
            Err(source) => self.strange(status, source),
        }
    }

    fn strange(&self, status: u16, source: serde_json::Error) -> CallError {
        CallError::Strange { url: self.url(), status, source }
    }

    fn url(&self) -> String {
        self.place.url()
    }
}

impl CallError {
    /// Whether a change may have been made though this was the answer. An error from the store says nothing of the
    /// write, and a connection that broke off says nothing at all.
    pub(super) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Unusable(_) | Self::Request(_) | Self::Connect { .. } | Self::Tls { .. } => false,
            Self::Broken { .. } | Self::TimedOut { .. } | Self::Strange { .. } => true,
            Self::Refused { code, status, .. } => {
                *status >= 500 && !["audit-unavailable", "starting"].contains(&code.as_str())
            }
        }
    }

    /// What to do next, in a sentence.
    pub(super) fn advice(&self) -> Option<&'static str> {
        let code = match self {
            Self::Connect { .. } => {
                return Some(
                    "Is the gateway up, and is this the address of its operators' listener (admin.listen)? --admin, \
                     --config and ONCEWAY_ADMIN name it.",
                );
            }
            Self::Tls { .. } => {
                return Some(
                    "Name those who vouch for the gateway with --ca; if it asks for your certificate, show one with \
                     --cert and --cert-key.",
                );
            }
            Self::Strange { .. } => {
                return Some("Is this the address of a gateway's operators' listener, and of this version?");
            }
            Self::Refused { code, .. } => code.as_str(),
            Self::Unusable(_) | Self::Request(_) | Self::Broken { .. } | Self::TimedOut { .. } => {
                return None;
            }
        };
        advice_on(code)
    }
}

fn advice_on(code: &str) -> Option<&'static str> {
    Some(match code {
        "operators-only" => {
            "Run this on the gateway's machine against a loopback address, or show a certificate that \
             admin.tls_client_ca_file vouches for, with --cert and --cert-key."
        }
        "host-unknown" => {
            "Call the gateway by its address or as localhost, or add the name to admin.host_names in its file."
        }
        "changes-off" => {
            "Name a file with a token in admin.token_file of the gateway's file and restart the gateway."
        }
        "token-missing" | "token-wrong" => {
            "The token must be the one in the gateway's admin.token_file: name its file with --token-file."
        }
        "audit-unavailable" => "Nothing was changed. See that the gateway can write to admin.audit_file.",
        "operation-not-found" => {
            "Its retention has ended, or it was released or forgotten: the next request with its key is a first one."
        }
        "not-unknown" => {
            "Nothing was changed: only unknown outcomes are resolved. Look at it again with onceway keys show."
        }
        "attempt-changed" => {
            "Nothing was changed: the record is another than the one you looked at. Look at it again with onceway keys \
             show."
        }
        "in-flight" => {
            "Nothing was changed: the request is still at work. Wait for its end; if the gateway that works on it has \
             died, the outcome will read as unknown."
        }
        "record-unreadable" => {
            "Nothing was changed. The record was written by a newer version, sealed with a key that this gateway lacks, \
             or damaged."
        }
        "starting" => "Nothing was asked of its store yet. Try again once it is ready (GET /readyz says so).",
        "store-unavailable" => {
            "The gateway does not reach its store. Try again once it is ready (GET /readyz says so)."
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, status: u16) -> CallError {
        CallError::Refused { code: code.to_owned(), detail: String::new(), status }
    }

    #[test]
    fn only_an_answer_that_proves_it_says_that_nothing_was_changed() {
        assert!(refused("store-unavailable", 503).leaves_doubt());
        assert!(CallError::TimedOut { url: String::new() }.leaves_doubt());
        assert!(!refused("audit-unavailable", 503).leaves_doubt());
        assert!(!refused("attempt-changed", 409).leaves_doubt());
    }
}
