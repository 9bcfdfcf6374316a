//! `docs/dashboards.md`: what can be seen where, and how to get it.

use std::fmt::Write;

use super::model::{Choices, Dashboard};

const OPENING: &str = "# Dashboards

*Made by `cargo xtask dash gen` from `xtask/src/dash`; a test keeps it so.*

Six dashboards for Grafana 10.4 or newer lie in [deploy/dashboards](../deploy/dashboards). Their variables, rows, panels and units are those of Istio's dashboards, so that
habits carry over; what is Weir's own stands below. They ask for nothing but [metrics](metrics.md) of agents, waypoints and the control plane, and for
[labels](#labels-they-expect) that the scrape configuration here gives.

## Getting them

1. **Scrape.** [deploy/prometheus/scrape.yaml](../deploy/prometheus/scrape.yaml) for a Prometheus of your own, or [deploy/prometheus/monitors.yaml](../deploy/prometheus/monitors.yaml) for the
   Prometheus operator. `/metrics` is served at port 15020 of agents (on the node's own address) and waypoints, and at 15014 of `weir-control`: plain HTTP, for everybody who reaches the
   port, so a NetworkPolicy decides who does. The admin port, 15000, is the pod's own loopback and is never scraped.
2. **Alerts.** [deploy/prometheus/alerts.yaml](../deploy/prometheus/alerts.yaml), or [alerts-operator.yaml](../deploy/prometheus/alerts-operator.yaml) for the operator; what each one means is in
   [alerts.md](alerts.md).
3. **Import.** *Dashboards, New, Import* takes each file; the data source is chosen at the top of the page. For provisioning, put the files where Grafana's `dashboards` provider looks.

Istio's own dashboards show data, too: metrics and labels are Istio's. Through a waypoint they count with `reporter=\"waypoint\"`, connections with `source` and `destination`.
Only what asks for `container_*` (the kubelet's metrics), for `go_*` or for versions of `pilot`, `proxy` and `ztunnel` by name stays empty: here components are called `control`, `waypoint` and `agent`.

![Requests of a service, by response code](images/service-incoming-requests-by-source-and-response-code.png)
![Connections that agents refused, by reason](images/agent-refused-connections.png)

`cargo xtask dash render --prometheus http://HOST:9090` draws panels like these from the queries of the dashboards, as SVG, or with `--png` as PNG.

## Labels they expect

| label | of | what |
| --- | --- | --- |
| `job` | all | `weir-agent`, `weir-waypoint` or `weir-control` |
| `namespace`, `pod` | all | the pod that is scraped |
| `node` | agents | its node |
| `gateway` | waypoints | the Gateway it is a replica of |

All other labels are those of the metrics.
";

/// The page.
pub(super) fn dashboards(boards: &[Dashboard]) -> String {
    let mut text = OPENING.to_owned();
    for board in boards {
        section(&mut text, board).expect("a String takes all");
    }
    text
}

fn section(text: &mut String, board: &Dashboard) -> std::fmt::Result {
    let file = format!("deploy/dashboards/{}.json", board.file);
    writeln!(text, "\n## {}\n\n{} [{file}](../{file}), uid `{}`.\n", board.title, board.about, board.uid)?;
    if !board.variables.is_empty() {
        let names: Vec<String> = board
            .variables
            .iter()
            .map(|one| {
                let what = match &one.from {
                    Choices::One { .. } => "one",
                    Choices::Many { .. } => "any",
                    Choices::Fixed { words, .. } => &words.join(", "),
                };
                format!("`{}` ({}: {what})", one.name, one.label)
            })
            .collect();
        writeln!(text, "Variables: {}.\n", names.join(", "))?;
    }
    writeln!(text, "| row | panel | unit | shows |\n| --- | --- | --- | --- |")?;
    for (row, panel) in board.panels() {
        writeln!(text, "| {} | {} | {} | {} |", row.title, panel.title, panel.unit.id(), panel.about)?;
    }
    Ok(())
}
