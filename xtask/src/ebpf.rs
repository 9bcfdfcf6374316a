//! `cargo xtask ebpf`: in go the sources of the kernel programs, out come the object which the loader embeds
//! and the hash of the sources it was built from. Users build neither: both are committed.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

const OBJECT: &str = "ebpf/loader/src/weir-redirect.o";
const HASH: &str = "ebpf/loader/src/weir-redirect.sha256";
const BUILT: &str = "ebpf/redirect/target/bpfel-unknown-none/release/weir-redirect";

/// What the object is made of, relative to the root of the repository.
const SOURCES: &[&str] = &[
    "ebpf/common/Cargo.toml",
    "ebpf/common/src",
    "ebpf/redirect/Cargo.toml",
    "ebpf/redirect/Cargo.lock",
    "ebpf/redirect/src",
];

/// What to do when a tool is missing. The versions fit each other: bpf-linker must be of rustc's LLVM.
const HOW: &str = "the kernel programs need, on Debian:
    apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src llvm-22-dev
    PATH=/usr/lib/llvm-22/bin:$PATH cargo install bpf-linker --no-default-features --features llvm-22
elsewhere: a nightly of rustup with the component rust-src, the matching LLVM, and bpf-linker";

/// Arguments of `cargo xtask ebpf`.
#[derive(clap::Args)]
pub(crate) struct Ebpf {
    /// Write nothing; fail when what is committed is not what would be written.
    #[arg(long)]
    check: bool,
}

/// Builds the object, then writes or compares it and the hash.
pub(crate) fn run(task: &Ebpf) -> anyhow::Result<()> {
    let root = root()?;
    let toolchain = Toolchain::find()?;
    let object = toolchain.build(&root)?;
    let hash = format!("{}\n", digest(&root)?);
    if task.check {
        let committed = fs::read_to_string(root.join(HASH)).with_context(|| HASH.to_owned())?;
        ensure!(committed == hash, "{HASH} is stale: run `cargo xtask ebpf`");
        let committed = fs::read(root.join(OBJECT)).with_context(|| OBJECT.to_owned())?;
        ensure!(committed == object, "{OBJECT} is not what its sources build to here: run `cargo xtask ebpf`");
        println!("{OBJECT} is what its sources build to");
        return Ok(());
    }
    fs::write(root.join(OBJECT), &object).with_context(|| OBJECT.to_owned())?;
    fs::write(root.join(HASH), hash).with_context(|| HASH.to_owned())?;
    println!("{OBJECT}: {} bytes", object.len());
    Ok(())
}

/// The tools, each found.
struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    linker: PathBuf,
    llvm: PathBuf,
}

impl Toolchain {
    fn find() -> anyhow::Result<Self> {
        let (rustc, cargo) = [PathBuf::from("/usr/bin"), cargo_home()?.join("bin")]
            .into_iter()
            .map(|bin| (bin.join("rustc"), bin.join("cargo")))
            .find(|(rustc, cargo)| cargo.exists() && has_sources(rustc))
            .with_context(|| format!("no rustc with the sources of its library is installed; {HOW}"))?;
        let linker = on_path("bpf-linker")
            .or_else(|| Some(cargo_home().ok()?.join("bin/bpf-linker")).filter(|path| path.exists()))
            .with_context(|| format!("bpf-linker is not installed; {HOW}"))?;
        let llvm = on_path("llvm-objcopy")
            .and_then(|path| Some(path.parent()?.to_owned()))
            .or_else(|| Some(PathBuf::from("/usr/lib/llvm-22/bin")).filter(|bin| bin.join("llvm-objcopy").exists()))
            .with_context(|| format!("llvm-objcopy is not installed; {HOW}"))?;
        Ok(Self { rustc, cargo, linker, llvm })
    }

    /// Builds, and returns the object without debug sections (its BTF stays).
    fn build(&self, root: &Path) -> anyhow::Result<Vec<u8>> {
        let home = cargo_home()?;
        let paths = [(root.to_owned(), "/weir"), (home, "/cargo")];
        let flags = paths
            .iter()
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
            .chain(["-Clink-arg=--btf".to_owned(), format!("-Clinker={}", self.linker.display())])
            .collect::<Vec<_>>()
            .join("\x1f");
        let status = Command::new(&self.cargo)
            .current_dir(root.join("ebpf/redirect"))
            .env("RUSTC", &self.rustc)
            // `-Z build-std` on a stable compiler: its own sources, so nothing unstable in ours.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env("PATH", self.path())
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTUP_TOOLCHAIN")
            .args(["build", "--release", "--locked", "--target", "bpfel-unknown-none", "-Z", "build-std=core"])
            .status()
            .with_context(|| self.cargo.display().to_string())?;
        ensure!(status.success(), "building ebpf/redirect: {status}; if a tool does not fit the others: {HOW}");
        let stripped = root.join(BUILT).with_extension("stripped");
        let status = Command::new(self.llvm.join("llvm-objcopy"))
            .args(["--strip-debug", "--remove-section=.llvm_addrsig"])
            .arg(root.join(BUILT))
            .arg(&stripped)
            .status()
            .context("llvm-objcopy")?;
        ensure!(status.success(), "llvm-objcopy: {status}");
        let object = fs::read(&stripped).with_context(|| stripped.display().to_string())?;
        ensure!(
            !contains(&object, root.as_os_str().as_encoded_bytes()),
            "the object names the folder it was built in; it would differ from machine to machine"
        );
        Ok(object)
    }

    fn path(&self) -> OsString {
        let rest = env::var_os("PATH").unwrap_or_default();
        let folders = [self.llvm.clone()].into_iter().chain(env::split_paths(&rest));
        env::join_paths(folders).expect("folders out of PATH can go back into it")
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

/// Does this rustc have the sources of `core` beside it?
fn has_sources(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() else { return false };
    let Ok(sysroot) = String::from_utf8(output.stdout) else { return false };
    Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
}

fn root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask is in a folder of the repository")?.to_owned())
}

/// SHA-256, in hex, over the path and content of each source, in the order of their paths.
fn digest(root: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(root).context("a source is in the repository")?;
        let content = fs::read(&file).with_context(|| file.display().to_string())?;
        for part in [name.as_os_str().as_encoded_bytes(), &content] {
            hash.update(u64::try_from(part.len())?.to_be_bytes());
            hash.update(part);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    if !path.is_dir() {
        bail!("{} is missing", path.display());
    }
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_was_built_from_these_sources() {
        let root = root().unwrap();
        let committed = fs::read_to_string(root.join(HASH)).unwrap();
        let now = digest(&root).unwrap();
        assert_eq!(committed.trim(), now, "the sources of the kernel programs changed: run `cargo xtask ebpf`");
    }
}
