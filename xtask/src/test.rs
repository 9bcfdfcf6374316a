//! `cargo xtask test`: everything, and a plain line at the end that says how it went.
//!
//! Test programs are built by Cargo and run here one after the other: those of packages with `privileged-tests` as root, the others as
//! whoever calls. Nothing is skipped: what cannot be run is an error.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cargo::{Artifact, Package, cargo, packages, run_with_messages};
use crate::root;

/// How long one test program may run; the longest takes two minutes.
const LIMIT: Duration = Duration::from_secs(10 * 60);

#[derive(clap::Args)]
pub(crate) struct Test {
    /// Run only tests whose name contains this.
    filter: Option<String>,
}

/// What a run of one test program came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

struct Program {
    title: String,
    path: PathBuf,
    package: Package,
}

impl Test {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let packages = packages()?;
        let needing: Vec<_> = packages.iter().filter(|package| package.has_privileged_tests()).collect();
        if !root::is_root() {
            let names: Vec<_> = needing.iter().map(|package| package.name.as_str()).collect();
            root::sudo().with_context(|| format!("the tests of {} need root", names.join(", ")))?;
            eprintln!("the tests of {} need root: sudo may ask for your password", names.join(", "));
        }
        eprintln!("building everything");
        let mut build = cargo();
        build.args(["build", "--workspace", "--bins"]);
        run_with_messages(build)?;
        let mut build = cargo();
        build.args(["test", "--workspace", "--no-run"]);
        let programs = programs(run_with_messages(build)?, &packages)?;

        let (mut total, mut broken) = (Count::default(), Vec::new());
        for program in &programs {
            eprintln!("\n== {}", program.title);
            match self.run_program(program) {
                Ok(count) => total.add(count),
                Err(error) => {
                    eprintln!("{error:#}");
                    total.failed += 1;
                    broken.push(program.title.clone());
                }
            }
        }
        eprintln!("\n== documentation tests");
        let mut documentation = cargo();
        documentation.args(["test", "--quiet", "--workspace", "--doc"]);
        self.pass_on(&mut documentation);
        total.add(run_counted(documentation)?);

        println!("\n{} passed, {} failed", total.passed, total.failed);
        ensure!(broken.is_empty(), "ended without a result: {}", broken.join(", "));
        ensure!(total.failed == 0, "{} tests failed", total.failed);
        ensure!(total.passed > 0, "no test has this in its name: {}", self.filter.as_deref().unwrap_or_default());
        Ok(())
    }

    fn run_program(&self, program: &Program) -> anyhow::Result<Count> {
        let privileged = program.package.has_privileged_tests();
        let dir = program.package.manifest_path.parent().context("a manifest is in a folder")?;
        let mut command = if privileged && !root::is_root() {
            // Through env(1), because sudo drops most of the environment.
            let mut command = root::sudo()?;
            command.arg("env").arg(setting("CARGO_MANIFEST_DIR", dir.as_os_str()));
            for name in ["PATH", "RUST_BACKTRACE", "RUST_LOG"] {
                command.args(env::var_os(name).map(|value| setting(name, &value)));
            }
            command.arg(&program.path);
            command
        } else {
            Command::new(&program.path)
        };
        command.current_dir(dir).env("CARGO_MANIFEST_DIR", dir);
        // Each makes nodes, agents and load of its own: more at once than processors only wait for each other.
        let threads: usize = if privileged { 2 } else { 4 };
        self.pass_on(&mut command);
        command.args(["--test-threads", &threads.to_string()]);
        run_counted(command).with_context(|| program.path.display().to_string())
    }

    fn pass_on(&self, command: &mut Command) {
        if let Some(filter) = &self.filter {
            if command.get_args().any(|argument| argument == "--doc") {
                command.arg("--");
            }
            command.arg(filter);
        }
    }
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

fn setting(name: &str, value: &OsStr) -> OsString {
    let mut setting = OsString::from(format!("{name}="));
    setting.push(value);
    setting
}

fn programs(artifacts: Vec<Artifact>, packages: &[Package]) -> anyhow::Result<Vec<Program>> {
    let mut found = Vec::new();
    for artifact in artifacts.into_iter().filter(|artifact| artifact.profile.test) {
        let Some(path) = artifact.executable else { continue };
        let package = packages.iter().find(|package| package.id == artifact.package_id);
        let package = package.with_context(|| format!("no package {}", artifact.package_id))?.clone();
        let title = format!("{} ({} {})", package.name, artifact.target.kind.join(" "), artifact.target.name);
        found.push(Program { title, path, package });
    }
    if found.is_empty() {
        bail!("cargo built no test program");
    }
    found.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(found)
}

/// Runs a test program, shows what it prints, and adds up its results.
/// Runs a test program to its end, or to [`LIMIT`]: one that hangs is said to hang, and the others still run.
fn run_counted(mut command: Command) -> anyhow::Result<Count> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let watch = std::thread::spawn(move || {
        // Dropping the other half is what says that the program ended.
        let hangs = end.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
        if hangs && let Err(error) = kill(pid, Signal::SIGKILL) {
            eprintln!("kill {pid}: {error}");
        }
        hangs
    });
    let counted = count_results(&mut child);
    drop(ended);
    ensure!(!watch.join().expect("it only waits"), "it did not end within {LIMIT:?} and was killed");
    counted
}

fn count_results(child: &mut Child) -> anyhow::Result<Count> {
    let (mut count, mut results) = (Count::default(), 0);
    for line in BufReader::new(child.stdout.take().context("piped")?).lines() {
        let line = line?;
        println!("{line}");
        if let Some(result) = result_line(&line) {
            count.add(result?);
            results += 1;
        }
    }
    let status = child.wait()?;
    ensure!(results > 0, "ended with {status} and no result");
    ensure!(status.success() || count.failed > 0, "ended with {status} although no test failed");
    Ok(count)
}

/// `test result: ok. 3 passed; 0 failed; 0 ignored; ...`. Ignored tests are an error: none may be skipped in silence.
fn result_line(line: &str) -> Option<anyhow::Result<Count>> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |what: &str| {
        let part = rest.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(what));
        part.and_then(|number| number.trim().parse::<u64>().ok())
            .with_context(|| format!("no count of{what} in: {line}"))
    };
    let read = || {
        let (passed, failed, ignored) = (number(" passed")?, number(" failed")?, number(" ignored")?);
        ensure!(ignored == 0, "{ignored} tests are ignored; here every test runs");
        Ok(Count { passed, failed })
    };
    Some(read())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_ignored_tests_are_refused() {
        let line = |ignored| {
            format!(
                "test result: FAILED. 12 passed; 3 failed; {ignored} ignored; 0 measured; 4 filtered out; finished in 0.03s"
            )
        };
        assert_eq!(result_line(&line(0)).unwrap().unwrap(), Count { passed: 12, failed: 3 });
        assert!(result_line(&line(1)).unwrap().is_err());
        assert!(result_line("test result: what is this").unwrap().is_err());
        assert!(result_line("running 3 tests").is_none());
    }
}
