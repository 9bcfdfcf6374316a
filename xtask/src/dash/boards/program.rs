//! What the boards of agents and of waypoints ask alike: of a process, and of what it is told by the control plane.

use super::super::model::{Panel, Row, Unit};
use super::super::promql::RANGE;

/// A program that follows the control plane.
pub(super) struct Program {
    /// Which series are of those that are looked at.
    pub(super) selector: &'static str,
    /// The label that tells one from another.
    pub(super) one: &'static str,
    /// What its build calls it.
    pub(super) component: &'static str,
    /// The panel of its versions, and what that is about.
    pub(super) versions: (&'static str, &'static str),
    /// What the panel of its memory is about.
    pub(super) memory: &'static str,
}

impl Program {
    /// A number that each has.
    pub(super) fn gauge(&self, metric: &str) -> String {
        format!("{metric}{{{}}}", self.selector)
    }

    /// How far a counter of each has grown.
    pub(super) fn growth(&self, metric: &str) -> String {
        format!("increase({}[{RANGE}])", self.gauge(metric))
    }

    /// How far a number of each has moved.
    pub(super) fn change(&self, metric: &str) -> String {
        format!("delta({}[{RANGE}])", self.gauge(metric))
    }

    /// Its versions, and what it takes of a node.
    pub(super) fn process(&self) -> Row {
        let (each, component) = (format!("{{{{{}}}}}", self.one), self.component);
        let (versions, of_versions) = self.versions;
        let cpu = format!("rate({}[{RANGE}])", self.gauge("process_cpu_seconds_total"));
        Row::new(
            "Process",
            [
                Panel::lines(versions, Unit::Count, of_versions)
                    .ask("{{tag}}", format!("sum by (tag) (istio_build{{component=\"{component}\"}})")),
                Panel::lines("Memory Usage", Unit::Bytes, self.memory)
                    .ask(each.clone(), self.gauge("process_resident_memory_bytes")),
                Panel::lines("CPU Usage", Unit::Count, "Cores in use.").ask(each.clone(), cpu),
                Panel::lines("Open Descriptors", Unit::Count, "Two for each connection under way, and some.")
                    .ask(each, self.gauge("process_open_fds")),
            ],
        )
    }

    /// Whether it hears the control plane.
    pub(super) fn xds(&self) -> Panel {
        let about = "1 while the control plane is connected; and how often that ended.";
        Panel::lines("XDS Connections", Unit::Count, about)
            .ask(format!("connected ({{{{{}}}}})", self.one), self.gauge("weir_control_connected"))
            .ask(format!("ended ({{{{{}}}}})", self.one), self.growth("istio_xds_connection_terminations_total"))
    }
}
