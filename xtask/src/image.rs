//! `cargo xtask image`: programs in, images out, each a folder in the layout of the OCI image specification, without Docker.
//!
//! The programs are linked statically, so an image holds them and nothing else: no shell, no libraries, nothing to update. What is written is a
//! function of the programs alone: the same programs make the same digests.

mod layout;
mod tar;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo, root};
use layout::Layout;
use tar::{Entry, Tar};

/// What images are built for. glibc, since its allocator is faster under many threads than that of musl.
const TARGETS: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];
/// Most bytes of an image.
const MAX_IMAGE: usize = 25_000_000;
/// Nobody, by number: there is no passwd.
const NOBODY: &str = "65532:65532";
/// Where programs look for the roots of the public web: keys of issuers of tokens are fetched over TLS.
const ROOTS: &str = "etc/ssl/certs/ca-certificates.crt";

/// Arguments of `cargo xtask image`.
#[derive(clap::Args)]
pub(crate) struct Image {
    /// Where the images go, a folder for each.
    #[arg(long, value_name = "DIR", default_value = "target/image")]
    out: PathBuf,

    /// A folder of programs that were built elsewhere; without it they are built, in a folder of their own.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// The roots that a waypoint believes of issuers of tokens, PEM.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    roots: PathBuf,
}

/// An image: its programs, the first of which is run, and as whom.
struct Plan {
    name: &'static str,
    programs: &'static [&'static str],
    user: &'static str,
    /// Whether it talks to the public web.
    web: bool,
}

const PLANS: [Plan; 4] = [
    // The plugin goes onto the node, and the agent puts it there.
    Plan { name: "weir-agent", programs: &["weir-agent", "weir-cni"], user: "0:0", web: false },
    Plan { name: "weir-control", programs: &["weir-control"], user: NOBODY, web: false },
    Plan { name: "weir-waypoint", programs: &["weir-waypoint"], user: NOBODY, web: true },
    Plan { name: "weirctl", programs: &["weirctl"], user: NOBODY, web: true },
];

impl Image {
    /// Builds the programs unless they are there, and writes the images.
    ///
    /// # Errors
    /// When they cannot be built, or an image is larger than it may be.
    pub(crate) fn run(&self) -> Result<()> {
        let machine = std::env::consts::ARCH;
        let (_, architecture) = TARGETS
            .iter()
            .find(|(target, _)| *target == machine)
            .with_context(|| format!("images are not built for {machine}: expected x86_64 or aarch64"))?;
        let programs = match &self.programs {
            Some(folder) => folder.clone(),
            None => build(machine)?,
        };
        for plan in &PLANS {
            let entries = plan.entries(&programs, &self.roots)?;
            let folder = self.out.join(plan.name);
            let layer = Tar::of(&entries)?;
            ensure!(
                layer.len() < MAX_IMAGE,
                "{} has {} bytes, and may have {MAX_IMAGE}: its programs have grown",
                plan.name,
                layer.len()
            );
            let entrypoint = format!("/{}", plan.programs[0]);
            let layout =
                Layout { architecture, user: plan.user, entrypoint: &entrypoint, version: env!("CARGO_PKG_VERSION") };
            let digest = layout.write(&folder, &layer)?;
            println!("{}  {} bytes  {digest}", folder.display(), layer.len());
        }
        Ok(())
    }
}

impl Plan {
    fn entries(&self, programs: &Path, roots: &Path) -> Result<Vec<Entry>> {
        let read = |path: &Path, how: &str| {
            fs::read(path).with_context(|| format!("{}, which {} needs: {how}", path.display(), self.name))
        };
        let mut entries = Vec::new();
        if self.web {
            let bytes = read(roots, "--roots names another file")?;
            entries.extend(["etc", "etc/ssl", "etc/ssl/certs"].map(Entry::folder));
            entries.push(Entry::file(ROOTS, 0o644, bytes));
        }
        for program in self.programs {
            let bytes = read(&programs.join(program), "`cargo xtask image` without --programs builds it")?;
            ensure!(!needs_libraries(&bytes), "{program} is linked to libraries, which the image does not have");
            entries.push(Entry::file(program, 0o755, bytes));
        }
        Ok(entries)
    }
}

/// Builds all programs as they are released, linked statically; answers with their folder.
fn build(machine: &str) -> Result<PathBuf> {
    let target = format!("{machine}-unknown-linux-gnu");
    let folder = root().join("target/static");
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--target", &target]).arg("--target-dir").arg(&folder);
    for program in PLANS.iter().flat_map(|plan| plan.programs) {
        let package = if *program == "weirctl" { "weir-ctl" } else { program };
        command.args(["--package", package]);
    }
    command.args(["--config", "profile.release.strip=true"]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = command.status().context("cargo")?;
    ensure!(status.success(), "the programs cannot be built");
    Ok(folder.join(target).join("release"))
}

/// Whether a program names a loader, which finds its libraries. ELF, program header `PT_INTERP`.
fn needs_libraries(program: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let field = program.get(at..at.checked_add(bytes)?)?;
        field.iter().rev().try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    let interpreter = || -> Option<bool> {
        program.starts_with(b"\x7fELF").then_some(())?;
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let kind = |at: usize| number(table.checked_add(at.checked_mul(size)?)?, 4);
        Some((0..count).any(|at| kind(at) == usize::try_from(PT_INTERP).ok()))
    };
    // What is no ELF of 64 bits is run by nobody.
    interpreter().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_libraries_is_known() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needs_libraries(&own), "a test of Rust is linked to libc");
        assert!(needs_libraries(b"#!/bin/sh"), "no program at all");
        // The header of one without program headers.
        let mut bare = b"\x7fELF\x02\x01\x01".to_vec();
        bare.resize(64, 0);
        assert!(!needs_libraries(&bare));
    }
}
