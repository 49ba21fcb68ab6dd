//! `onceway probe`: whether a gateway is well.

use super::{typed, typed_with};
use crate::harness::certificates::Authority;
use crate::harness::{GatewayPlan, Unlistened, Upstream, until};

#[test]
fn a_gateway_that_is_well_says_so_and_one_that_is_not_there_does_not() {
    let gateway = GatewayPlan::before(&Upstream::of_payments()).start();
    let url = format!("http://{}", gateway.admin_addr());
    for (path, told) in [("/readyz", "ready\n"), ("/livez", "alive\n")] {
        let ended = typed(&["probe", "--admin", &url, "--path", path]);
        assert_eq!((ended.code, &*ended.out, &*ended.err), (Some(0), told, ""));
    }
    drop(gateway);
    let ended = typed_with(&["probe"], &[("ONCEWAY_ADMIN", &url)], "");
    assert_eq!((ended.code, &*ended.out), (Some(1), ""));
    assert!(ended.err.starts_with("onceway failed to ask the gateway: "), "{ended:?}");
}

#[test]
fn a_gateway_that_is_cut_off_from_its_store_is_not_well() {
    let nobody = Unlistened::port();
    let gateway = GatewayPlan::before(&Upstream::of_payments())
        .store(&nobody.url().replace("http://", "redis://"))
        .launch();
    let ended = typed(&["probe", "--admin", &format!("http://{}", gateway.admin_addr())]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.starts_with("onceway failed to find the gateway well: it says \""), "{ended:?}");
}

#[test]
fn over_tls_the_gateway_must_show_the_certificate_of_its_file() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::of_payments());
    let gateway = GatewayPlan::before(&upstream).admin(&authority.listener_lines()).launch();
    let address = gateway.admin_addr();
    let file = authority.file("onceway.toml");
    let lines = authority.listener_lines();
    let text = format!(
        "[admin]\nlisten = \"{address}\"\n{lines}\n[upstreams.default]\nurl = \"{}\"\n",
        upstream.url()
    );
    std::fs::write(&file, text).unwrap();
    let probe = || typed(&["probe", "--config", file.to_str().unwrap()]);
    until("it is well", || probe().code == Some(0));
    authority.renew("localhost");
    let ended = probe();
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn what_makes_no_question_ends_with_2() {
    for arguments in [
        &["probe", "--path", "readyz"][..],
        &["probe", "--path", "/x"],
        &["probe", "--admin", "nowhere"],
        &["probe", "--config", "no/such.toml"],
    ] {
        assert_eq!(typed(arguments).code, Some(2), "{arguments:?}");
    }
}
