//! What kind of deployment this is, and how well it keeps what it acknowledges.
//!
//! Must not know records. Asked once at start; the answers are for people. Read `deployment/info.rs` for what
//! one server tells of itself.

mod info;

use redis::{Pipeline, Value};

use self::info::Server;
use super::super::StoreError;
use super::super::durability::{Durability, Fault, Severity};
use super::failed::Failed;
use super::link::Link;
use super::node::Lane;
use super::servers::{Part, Servers};
use super::unexpected;

/// What is asked for beside `INFO`, which does not tell it.
const SETTINGS: [&str; 3] = ["appendfsync", "save", "min-replicas-to-write"];

/// What the servers are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One server.
    Alone,
    /// One server, named by sentinels, of which some could be asked.
    Set { asked: usize, answered: usize },
    /// Several, that hold all keys between them, or not all.
    Cluster { is_complete: bool },
}

pub(super) async fn inspect(servers: &Servers, min_replicas: u32) -> Result<Durability, StoreError> {
    let parts = match servers.parts().await {
        Ok(parts) => parts,
        Err(failed) => return no_cluster(servers).await.ok_or_else(|| failed.into()),
    };
    let shape = match servers {
        Servers::One { sentinels: None, .. } => Shape::Alone,
        Servers::One { sentinels: Some(sentinels), .. } => {
            let (answered, asked) = sentinels.reachable().await;
            Shape::Set { asked, answered }
        }
        Servers::Cluster(_) => Shape::Cluster { is_complete: parts.is_complete },
    };
    let mut found = Vec::with_capacity(parts.all.len());
    for part in &parts.all {
        found.push(ask(part).await?);
    }
    Ok(judge(&found, shape, min_replicas))
}

/// What to say of a server that was said to belong to a cluster and does not.
async fn no_cluster(servers: &Servers) -> Option<Durability> {
    for part in servers.seeds() {
        if let Ok(server) = ask(&part).await
            && !server.is_clustered
        {
            return Some(judge(&[server], Shape::Cluster { is_complete: true }, 0));
        }
    }
    None
}

async fn ask(part: &Part) -> Result<Server, StoreError> {
    let link = part.node.link(Lane::Small);
    let info = text(link, &["INFO"]).await??;
    let mut server = Server::of_info(part.name.clone(), &info);
    // Managed servers forbid this; then it stays unknown.
    let mut settings = Pipeline::new();
    settings.cmd("CONFIG").arg("GET").arg(&SETTINGS);
    if let Some(Ok(answer)) = link.ask_all(&settings).await?.pop() {
        let settings: Vec<(String, String)> = redis::from_redis_value(answer).unwrap_or_default();
        server.settings(&settings);
    }
    if server.is_clustered
        && let Ok(Ok(info)) = text(link, &["CLUSTER", "INFO"]).await
    {
        server.cluster_info(&info);
    }
    Ok(server)
}

async fn text(link: &Link, words: &[&str]) -> Result<Result<String, StoreError>, Failed> {
    let mut command = redis::Cmd::new();
    command.arg(words);
    let answer: Value = link.ask(&command).await?;
    Ok(redis::from_redis_value(answer).map_err(|_error| unexpected("INFO")))
}

fn judge(servers: &[Server], shape: Shape, min_replicas: u32) -> Durability {
    let mut told = Durability::default();
    match shape {
        Shape::Alone => {}
        Shape::Set { asked, answered } => {
            told.facts.push(("sentinels", format!("{answered} of {asked} answer")));
            // As many as it takes to replace a master must not be out of sight.
            if answered * 2 <= asked {
                told.faults.push(weak(format!(
                    "{answered} of {asked} sentinels answer: a failover may go unnoticed, and claims made on the \
                     old master meanwhile are lost"
                )));
            }
        }
        Shape::Cluster { is_complete } => {
            let masters = if servers.len() == 1 { "master" } else { "masters" };
            told.facts.push(("cluster", format!("{} {masters}", servers.len())));
            if !is_complete {
                told.faults.push(weak(
                    "some slots of the cluster are not served: claims whose keys fall there are refused"
                        .to_owned(),
                ));
            }
        }
    }
    for server in servers {
        told.facts.extend(server.facts());
        told.faults.extend(server.faults(matches!(shape, Shape::Cluster { .. }), min_replicas));
        for loss in [server.lost_in_a_crash(), server.lost_in_a_failover(min_replicas)] {
            if !told.losses.contains(&loss) {
                told.losses.push(loss);
            }
        }
    }
    // The sort keeps the order among equals.
    told.faults.sort_by_key(|fault| match fault.severity {
        Severity::Unusable => 0,
        Severity::Evicts => 1,
        Severity::Weak => 2,
    });
    told
}

fn weak(text: String) -> Fault {
    Fault { severity: Severity::Weak, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(info: &str) -> Server {
        let sound = "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n";
        let mut server = Server::of_info(None, &format!("{sound}{info}"));
        server.settings(&[("appendfsync".to_owned(), "always".to_owned())]);
        server
    }

    fn faults(servers: &[Server], shape: Shape, min_replicas: u32) -> String {
        let texts = judge(servers, shape, min_replicas).faults.into_iter().map(|fault| fault.text);
        texts.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn sound_deployments_of_every_shape_have_no_fault() {
        let followed = "connected_slaves:2\r\n";
        let set = Shape::Set { asked: 3, answered: 2 };
        assert_eq!(faults(&[server("")], Shape::Alone, 0), "");
        assert_eq!(faults(&[server(followed)], set, 2), "");
        let mut clustered = server(&format!("cluster_enabled:1\r\n{followed}"));
        clustered.cluster_info("cluster_state:ok\r\n");
        assert_eq!(faults(&[clustered.clone(), clustered], Shape::Cluster { is_complete: true }, 1), "");
    }

    #[test]
    fn what_is_wrong_with_the_whole_is_told() {
        let set = Shape::Set { asked: 3, answered: 1 };
        assert!(faults(&[server("")], set, 0).contains("1 of 3 sentinels"));
        let open = Shape::Cluster { is_complete: false };
        assert!(faults(&[server("cluster_enabled:1")], open, 0).contains("are not served"));
        let stranger = judge(&[server("cluster_enabled:0")], open, 0);
        assert_eq!(stranger.faults[0].severity, Severity::Unusable);
        let stranger = judge(&[server("cluster_enabled:1")], Shape::Alone, 0);
        assert!(stranger.faults[0].text.contains("redis-cluster://"));
    }

    #[test]
    fn the_same_loss_is_told_once_whoever_has_it() {
        let two = judge(&[server(""), server("")], Shape::Alone, 0);
        let one = judge(&[server("")], Shape::Alone, 0);
        assert_eq!(two.losses, one.losses);
        let parts = [server("connected_slaves:1\r\n"), server("")];
        assert_eq!(judge(&parts, Shape::Alone, 0).losses.len(), 3);
    }

    #[test]
    fn the_worst_fault_is_told_first() {
        let bad = server("role:slave\r\n");
        let mut old =
            Server::of_info(None, "redis_version:6.2.0\r\nmaxmemory_policy:allkeys-lru\r\nrole:master\r\n");
        old.settings(&[]);
        let severities: Vec<Severity> =
            judge(&[bad, old], Shape::Alone, 0).faults.iter().map(|fault| fault.severity).collect();
        assert_eq!(severities[..2], [Severity::Unusable, Severity::Evicts]);
        assert!(severities[2..].iter().all(|severity| *severity == Severity::Weak));
    }
}
