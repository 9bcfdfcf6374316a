//! The second half of the demonstration: a waypoint before the sample's services, its own routes counted, and a policy about requests.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::report::{AuthzSeen, SplitSeen};
use super::{BACKEND_PORT, Demo, PATIENCE, UI_PORT};
use crate::Say;
use crate::manifests::NamespaceSpec;
use crate::tally::Tally;
use crate::topology::labels;
use crate::waypoint::Waypoint;

/// Who may do what with the backend.
const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: todobackend-for-the-ui
  namespace: default
spec:
  targetRefs:
  - {group: '', kind: Service, name: todobackend}
  action: ALLOW
  rules:
  - from:
    - source: {principals: [cluster.local/ns/default/sa/todoui]}
    to:
    - operation: {methods: [GET]}
";
/// The waypoint's name.
const NAME: &str = "waypoint";
/// Requests to each address of a service whose answers are split by weight.
const SPLIT_REQUESTS: u64 = 5_000;
/// Requests to each address of the backend, from each of who may and who may not.
const AUTHZ_REQUESTS: u64 = 50;

impl Demo {
    /// Puts a waypoint before all services of the namespace, and waits until both nodes' clients go through it.
    pub(super) fn put_waypoint(&mut self, program: &Path, say: Say<'_>) -> anyhow::Result<()> {
        say("putting a waypoint before the services")?;
        self.topology.add_waypoint(NAME, 1)?;
        self.waypoint = Some(Waypoint::start(&self.topology, program, NAME)?);
        let labels = labels([("istio.io/dataplane-mode", "ambient"), ("istio.io/use-waypoint", NAME)]);
        self.topology.set_namespace(NamespaceSpec { name: "default".into(), labels })?;
        let own = self.topology.pod(NAME).addresses().to_vec();
        for (service, port) in [("todobackend", BACKEND_PORT), ("todoui", UI_PORT)] {
            for ip in self.topology.cluster_ips(service) {
                self.until("the service is reached through the waypoint", || {
                    Ok(own.contains(&self.ask(service, ip, port)?.client.ip()))
                })?;
            }
        }
        Ok(())
    }

    /// The sample's own split of todoui, counted.
    pub(super) fn split(&self, say: Say<'_>) -> anyhow::Result<SplitSeen> {
        say("counting how the sample's VirtualService splits 10,000 requests")?;
        let netns = self.topology.pod("client").netns();
        let mut split = SplitSeen { requests: 0, v0_1: 0, v0_2: 0 };
        for ip in self.topology.cluster_ips("todoui") {
            let to = SocketAddr::new(ip, UI_PORT);
            let count = Tally { to, path: "/", requests: SPLIT_REQUESTS, field: "version" }.run(netns)?;
            split.requests += SPLIT_REQUESTS;
            split.v0_1 += count.get("0.1").copied().unwrap_or(0);
            split.v0_2 += count.get("0.2").copied().unwrap_or(0);
        }
        Ok(split)
    }

    /// Requests to the backend by the UI and by somebody else, under a policy that lets only the UI read.
    pub(super) fn authz(&self, say: Say<'_>) -> anyhow::Result<AuthzSeen> {
        say("letting nobody but the UI read the backend, and trying")?;
        self.topology.add_manifest("policy.yaml", POLICY)?;
        let backend = self.topology.cluster_ips("todobackend").map(|ip| SocketAddr::new(ip, BACKEND_PORT));
        let tally = |from: &str, to, requests| {
            Tally { to, path: "/", requests, field: "name" }.run(self.topology.pod(from).netns())
        };
        for to in backend {
            self.until("the policy is in force", || Ok(tally("client", to, 1)?.contains_key("403")))?;
        }
        let mut seen =
            AuthzSeen { allowed: 0, denied: 0, allowed_identity: String::new(), denied_identity: String::new() };
        for to in backend {
            let count =
                |from, answer| Ok::<_, anyhow::Error>(tally(from, to, AUTHZ_REQUESTS)?.remove(answer).unwrap_or(0));
            seen.allowed += count("todoui-0-1", "todobackend")?;
            seen.denied += count("client", "403")?;
        }
        seen.allowed_identity = self.asked_by("200")?;
        seen.denied_identity = self.asked_by("403")?;
        Ok(seen)
    }

    /// Whom the waypoint, by its metrics, answered so when he last asked for the backend under the policy.
    fn asked_by(&self, code: &str) -> anyhow::Result<String> {
        let waypoint = self.waypoint.as_ref().context("the waypoint was started")?;
        let text = waypoint.metrics()?;
        let of = |line: &&str| {
            line.starts_with("istio_requests_total{")
                && line.contains("destination_service_name=\"todobackend\"")
                && line.contains(&format!("response_code=\"{code}\""))
        };
        let principals = text.lines().filter(of).filter_map(|line| {
            let (_, after) = line.split_once("source_principal=\"")?;
            after.split_once('"').map(|(principal, _)| principal)
        });
        // The client asked before there was a policy, too.
        let mut principals: Vec<&str> =
            principals.filter(|one| code == "403" || !one.ends_with("/sa/client")).collect();
        principals.sort_unstable();
        principals.dedup();
        ensure!(principals.len() == 1, "{code} for {principals:?} in\n{text}");
        Ok(principals.concat())
    }

    fn until(&self, what: &str, mut met: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = match met() {
                Ok(true) => return Ok(()),
                Ok(false) => None,
                Err(error) => Some(error),
            };
            let log = || self.waypoint.as_ref().map(Waypoint::log).unwrap_or_default();
            ensure!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}: {last:?}\n{}", log());
            thread::sleep(super::LOOK_AGAIN);
        }
    }
}
