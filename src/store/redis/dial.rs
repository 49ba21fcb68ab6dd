//! Where a connection leads, and when it leads to the wrong server. Read `link.rs` after.

use redis::aio::MultiplexedConnection;
use redis::{Client, Value};

use super::address::Peer;
use super::cluster::Cluster;
use super::link::Outage;
use super::sentinel::Sentinels;

/// Whom to connect to.
#[derive(Clone)]
pub(super) enum Dial {
    /// Always the same server.
    Server(Box<Client>),
    /// Whichever the sentinels name.
    Master(Sentinels),
    /// One server of a cluster after another.
    Anyone(Cluster),
}

/// Whom a connection leads to.
pub(super) struct Led {
    pub(super) client: Client,
    /// Who that was said to be, if somebody had to say it.
    peer: Option<Peer>,
}

impl Dial {
    /// Whom to connect to this time, which is the `generation`th.
    pub(super) async fn lead(&self, generation: u64) -> Result<Led, Outage> {
        match self {
            Self::Server(client) => Ok(Led { client: (**client).clone(), peer: None }),
            Self::Master(sentinels) => {
                let (client, master) = sentinels.master().await?;
                Ok(Led { client, peer: Some(master) })
            }
            Self::Anyone(cluster) => {
                let (client, peer) = cluster.anyone(generation).map_err(Outage::Connect)?;
                Ok(Led { client, peer: Some(peer) })
            }
        }
    }

    /// Has a server that was named as the master say so itself: the word may be old, or not have reached it.
    pub(super) async fn verify(&self, connection: &mut MultiplexedConnection) -> Result<(), Outage> {
        match self {
            Self::Server(_) | Self::Anyone(_) => Ok(()),
            Self::Master(_) => {
                let role: Value =
                    redis::cmd("ROLE").query_async(connection).await.map_err(Outage::Connect)?;
                let Value::Array(parts) = role else { return Err(Outage::NotTheMaster) };
                match parts.first() {
                    Some(Value::BulkString(role)) if role == b"master" => Ok(()),
                    _ => Err(Outage::NotTheMaster),
                }
            }
        }
    }

    /// Returns when the connection is known to lead to the wrong server.
    pub(super) async fn misled(&self, led: &Led) {
        match (self, &led.peer) {
            (Self::Master(sentinels), Some(master)) => sentinels.named_another(master).await,
            (Self::Anyone(cluster), Some(peer)) => cluster.let_go(peer).await,
            (Self::Server(_) | Self::Master(_) | Self::Anyone(_), _) => std::future::pending().await,
        }
    }
}
