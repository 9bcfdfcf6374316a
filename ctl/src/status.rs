//! `weirctl status`: the mesh at a glance, problems first.

mod pods;
mod programs;

use std::time::SystemTime;

use anyhow::Result;
use serde_json::{Value, json};
use weir_explain::Scene;
use weir_model::Tunnel;

pub(crate) use self::pods::{misspelt, wanted};

use self::pods::Pods;
use crate::{
    cli::{Format, Look},
    out::{Cell, Out, Table, Tone, at, list, number},
    place::{Answered, Live},
    scene::Manifests,
    version::OWN,
};

/// Problems that are listed; of more, how many there are.
const LISTED: usize = 50;

/// What is wrong, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) with: String,
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) next: String,
}

impl Problem {
    pub(crate) fn new(with: impl Into<String>, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { with: with.into(), what: what.into(), next: next.into() }
    }
}

/// The mesh at a glance.
#[derive(Default)]
struct Glance {
    problems: Vec<Problem>,
    /// How many there are; more than are kept.
    found: usize,
    programs: Vec<Vec<Cell>>,
    values: Vec<Value>,
    counts: Vec<(&'static str, String)>,
}

impl Glance {
    fn problem(&mut self, problem: Problem) {
        self.found += 1;
        if self.problems.len() < LISTED {
            self.problems.push(problem);
        }
    }

    fn count(&mut self, what: &'static str, text: impl Into<String>) {
        self.counts.push((what, text.into()));
    }
}

/// Prints it. Ends with 1 where there are problems.
///
/// # Errors
/// If nothing of the mesh is there.
pub(crate) async fn run(look: &Look, out: &mut Out<'_>) -> Result<u8> {
    let mut glance = Glance::default();
    match &look.place.mesh.manifests {
        Some(_) => of_folder(&look.place.folder()?, &mut glance),
        None => of_live(look.place.everybody().await?, &mut glance).await?,
    }
    print(&glance, out)?;
    Ok(u8::from(glance.found > 0))
}

fn of_folder(folder: &Manifests, glance: &mut Glance) {
    let world = folder.world();
    let enrolled = world.workloads().filter(|workload| workload.tunnel == Tunnel::Hbone).count();
    glance.count("workloads", format!("{} ({enrolled} in the mesh)", world.len()));
    glance.count("services", world.services().len().to_string());
    glance.count("policies", world.policies().count().to_string());
    for status in folder.statuses().iter().filter(|status| !status.is_as_written()) {
        let (with, what) = status
            .to_string()
            .split_once(": ")
            .map_or_else(|| (status.to_string(), String::new()), |(with, what)| (with.to_owned(), what.to_owned()));
        glance.problem(Problem::new(
            with,
            format!("not enforced as it was written: {what}"),
            "change it so that all of it can be enforced, or give it a waypoint",
        ));
    }
    for lacking in folder.unbound() {
        glance.problem(lacking);
    }
}

async fn of_live(live: Live, glance: &mut Glance) -> Result<()> {
    let cluster = live.cluster.clone();
    let mut all = live.all().await;
    if all.iter().all(|one| one.summary.is_err()) && cluster.is_none() {
        // Nobody answers: the first says why.
        let first = all.swap_remove(0);
        first.summary?;
    }
    let now = SystemTime::now();
    for one in &all {
        programs::look(one, now, glance).await;
    }
    if all.iter().all(|one| one.component() != "weir-control") && cluster.is_some() {
        glance.problem(Problem::new(
            "weir-control",
            "is not there: nothing that changes is told to agents",
            "weirctl install, or look at its Deployment",
        ));
    }
    let agents: Vec<&Answered> = all.iter().filter(|one| one.component() == "weir-agent").collect();
    let mut pods = Pods::default();
    match &cluster {
        Some(cluster) => {
            pods::of_cluster(cluster, &agents, &mut pods, glance).await?;
            pods::waypoints(cluster, glance).await?;
        }
        None => agents.iter().for_each(|agent| pods.of_agent(agent)),
    }
    if !agents.is_empty() || cluster.is_some() {
        glance.count("pods", pods.to_string());
    }
    Ok(())
}

fn print(glance: &Glance, out: &mut Out<'_>) -> Result<()> {
    match out.format {
        Format::Table => {
            match glance.found {
                0 => out.toned("no problems", Tone::Good)?,
                1 => out.toned("1 problem", Tone::Bad)?,
                found => out.toned(&format!("{found} problems"), Tone::Bad)?,
            }
            for problem in &glance.problems {
                out.toned(&format!("  {}: {}", problem.with, problem.what), Tone::Bad)?;
                out.line(&format!("    {}", crate::out::shown(&problem.next)))?;
            }
            let more = glance.found - glance.problems.len();
            if more > 0 {
                out.line(&format!("  and {more} more"))?;
            }
            for (what, text) in &glance.counts {
                out.line(&format!("{what:<9} {text}"))?;
            }
            if !glance.programs.is_empty() {
                out.line("")?;
                Table::new(&["COMPONENT", "NAME", "VERSION", "CONFIG", "PODS", "STATE"]).rows(out, &glance.programs)?;
            }
            Ok(())
        }
        Format::Json | Format::Yaml => {
            let problem = |one: &Problem| json!({ "with": one.with, "what": one.what, "next": one.next });
            let counts: serde_json::Map<_, _> =
                glance.counts.iter().map(|(what, text)| ((*what).to_owned(), Value::from(text.as_str()))).collect();
            out.value(&json!({
                "problems": glance.problems.iter().map(problem).collect::<Vec<_>>(),
                "found": glance.found,
                "counts": counts,
                "programs": glance.values,
            }))
        }
    }
}

/// The row of a program, and its value.
fn row(one: &Answered, summary: &Value, state: Cell) -> (Vec<Cell>, Value) {
    let version = at(summary, "/version");
    let generation = number(summary, "/config/generation");
    let pods = match list(summary, "/pods") {
        [] => "-".to_owned(),
        pods => {
            let caught = pods.iter().filter(|pod| at(pod, "/state") == "Enrolled").count();
            format!("{caught}/{}", pods.len())
        }
    };
    let tone = if version == OWN { Tone::Plain } else { Tone::Bad };
    let cells = vec![
        one.component().into(),
        one.name().into(),
        Cell::new(version, tone),
        generation.to_string().into(),
        pods.into(),
        state,
    ];
    (cells, summary.clone())
}
