//! The dependency graph as plain indices: cargo's metadata in, shortest paths out.

use std::collections::{HashMap, VecDeque};

use anyhow::{Context, Result};

use crate::metadata::Metadata;

/// A package of the graph.
pub(super) struct Package {
    /// Its name.
    pub(super) name: String,
    /// Its folder relative to the root; `None` if it is not ours.
    pub(super) folder: Option<String>,
    /// Its normal dependencies, as positions in the graph.
    pub(super) uses: Vec<usize>,
}

/// Packages and their normal dependencies.
pub(super) struct Graph(Vec<Package>);

impl Graph {
    /// A graph of `packages`, whose `uses` are positions in it.
    #[cfg(test)]
    pub(super) fn new(packages: Vec<Package>) -> Self {
        Self(packages)
    }

    /// The graph cargo resolved.
    ///
    /// # Errors
    /// When a dependency is not among the packages.
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let position: HashMap<&str, usize> =
            metadata.packages.iter().enumerate().map(|(at, package)| (package.id.as_str(), at)).collect();
        let uses = metadata.normal_dependencies();
        let mut packages = Vec::with_capacity(metadata.packages.len());
        for package in &metadata.packages {
            let folder = metadata.workspace_members.contains(&package.id).then(|| {
                let manifest = metadata.relative(&package.manifest_path);
                manifest.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned()
            });
            let ids = uses.get(package.id.as_str()).map_or(&[][..], Vec::as_slice);
            let uses = ids
                .iter()
                .map(|id| position.get(id).copied().with_context(|| format!("cargo metadata lacks package {id}")))
                .collect::<Result<_>>()?;
            packages.push(Package { name: package.name.clone(), folder, uses });
        }
        Ok(Self(packages))
    }

    /// All packages, by position.
    pub(super) fn packages(&self) -> &[Package] {
        &self.0
    }

    /// A shortest path from `start` to every package it reaches, both ends included, nearest first.
    pub(super) fn paths_from(&self, start: usize) -> Vec<Vec<usize>> {
        let mut before: Vec<Option<usize>> = vec![None; self.0.len()];
        let mut queue = VecDeque::from([start]);
        let mut paths = Vec::new();
        while let Some(at) = queue.pop_front() {
            for &next in &self.0[at].uses {
                if next != start && before[next].is_none() {
                    before[next] = Some(at);
                    queue.push_back(next);
                    paths.push(trace(&before, next));
                }
            }
        }
        paths
    }
}

/// The path that ends at `end`, by the steps taken before each package.
fn trace(before: &[Option<usize>], end: usize) -> Vec<usize> {
    let mut path = vec![end];
    while let Some(earlier) = before[path[path.len() - 1]] {
        path.push(earlier);
    }
    path.reverse();
    path
}
