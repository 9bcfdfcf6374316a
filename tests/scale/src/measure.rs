//! The run: one figure after the other, on one control plane.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use weir_xds::Mode;

use crate::{
    Output, certificates,
    cluster::Shape,
    control::Control,
    hold::{self, Held},
    push::{Crowd, nobody_left},
    report::{Method, Report},
    source::Source,
    subscriber::{Known, Subscriber},
};

/// How long certificates are asked for.
const ASKING: Duration = Duration::from_secs(5);
/// What counts resources that were sent.
const SENT: &str = "weir_xds_resources_sent_total";

#[derive(clap::Args)]
pub(crate) struct Measure {
    /// The control plane's program.
    #[arg(long)]
    control: PathBuf,
    #[command(flatten)]
    shape: Shape,
    /// Agents that take everything.
    #[arg(long, default_value_t = 1000)]
    subscribers: u32,
    /// Pods that change in a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// How long they do.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

impl Measure {
    /// Measures, and prints the report.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let began = Instant::now();
        let say = |step: &str| eprintln!("{:>5.0} s  {step}", began.elapsed().as_secs_f64());
        let dir = tempfile::tempdir()?;
        say("a cluster is made up");
        let source = Source::start(self.shape, dir.path()).await?;
        say("weir-control reads it");
        let start = Instant::now();
        let mut control = Control::start(&self.control, source.kubeconfig(), self.shape.nodes, dir.path())?;
        control.wait_ready().await?;
        let load = Load {
            took: start.elapsed(),
            cpu: control.cpu()?,
            rss_mib: control.mib("VmRSS")?,
            peak_mib: control.mib("VmHWM")?,
        };
        let measured = self.with_agents(&control, &source, load, &say).await;
        let report = measured.with_context(|| format!("weir-control wrote last:\n{}", control.log()))?;
        match self.output {
            Output::Json => println!("{}", serde_json::to_string(&report)?),
            Output::Text => println!("\n{report}"),
        }
        Ok(())
    }

    async fn with_agents(
        &self,
        control: &Control,
        source: &Source,
        load: Load,
        say: &impl Fn(&str),
    ) -> anyhow::Result<Report> {
        let shape = self.shape;
        say("agents that hold all of it, and what they need");
        let on_demand = hold::in_a_process(control.called(0), Mode::OnDemand).await?;
        let wildcard = hold::in_a_process(control.called(0), Mode::Wildcard).await?;
        ensure!(wildcard.workloads >= shape.pods, "{} workloads for {} pods", wildcard.workloads, shape.pods);
        say("subscribers connect");
        let known = everything(control).await?;
        let changes = usize::try_from(self.rate * self.seconds)?;
        let crowd = Crowd::connect(control, self.subscribers, shape.nodes, &known, changes).await?;
        let control_subscribed_mib = control.mib("VmRSS")?;
        say("pods change");
        let pushed = crowd.push(control, source, shape.pods, self.rate).await?;
        say("subscribers come again");
        nobody_left(control).await?;
        let (reconnect, reconnect_resources) = self.reconnect(control).await?;
        say("agents want certificates");
        let certificates = certificates::ask(control, shape, ASKING).await?;
        Ok(Report {
            method: self.method(source),
            load_s: load.took.as_secs_f64(),
            load_cpu_s: load.cpu.as_secs_f64(),
            control_rss_mib: load.rss_mib,
            control_peak_mib: load.peak_mib,
            control_subscribed_mib,
            agent_bytes_per_workload: bytes_per_workload(on_demand, wildcard),
            agent_load_s: wildcard.seconds,
            agent_on_demand_workloads: on_demand.workloads,
            agent_on_demand_kib: on_demand.after_kib.saturating_sub(on_demand.before_kib),
            push_p50_ms: ms(pushed.p50),
            push_p99_ms: ms(pushed.p99),
            push_max_ms: ms(pushed.most),
            push_cpu_cores: pushed.control_cores,
            push_load_cores: pushed.own_cores,
            push_other_cores: pushed.other_cores,
            reconnect_resources,
            reconnect_s: reconnect.as_secs_f64(),
            certs_per_s: certificates.per_core,
            certs_per_s_wall: certificates.per_second,
        })
    }

    /// Everybody comes again and says what it has, which is all there is: how long that takes, and what is sent.
    async fn reconnect(&self, control: &Control) -> anyhow::Result<(Duration, usize)> {
        let known = everything(control).await?;
        let before = control.metric(SENT).await?;
        let start = Instant::now();
        let crowd = Crowd::connect(control, self.subscribers, self.shape.nodes, &known, 0).await?;
        let (took, resources) = (start.elapsed(), crowd.resources);
        let sent = control.metric(SENT).await? - before;
        let alike = u32::try_from(resources).is_ok_and(|came| (f64::from(came) - sent).abs() < 0.5);
        ensure!(alike, "{resources} resources came, and {sent} were sent by the control plane's own count");
        crowd.leave().await?;
        Ok((took, resources))
    }

    fn method(&self, source: &Source) -> Method {
        Method {
            pods: self.shape.pods,
            services: self.shape.services,
            policies: self.shape.policies,
            nodes: self.shape.nodes,
            pod_bytes: source.pod_bytes(),
            subscribers: self.subscribers,
            changes_per_s: self.rate,
            seconds: self.seconds,
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        }
    }
}

/// What it takes to know the cluster.
struct Load {
    took: Duration,
    cpu: Duration,
    rss_mib: f64,
    peak_mib: f64,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What everything takes beyond what is needed, for each workload of it.
fn bytes_per_workload(on_demand: Held, wildcard: Held) -> f64 {
    let more = f64::from(wildcard.after_kib) - f64::from(on_demand.after_kib);
    more * 1024.0 / (f64::from(wildcard.workloads) - f64::from(on_demand.workloads)).max(1.0)
}

/// Takes the whole mesh once, for the sum of it.
async fn everything(control: &Control) -> anyhow::Result<Known> {
    let mut subscriber = Subscriber::open(&control.dial(0)?, &control.called(0).node, &Known::default()).await?;
    Ok(subscriber.first_answers().await?.known)
}
