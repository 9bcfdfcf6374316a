//! `cargo xtask fuzz`: each parser of foreign bytes against libFuzzer, with a stable toolchain.
//!
//! The parsers have no unsafe code, so coverage is all that is asked of the compiler, and no sanitizer that only a nightly one has.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use crate::{
    cargo::{cargo, root},
    metadata::host,
};

/// What libFuzzer needs of code it watches: a counter at every edge, and both sides of every comparison.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=yes",
    "-Coverflow-checks=yes",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// The target; all of them, one after the other, when absent.
    target: Option<String>,
    /// How long each is run.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

impl Fuzz {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let folder = root().join("fuzz");
        let all = targets(&folder)?;
        let chosen: Vec<&String> =
            all.iter().filter(|target| self.target.as_ref().is_none_or(|wanted| wanted == *target)).collect();
        ensure!(!chosen.is_empty(), "there is no such target; there are {}", all.join(", "));
        let built = build(&folder, &chosen)?;
        let mut broken = Vec::new();
        for target in chosen {
            eprintln!("\n== {target}");
            if !self.run_target(&folder, &built, target)? {
                broken.push(target.as_str());
            }
        }
        if !broken.is_empty() {
            bail!("broken: {}; what broke them is in fuzz/artifacts", broken.join(", "));
        }
        println!("\nnothing found");
        Ok(())
    }

    fn run_target(&self, folder: &Path, built: &Path, target: &str) -> anyhow::Result<bool> {
        let (corpus, artifacts) = (folder.join("corpus").join(target), folder.join("artifacts").join(target));
        for folder in [&corpus, &artifacts] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let mut command = Command::new(built.join(target));
        // What is found goes into the first folder; the seeds are only read.
        command.arg(corpus);
        let seeds = folder.join("seeds").join(target);
        if seeds.is_dir() {
            command.arg(seeds);
        }
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        command.arg(format!("-max_total_time={}", self.seconds));
        command.args(["-timeout=10", "-print_final_stats=1"]);
        Ok(command.current_dir(folder).status().with_context(|| format!("run {target}"))?.success())
    }
}

/// The names of all targets, in order.
fn targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets")).context("the folder of fuzz targets")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Builds them; answers with the folder they are in.
fn build(folder: &Path, targets: &[&String]) -> anyhow::Result<PathBuf> {
    let host = host()?;
    let mut command = cargo();
    // With `--target`, so that build scripts are not watched.
    command.args(["build", "--release", "--locked", "--target", &host, "--manifest-path"]);
    command.arg(folder.join("Cargo.toml"));
    for target in targets {
        command.args(["--bin", target]);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    command.env("CARGO_TARGET_DIR", folder.join("target"));
    let status = command.status().context("run cargo")?;
    ensure!(status.success(), "cargo ended with {status}; libFuzzer is C++ and needs a compiler of it, such as g++");
    Ok(folder.join("target").join(host).join("release"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::metadata::Metadata;

    #[test]
    fn every_target_is_a_program_of_the_fuzz_crate_and_has_seeds() {
        let folder = root().join("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let all = targets(&folder).unwrap();
        assert!(!all.is_empty());
        for target in &all {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target} is in no [[bin]]");
            let seeds = fs::read_dir(folder.join("seeds").join(target));
            assert!(seeds.is_ok_and(|mut seeds| seeds.next().is_some()), "{target} has no seeds");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), all.len());
    }

    /// It is a workspace of its own, whose lock nobody writes anew when a crate of ours depends on one more.
    #[test]
    fn the_lock_knows_every_dependency_of_our_crates() {
        let lock = fs::read_to_string(root().join("fuzz/Cargo.lock")).unwrap();
        let metadata = Metadata::load(&root()).unwrap();
        let names: HashMap<&str, &str> = metadata.packages.iter().map(|one| (&*one.id, &*one.name)).collect();
        let mut seen = 0;
        for (package, dependencies) in metadata.normal_dependencies() {
            let name = names[package];
            let head = format!("\nname = \"{name}\"\n");
            let Some((_, entry)) = lock.split_once(&head).filter(|_| name.starts_with("weir-")) else { continue };
            let entry = entry.split("[[package]]").next().unwrap();
            for dependency in dependencies {
                let dependency = names[dependency];
                // The version follows where there are two.
                let is_there =
                    [format!("\"{dependency}\""), format!("\"{dependency} ")].iter().any(|one| entry.contains(one));
                assert!(
                    is_there,
                    "{dependency} of {name} is not in fuzz/Cargo.lock: run cargo metadata --manifest-path fuzz/Cargo.toml"
                );
                seen += 1;
            }
        }
        assert!(seen > 50, "the lock is not read");
    }
}
