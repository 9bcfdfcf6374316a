//! `cargo xtask dash`: dashboards and alerts, written down once as values.
//!
//! Out: Grafana's JSON in `deploy/dashboards`, Prometheus' rules and their unit tests in `deploy/prometheus`, the list in `docs/dashboards.md`;
//! and, asked of a running Prometheus, pictures of panels.

mod alerts;
mod boards;
mod grafana;
mod model;
mod pages;
mod picture;
mod promql;
mod render;
mod rules;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;

use crate::cargo::root;

#[derive(Subcommand)]
pub(crate) enum Dash {
    /// Write dashboards, alert rules and their documents anew.
    Gen,
    /// Draw panels from what a Prometheus knows.
    Render(render::Render),
}

impl Dash {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Gen => generate(&root()),
            Self::Render(render) => render.run(),
        }
    }
}

/// A file that is made of the values here.
#[derive(Debug, PartialEq, Eq)]
struct Generated {
    /// From the root of the repository.
    path: PathBuf,
    text: String,
}

/// Everything that is generated, in the order of its paths.
fn generated() -> Vec<Generated> {
    let boards = boards::all();
    let mut files: Vec<Generated> = boards
        .iter()
        .map(|board| Generated {
            path: Path::new("deploy/dashboards").join(format!("{}.json", board.file)),
            text: grafana::text(board),
        })
        .collect();
    let alerts = alerts::all();
    for (path, text) in [
        ("deploy/prometheus/alerts.yaml", rules::rules(&alerts)),
        ("deploy/prometheus/alerts-operator.yaml", rules::operator(&alerts)),
        ("deploy/prometheus/alerts.test.yaml", rules::tests(&alerts)),
        ("docs/dashboards.md", pages::dashboards(&boards)),
    ] {
        files.push(Generated { path: path.into(), text });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn generate(root: &Path) -> anyhow::Result<()> {
    for Generated { path, text } in generated() {
        let to = root.join(&path);
        fs::create_dir_all(to.parent().context("a generated file is in a folder")?)?;
        fs::write(&to, text).with_context(|| format!("write {}", to.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
