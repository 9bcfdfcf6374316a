//! A Prometheus in a pod outside the mesh: what it scrapes, and what it answers.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use weir_testbed::{Process, Topology, http_get};
use weir_tests::{PATIENCE, own};

/// The pod it runs in.
pub(crate) const POD: &str = "prometheus";
/// The port it answers at.
pub(crate) const PORT: u16 = 9090;

/// Something to scrape: its job, the labels that discovery gives it in a cluster, where it serves.
pub(crate) struct Target {
    pub(crate) job: &'static str,
    pub(crate) labels: Value,
    pub(crate) at: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Process,
}

/// The files that are shipped.
pub(crate) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

impl Prometheus {
    /// Scrapes every second, and looks every second whether an alert is due, without the shipped rules' patience.
    pub(crate) fn start(topology: &Topology, targets: &[Target]) -> anyhow::Result<Self> {
        let dir = topology.work_dir().join("prometheus");
        fs::create_dir_all(&dir)?;
        let rules = fs::read_to_string(deploy().join("prometheus/alerts.yaml"))?;
        let hurried: Vec<&str> = rules
            .lines()
            .map(|line| if line.trim_start().starts_with("for: ") { "    for: 2s" } else { line })
            .collect();
        fs::write(dir.join("alerts.yaml"), hurried.join("\n") + "\n")?;
        let jobs: Vec<Value> = targets
            .iter()
            .enumerate()
            .map(|(number, target)| {
                json!({
                    // A name is taken once; what series are called is the label.
                    "job_name": number.to_string(),
                    "static_configs": [{ "targets": [target.at.to_string()], "labels": target.labels }],
                    "relabel_configs": [{ "target_label": "job", "replacement": target.job }],
                })
            })
            .collect();
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": ["alerts.yaml"],
            "scrape_configs": jobs,
        });
        // JSON is YAML.
        fs::write(dir.join("prometheus.yaml"), config.to_string())?;
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", dir.join("prometheus.yaml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("series").display()));
        command.arg(format!("--web.listen-address=[::]:{PORT}")).env("GOMAXPROCS", "1");
        let mut process =
            topology.start_in_pod(POD, command).context("prometheus, of the Debian package prometheus")?;
        process.wait_ready(own(PORT), "/-/ready", PATIENCE)?;
        Ok(Self { process })
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// What an API answers under `data`.
    pub(crate) fn api(&self, topology: &Topology, path: &str) -> anyhow::Result<Value> {
        let answer = http_get(topology.pod(POD).netns(), own(PORT), &format!("/api/v1/{path}"))?;
        let mut value: Value = serde_json::from_str(&answer.body).with_context(|| format!("{path}: {answer:?}"))?;
        ensure!(value["status"] == "success", "{path}: {value}");
        Ok(value["data"].take())
    }

    /// The series that an expression has now.
    pub(crate) fn query(&self, topology: &Topology, expr: &str) -> anyhow::Result<Vec<Value>> {
        let mut data = self.api(topology, &format!("query?query={}", percent_encoded(expr)))?;
        ensure!(data["resultType"] == "vector", "{expr} is a {}", data["resultType"]);
        serde_json::from_value(data["result"].take()).context("a vector is a list")
    }

    /// The values of a label among the series that a selector finds.
    pub(crate) fn values(&self, topology: &Topology, selector: &str, label: &str) -> anyhow::Result<Vec<String>> {
        let data = self.api(topology, &format!("label/{label}/values?match[]={}", percent_encoded(selector)))?;
        serde_json::from_value(data).context("values are a list")
    }

    /// Every rule, with the alerts it has raised.
    pub(crate) fn rules(&self, topology: &Topology) -> anyhow::Result<Vec<Value>> {
        let mut data = self.api(topology, "rules?type=alert")?;
        serde_json::from_value(data["groups"][0]["rules"].take()).context("rules are a list")
    }
}

/// RFC 3986 §2.1, everything but what is never reserved.
fn percent_encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}
