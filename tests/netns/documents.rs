//! What documents say to type is typed: commands that need no cluster, and the way of five minutes. What they say is printed is what is printed.

use std::{
    collections::BTreeMap,
    env,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use weir_documents::{Block, Mark, blocks, documents, matches, root, sections};
use weir_testbed::binary;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The way of five minutes has no more commands than this.
const MOST: usize = 6;

/// Runs a line of a shell in the root of the repository, with the programs that are built in the PATH: all it printed, and what it ended with.
fn run(line: &str, built: &Path) -> anyhow::Result<(String, i32)> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let paths = env::join_paths([built.to_owned()].into_iter().chain(env::split_paths(&paths)))?;
    let mut command = Command::new("sh");
    command.arg("-ec").arg(format!("exec 2>&1\n{line}")).current_dir(root()).env("PATH", paths);
    // What is built is used as it is; nobody is to build it again with other features.
    command.env("WEIR_XTASK_BUILT", built).env("RUST_BACKTRACE", "0").env("NO_COLOR", "1");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("piped")?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            bail!("{line} still ran after {PATIENCE:?}");
        }
        thread::sleep(LOOK_AGAIN);
    };
    let printed = reader.join().ok().context("it only reads")??;
    Ok((printed, status.code().context("ended by a signal")?))
}

/// Runs a block, and holds what it prints and ends with against what stands there.
fn holds(block: &Block, ends_with: i32, built: &Path) -> anyhow::Result<()> {
    let (printed, ended) = run(&block.commands, built).with_context(|| block.place())?;
    ensure!(ended == ends_with, "{}: ended with {ended}, not {ends_with}:\n{printed}", block.place());
    let says = block.prints.as_deref().with_context(|| format!("{}: no `text` block follows", block.place()))?;
    matches(says, &printed).map_err(|why| anyhow::anyhow!("{}: {why}", block.place()))
}

fn built() -> anyhow::Result<std::path::PathBuf> {
    let agent = binary("weir-agent")?;
    Ok(agent.parent().context("a program is in a folder")?.to_owned())
}

#[test]
fn commands_without_a_cluster_print_what_documents_say() -> anyhow::Result<()> {
    let built = built()?;
    binary("weirctl")?;
    let (mut ran, mut faults) = (0, Vec::new());
    for (file, text) in documents()? {
        for block in blocks(&file, &text).0 {
            if let Mark::Run { ends_with } = block.mark {
                ran += 1;
                faults.extend(holds(&block, ends_with, &built).err().map(|error| format!("{error:#}")));
            }
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n\n"));
    ensure!(ran > 0, "no document has a command that is run");
    Ok(())
}

/// Types and labels of metrics as docs/reference/metrics.md has them for a program.
fn reference(program: &str) -> anyhow::Result<BTreeMap<String, (String, String)>> {
    let text = std::fs::read_to_string(root().join("docs/reference/metrics.md"))?;
    let section = sections(&text).into_iter().find(|section| section.title == program).context("a section")?;
    let rows = section.rows("metric").into_iter().map(|cells| match cells.as_slice() {
        [name, kind, labels, ..] => Ok((name.clone(), (kind.clone(), labels.replace('`', "")))),
        _ => bail!("{cells:?}"),
    });
    rows.collect()
}

/// Holds what a program that has work to do serves as metrics against the reference: names, types, labels.
fn metrics_are_as_the_reference_says(place: &str, program: &str, built: &Path) -> anyhow::Result<()> {
    let (text, ended) =
        run(&format!("cargo xtask demo in {place} weir-testbed get --to [::1]:15020 --path /metrics"), built)?;
    ensure!(ended == 0, "{text}");
    let reference = reference(program)?;
    let mut named = 0;
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (want, _) =
                reference.get(name).with_context(|| format!("{program}: {name} is not in the reference"))?;
            ensure!(kind == want, "{program}: {name} is a {kind}, the reference says {want}");
            named += 1;
            continue;
        }
        let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) else { continue };
        let labels: Vec<&str> = labels_of(rest).into_iter().filter(|label| *label != "le").collect();
        match reference.get(name) {
            Some((_, want)) if !want.starts_with("those of ") => {
                ensure!(labels.join(", ") == *want, "{program}: {name} has {labels:?}, the reference says {want:?}");
            }
            // Of histograms the series have other names; of others the labels are documented elsewhere.
            Some(_) | None => {}
        }
    }
    ensure!(named > 10, "{program} serves {named} metrics:\n{text}");
    Ok(())
}

/// The names of labels in what stands behind the opening brace of a series.
fn labels_of(series: &str) -> Vec<&str> {
    series.split("=\"").filter_map(|part| part.rsplit(['{', ',']).next()).filter(|name| !name.contains('}')).collect()
}

#[test]
fn six_commands_lead_from_a_checkout_to_a_mesh_with_a_policy_a_split_and_a_number() -> anyhow::Result<()> {
    let built = built()?;
    for program in ["weirctl", "weir-waypoint", "weir-testbed"] {
        binary(program)?;
    }
    let text = std::fs::read_to_string(root().join("docs/getting-started.md"))?;
    let steps = blocks("docs/getting-started.md", &text).0;
    let steps = steps.iter().filter_map(|block| match block.mark {
        Mark::Demo { ends_with } => Some((block, ends_with)),
        Mark::Run { .. } | Mark::Cluster | Mark::Node | Mark::Repository => None,
    });
    let steps: Vec<(&Block, i32)> = steps.collect();
    let commands: usize = steps.iter().map(|(block, _)| block.lines().len()).sum();
    ensure!((1..=MOST).contains(&commands), "{commands} commands, where {MOST} are the most");
    let start = Instant::now();
    let mut failed = None;
    for (block, ends_with) in &steps {
        if failed.is_none() {
            failed = holds(block, *ends_with, &built).err();
            if failed.is_none() && block.commands.contains(" sum ") {
                let programs = [("node1", "weir-agent"), ("waypoint", "weir-waypoint")];
                let check = |(place, program)| metrics_are_as_the_reference_says(place, program, &built);
                failed = programs.into_iter().try_for_each(check).err();
            }
            eprintln!("{:>5.1} s  {}", start.elapsed().as_secs_f64(), block.commands.trim());
        }
    }
    if let Some(error) = failed {
        // Whatever was left running.
        run("cargo xtask demo stop", &built)?;
        return Err(error);
    }
    ensure!(!root().join("target/demo").exists(), "the last command leaves something behind");
    eprintln!("{commands} commands in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
