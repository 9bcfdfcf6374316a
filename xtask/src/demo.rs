//! `cargo xtask demo`.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use weir_testbed::demo::Demo as Running;

use crate::cargo::build;
use crate::interrupt::Interrupt;
use crate::{Output, root};

/// What it runs.
const PROGRAMS: [&str; 3] = ["weir-agent", "weir-waypoint", "weir-testbed"];

#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Leave it running until Ctrl-C, with commands to try.
    #[arg(long)]
    keep: bool,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

impl Demo {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if let Some(built) = root::already_built() {
            let [agent, waypoint, bed] = PROGRAMS.map(|name| built.join(name));
            return self.show(&agent, &waypoint, &bed);
        }
        if !root::is_root() {
            root::sudo()?;
        }
        eprintln!("building (the first time takes some minutes)");
        let [agent, waypoint, bed] = build(PROGRAMS, "dev")?;
        if root::is_root() {
            return self.show(&agent, &waypoint, &bed);
        }
        let status = root::run_again_as_root(agent.parent().context("a program is in a folder")?)?;
        ensure!(status.success(), "the part as root ended with {status}");
        Ok(())
    }

    fn show(&self, agent: &Path, waypoint: &Path, bed: &Path) -> anyhow::Result<()> {
        let interrupt = Interrupt::catch()?;
        for leftover in weir_testbed::sweep()? {
            eprintln!("removed a leftover of a killed run: {}", leftover.display());
        }
        let start = Instant::now();
        let mut say = |step: &str| {
            eprintln!("{:>5.1} s  {step}", start.elapsed().as_secs_f64());
            interrupt.check()
        };
        let mut demo = Running::start(agent, bed, &mut say)?;
        let report = demo.show(bed, waypoint, &mut say)?;
        match self.output {
            Output::Json => println!("{}", serde_json::to_string(&report)?),
            Output::Text => println!("\n{report}"),
        }
        interrupt.check()?;
        if self.keep {
            eprintln!("{}", things_to_try(&demo, agent, bed));
            interrupt.wait()?;
        }
        demo.stop()?;
        eprintln!("all of it is gone again");
        let faults = report.faults();
        if faults.is_empty() { Ok(()) } else { bail!("not as it must be: {}", faults.join("; ")) }
    }
}

fn things_to_try(demo: &Running, agent: &Path, bed: &Path) -> String {
    let topology = demo.topology();
    let get = |netns: &Path, what: &str| format!("nsenter --net={} {} get --to {what}", netns.display(), bed.display());
    let (client, node) = (topology.pod("client").netns_path(), topology.nodes()[0].netns_path());
    let [backend, _] = topology.cluster_ips("todobackend");
    let [_, ui] = topology.cluster_ips("todoui");
    let commands = [
        get(client, &format!("{backend}:8080")),
        get(client, &format!("[{ui}]:8090")),
        get(node, "[::1]:15020 --path /metrics"),
        get(node, "127.0.0.1:15000 --path /config_dump"),
        format!("tail -f {}/node2-{}.log", topology.work_dir().join("logs").display(), name_of(agent)),
        format!("$EDITOR {}/topology.yaml", topology.manifests_dir().display()),
    ];
    format!("to try, as root, in another terminal:\n  {}\nCtrl-C takes it all away", commands.join("\n  "))
}

fn name_of(program: &Path) -> String {
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
