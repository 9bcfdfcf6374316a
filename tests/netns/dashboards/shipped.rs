//! The files for Prometheus, by the tool that comes with it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::prometheus::deploy;

fn promtool(arguments: &[&str], dir: &Path) {
    let output = Command::new("promtool").args(arguments).current_dir(dir).output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn promtool_takes_the_rules_and_each_alert_fires_and_is_quiet_as_it_must() {
    let dir = deploy().join("prometheus");
    promtool(&["check", "rules", "alerts.yaml"], &dir);
    promtool(&["test", "rules", "alerts.test.yaml"], &dir);
}

#[test]
fn promtool_takes_the_scrape_configuration() {
    let text = fs::read_to_string(deploy().join("prometheus/scrape.yaml")).unwrap();
    // Debian's is built without Kubernetes: everything but how pods are found is checked.
    let discovery = "kubernetes_sd_configs: [{role: pod}]";
    assert_eq!(text.matches(discovery).count(), 3);
    let dir = std::env::temp_dir().join(format!("weir-scrape-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("scrape.yaml"), text.replace(discovery, "static_configs: [{targets: ['pod:15020']}]")).unwrap();
    fs::copy(deploy().join("prometheus/alerts.yaml"), dir.join("alerts.yaml")).unwrap();
    promtool(&["check", "config", "scrape.yaml"], &dir);
    fs::remove_dir_all(dir).unwrap();
}
