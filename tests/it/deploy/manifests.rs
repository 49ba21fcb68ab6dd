//! Manifests and units against the configurations in them.

use std::collections::BTreeSet;
use std::time::Duration;

use onceway::config::{self, Config};

use super::{expect_none, file};

const SIDECAR: &str = "deploy/kubernetes/sidecar.yaml";
const VALUES: &str = "deploy/helm/onceway/values.yaml";
const CHART: &str = "deploy/helm/onceway/Chart.yaml";
const UNIT: &str = "deploy/onceway.service";

/// The block of text behind `key: |` in a YAML file.
fn block(yaml: &str, key: &str) -> String {
    let mut lines = yaml.lines().skip_while(|line| line.trim_start() != format!("{key}: |"));
    let depth = |line: &str| line.len() - line.trim_start().len();
    let outer = depth(lines.next().unwrap_or_else(|| panic!("no block {key}")));
    let inside = lines.take_while(|line| line.is_empty() || depth(line) > outer);
    let text: Vec<_> = inside.map(|line| line.get(outer + 2..).unwrap_or_default()).collect();
    text.join("\n")
}

/// What stands behind `name` on its line, the first that begins so.
fn setting<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let found = found.unwrap_or_else(|| panic!("no line begins with {name}"));
    found.split('#').next().unwrap().trim().trim_matches('"')
}

fn parse(name: &str, text: &str) -> Config {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("hash-key"), "0123456789abcdef0123456789abcdef").unwrap();
    let text = text.replace("/etc/onceway/secrets", secrets.path().to_str().unwrap());
    let env = |variable: &str| (variable == "REDIS_PASSWORD").then(|| "hunter2".to_owned());
    config::parse(name, &text, &env).unwrap_or_else(|problems| panic!("{problems}"))
}

fn drain(config: &Config) -> Duration {
    config.server.stop_delay + config.server.drain_timeout
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.trim_end_matches('s').parse().unwrap())
}

#[test]
fn a_pod_beside_a_service_has_longer_to_end_than_its_drain_takes() {
    let yaml = file(SIDECAR);
    let config = parse(SIDECAR, &block(&yaml, "onceway.toml"));
    assert!(seconds(setting(&yaml, "terminationGracePeriodSeconds:")) > drain(&config));
    assert!(config.server.stop_delay > Duration::ZERO, "balancers are given time to notice");
}

#[test]
fn a_pod_of_the_chart_has_longer_to_end_than_its_drain_takes() {
    let yaml = file(VALUES);
    let config = parse(VALUES, &block(&yaml, "config"));
    assert!(seconds(setting(&yaml, "terminationGracePeriodSeconds:")) > drain(&config));
    assert!(config.server.stop_delay > Duration::ZERO, "balancers are given time to notice");
}

#[test]
fn the_unit_has_longer_to_end_than_the_drain_of_the_installed_configuration_takes() {
    let config = parse("onceway.toml", &file("deploy/debian/onceway.toml"));
    assert!(seconds(setting(&file(UNIT), "TimeoutStopSec=")) > drain(&config));
}

#[test]
fn the_container_has_longer_to_end_than_its_drain_takes() {
    let config = parse("compose.toml", &file("config/compose.toml"));
    assert!(seconds(setting(&file("docker-compose.yml"), "stop_grace_period:")) > drain(&config));
}

#[test]
fn pods_keep_their_records_where_other_pods_find_them() {
    for (path, key) in [(SIDECAR, "onceway.toml"), (VALUES, "config")] {
        let config = parse(path, &block(&file(path), key));
        assert!(
            matches!(config.store.url, config::StoreUrl::Redis(_) | config::StoreUrl::Postgres(_)),
            "{path}"
        );
    }
}

#[test]
fn chart_and_manifest_name_the_version_of_the_package() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(setting(&file(CHART), "appVersion:"), version);
    let images: BTreeSet<_> = file(SIDECAR)
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("image: ")?.to_owned()))
        .collect();
    assert_eq!(images, BTreeSet::from([format!("onceway:{version}")]));
}

#[test]
fn the_chart_brings_the_same_alerts_and_the_same_dashboard() {
    let pairs =
        [("files/alerts.yml", "prometheus/alerts.yml"), ("files/dashboard.json", "grafana/onceway.json")];
    let different = pairs.iter().filter(|(in_chart, original)| {
        file(&format!("deploy/helm/onceway/{in_chart}")) != file(&format!("deploy/{original}"))
    });
    expect_none("not the same file", different.map(|(in_chart, _)| in_chart));
}

#[test]
fn the_unit_runs_as_the_user_that_is_made_for_it() {
    let user = setting(&file(UNIT), "User=").to_owned();
    assert!(file("deploy/onceway.sysusers").contains(&format!("\nu {user} ")));
}

#[test]
fn every_container_is_locked_down_and_says_whether_it_is_well() {
    let compose = file("docker-compose.yml");
    let services = compose.split_once("\nservices:\n").unwrap().1.split_once("\nnetworks:\n").unwrap().0;
    let services: Vec<_> = services.split("\n\n").filter(|service| service.contains("image: ")).collect();
    assert_eq!(services.len(), 5);
    let lacking = services.into_iter().filter(|service| {
        let is_well = service.contains("healthcheck:") || service.contains("build: .");
        !service.contains("<<: *locked-down") || !is_well
    });
    expect_none("lacks x-locked-down or a healthcheck", lacking);
    for part in ["read_only: true", "cap_drop: [ALL]", "no-new-privileges:true"] {
        assert!(compose.split_once("\nservices:\n").unwrap().0.contains(part), "{part}");
    }
    assert!(
        file("Dockerfile").contains("\nHEALTHCHECK ") && file("Dockerfile").contains("\nUSER 10001:10001\n")
    );
}

#[test]
fn every_dependency_comes_from_crates_io_with_its_checksum() {
    const CRATES_IO: &str =
        "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"";
    let lock = file("Cargo.lock");
    let packages =
        lock.split("[[package]]\n").skip(1).filter(|package| !package.starts_with("name = \"onceway\"\n"));
    let strange = packages.filter(|package| !package.contains(CRATES_IO));
    expect_none("from elsewhere", strange.map(|package| package.lines().next().unwrap_or_default()));
}

#[test]
fn the_image_says_the_version_of_the_package() {
    let label = format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(file("Dockerfile").contains(&label));
}

#[test]
fn there_is_no_shell_in_the_image() {
    let dockerfile = file("Dockerfile");
    let (_, made) = dockerfile.split_once("AS image\n").unwrap();
    for program in ["bash", "/bin/sh", "busybox", "curl", "wget"] {
        assert!(!made.contains(program), "{program}");
    }
    let (_, last) = made.split_once("FROM scratch\n").unwrap();
    assert!(!last.contains("\nRUN ") && last.contains("CMD [\"onceway\", \"probe\""));
    for path in [SIDECAR, "docker-compose.yml"] {
        assert!(!file(path).contains("bash\""), "{path}");
    }
}
