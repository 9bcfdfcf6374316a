//! `cargo xtask demo`.

mod behind;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use weir_testbed::demo::Demo as Running;

use crate::cargo::build;
use crate::interrupt::Interrupt;
use crate::{Output, root};

/// What it runs.
const PROGRAMS: [&str; 4] = ["weir-agent", "weir-waypoint", "weir-testbed", "weirctl"];

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Demo {
    #[command(subcommand)]
    of_running: Option<OfRunning>,
    /// Leave it running until Ctrl-C, with commands to try.
    #[arg(long)]
    keep: bool,
    /// Leave it running, and return: `demo in` looks at it, `demo stop` ends it.
    #[arg(long, conflicts_with_all = ["keep", "output"])]
    detach: bool,
    /// What `--detach` starts.
    #[arg(long, hide = true, conflicts_with_all = ["keep", "detach"])]
    behind: bool,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// What is done with a demo that was left running.
#[derive(clap::Subcommand)]
enum OfRunning {
    /// Run a command in a pod or on a node: client, todoui-0-1, waypoint, node1 and so on.
    In {
        /// Where.
        place: String,
        /// The command and its arguments. The programs of Weir are found by their names.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// End it, and wait until all of it is gone.
    Stop,
}

impl Demo {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        if let Some(of_running) = &self.of_running {
            return of_running.run();
        }
        if self.detach
            && let Some(built) = root::already_built()
        {
            behind::start(&built)?;
            return Ok(ExitCode::SUCCESS);
        }
        self.run_here().map(|()| ExitCode::SUCCESS)
    }

    fn run_here(&self) -> anyhow::Result<()> {
        if let Some(built) = root::already_built() {
            return self.show(&built);
        }
        if !root::is_root() {
            root::sudo()?;
        }
        eprintln!("building (the first time takes some minutes)");
        let [agent, ..] = build(PROGRAMS, "dev")?;
        let built = agent.parent().context("a program is in a folder")?;
        if root::is_root() {
            return if self.detach { behind::start(built) } else { self.show(built) };
        }
        let status = root::run_again_as_root(built)?;
        ensure!(status.success(), "the part as root ended with {status}");
        Ok(())
    }

    fn show(&self, built: &Path) -> anyhow::Result<()> {
        let [agent, waypoint, bed, _] = PROGRAMS.map(|name| built.join(name));
        let interrupt = Interrupt::catch()?;
        for leftover in weir_testbed::sweep()? {
            eprintln!("removed a leftover of a killed run: {}", leftover.display());
        }
        let start = Instant::now();
        let mut say = |step: &str| {
            eprintln!("{:>5.1} s  {step}", start.elapsed().as_secs_f64());
            interrupt.check()
        };
        let mut demo = Running::start(&agent, &bed, &mut say)?;
        let report = demo.show(&bed, &waypoint, &mut say)?;
        match self.output {
            Output::Json => println!("{}", serde_json::to_string(&report)?),
            // Whoever started it prints the report.
            Output::Text if self.behind => {}
            Output::Text => println!("\n{report}"),
        }
        interrupt.check()?;
        if self.behind {
            behind::announce(&demo, &report, built)?;
            interrupt.wait()?;
        }
        if self.keep {
            eprintln!("{}", things_to_try(&demo, &agent, &bed));
            interrupt.wait()?;
        }
        demo.stop()?;
        eprintln!("all of it is gone again");
        if self.behind {
            behind::clear(&behind::own_folder())?;
        }
        let faults = report.faults();
        if faults.is_empty() { Ok(()) } else { bail!("not as it must be: {}", faults.join("; ")) }
    }
}

impl OfRunning {
    fn run(&self) -> anyhow::Result<ExitCode> {
        if !root::is_root() {
            let own = std::env::current_exe().context("the path of this program")?;
            let status = root::run_again_as_root(own.parent().context("a program is in a folder")?)?;
            return Ok(status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .map_or(ExitCode::FAILURE, ExitCode::from));
        }
        match self {
            Self::In { place, command } => behind::run_in(place, command),
            Self::Stop => behind::stop().map(|()| ExitCode::SUCCESS),
        }
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
