//! An HTTP/2 server and client by the h2 library, for what is right on the wire: streams in both directions.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use super::PATIENCE;
use super::certificates::TlsCaller;

/// A server that answers each message of a stream with the same message, and tells the head of each request.
pub(crate) struct Echo {
    address: SocketAddr,
    heads: Receiver<Request<()>>,
    over: Arc<Notify>,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let (tell_address, address) = channel();
        let (tell, heads) = channel();
        let over = Arc::<Notify>::default();
        let is_over = Arc::clone(&over);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell_address.send(listener.local_addr().unwrap()).unwrap();
                let accepting = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        tokio::task::spawn_local(serve(stream, tell.clone()));
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    () = is_over.notified() => {}
                }
            });
        });
        Self { address: address.recv_timeout(PATIENCE).unwrap(), heads, over }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The head of the next request, as it came.
    pub(crate) fn head(&self) -> Request<()> {
        self.heads.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.over.notify_one();
    }
}

async fn serve(stream: TcpStream, tell: Sender<Request<()>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, answer))) = connection.accept().await {
        let (parts, body) = request.into_parts();
        let is_trailers_only = parts.uri.path() == "/trailers-only";
        tell.send(Request::from_parts(parts, ())).ok();
        tokio::task::spawn_local(echo(body, answer, is_trailers_only));
    }
}

/// The head of the answer goes out before anything of the request's body is read; the trailers of the request come
/// back as trailers of the answer.
async fn echo(mut body: RecvStream, mut answer: SendResponse<Bytes>, is_trailers_only: bool) {
    // Announced, or nobody could pass them on over HTTP/1.1.
    let head = Response::builder().status(200).header("trailer", "grpc-status, x-sum");
    if is_trailers_only {
        answer.send_response(head.header("grpc-status", "5").body(()).unwrap(), true).unwrap();
        return;
    }
    let mut out = answer.send_response(head.body(()).unwrap(), false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        if !send(&mut out, data).await {
            return;
        }
    }
    let mut trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    out.send_trailers(trailers).ok();
}

async fn send(out: &mut SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        out.reserve_capacity(data.len());
        let Some(Ok(room)) = poll_fn(|cx| out.poll_capacity(cx)).await else { return false };
        if out.send_data(data.split_to(room.min(data.len())), false).is_err() {
            return false;
        }
    }
    true
}

/// Runs `talk` with a connection over HTTP/2 to `address`.
pub(crate) fn over_http2<Talk, Talking, T>(address: SocketAddr, talk: Talk) -> T
where
    Talk: FnOnce(h2::client::SendRequest<Bytes>) -> Talking,
    Talking: Future<Output = T>,
{
    talk_over(TcpStream::connect(address), talk)
}

/// The same over TLS, for which both must have agreed on HTTP/2.
pub(crate) fn over_http2_and_tls<Talk, Talking, T>(caller: &TlsCaller, address: SocketAddr, talk: Talk) -> T
where
    Talk: FnOnce(h2::client::SendRequest<Bytes>) -> Talking,
    Talking: Future<Output = T>,
{
    let connector = TlsConnector::from(Arc::new(caller.clone().offering(&["h2", "http/1.1"]).config()));
    let connecting = async move {
        let stream = TcpStream::connect(address).await?;
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Ok(stream)
    };
    talk_over(connecting, talk)
}

fn talk_over<S, Talk, Talking, T>(connecting: impl Future<Output = io::Result<S>>, talk: Talk) -> T
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    Talk: FnOnce(h2::client::SendRequest<Bytes>) -> Talking,
    Talking: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (sender, connection) = h2::client::handshake(connecting.await.unwrap()).await.unwrap();
        tokio::task::spawn_local(async move { connection.await.ok() });
        let talking = talk(sender.ready().await.unwrap());
        let patience: Duration = PATIENCE;
        tokio::time::timeout(patience, talking).await.expect("an answer in time")
    })
}

/// The rest of an answer: its bytes and its trailers.
pub(crate) async fn rest(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    (bytes, body.trailers().await.unwrap())
}
