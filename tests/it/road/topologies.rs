//! Gateways over a Redis of several servers, and failovers under load.

use std::sync::atomic::AtomicBool;

use crate::campaign::{self, Fault, Plan, Until};
use crate::harness::{GatewayPlan, Upstream, post};
use crate::servers::redis_cluster::RedisCluster;

fn one_failover(fault: Fault) -> campaign::Report {
    let plan = Plan { min_replicas: 1, fault, until: Until::Lost(1) };
    campaign::run(&plan, &AtomicBool::new(false))
}

#[test]
fn no_key_runs_twice_when_a_master_is_killed_under_load_just_after_its_replicas_lost_it() {
    let report = one_failover(Fault::CutOffAndKilled);
    assert_eq!((report.lost, report.twice, report.wrong), (1, 0, 0), "{report:?}");
    assert!(report.keys > 0, "{report:?}");
}

#[test]
fn no_key_runs_twice_when_a_master_is_frozen_under_load_and_wakes_as_the_master_it_was() {
    let report = one_failover(Fault::Frozen);
    assert_eq!((report.lost, report.twice, report.wrong), (1, 0, 0), "{report:?}");
}

#[test]
fn gateways_share_a_cluster() {
    let cluster = RedisCluster::start();
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream).store(&cluster.url());
    let (one, other) = (plan.start(), plan.start());
    for number in 1..=20 {
        let ask = post("/payments").key(&format!("k{number}"));
        let (first, again) = (one.ask(&ask), other.ask(&ask));
        assert_eq!((first.text(), again.text()), (format!("payment {number}"), format!("payment {number}")));
        assert_eq!(again.word().as_deref(), Some("replayed"));
    }
}
