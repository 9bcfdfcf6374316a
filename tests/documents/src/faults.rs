//! What is wrong with the commands of a document, without running any.

use std::path::Path;

use crate::{Block, Fault, Mark, blocks, words};

/// Programs that commands for clusters and nodes may begin with, beside our own. What is not known could be a slip of the pen.
const PROGRAMS: [&str; 14] = [
    "bpftool", "cargo", "curl", "git", "grafana", "helm", "ip", "kubectl", "ln", "ls", "mount", "promtool", "source",
    "tcpdump",
];

/// Everything that is wrong with the commands of the document `file`: blocks without a mark, commands to be run without what they print, programs nobody
/// knows, and folders below `deploy` that are not there in the repository at `root`.
#[must_use]
pub fn faults(root: &Path, file: &str, text: &str) -> Vec<Fault> {
    let (blocks, mut faults) = blocks(file, text);
    for block in &blocks {
        let place = block.place();
        match block.mark {
            Mark::Run { .. } | Mark::Demo { .. } if block.prints.is_none() => {
                faults.push(Fault(format!("{place}: what it prints does not follow, in a block marked `text`")));
            }
            Mark::Run { .. } | Mark::Demo { .. } | Mark::Repository => {}
            Mark::Cluster | Mark::Node => faults.extend(unknown_program(block)),
        }
        for line in block.lines() {
            let missing =
                words(&line).into_iter().filter(|word| word.starts_with("deploy/") && !root.join(word).exists());
            faults.extend(missing.map(|word| Fault(format!("{place}: there is no {word}"))));
        }
    }
    faults
}

fn unknown_program(block: &Block) -> Option<Fault> {
    let is_known = |word: &str| PROGRAMS.contains(&word) || word.starts_with("weir");
    let unknown =
        block.lines().into_iter().filter_map(|line| words(&line).into_iter().next()).find(|word| !is_known(word))?;
    Some(Fault(format!(
        "{}: {unknown:?} is no program that documents may name: see tests/documents/src/faults.rs",
        block.place()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root;

    #[test]
    fn what_is_wrong_with_commands_is_told_with_its_place() {
        for (text, want) in [
            ("```sh run\nls\n```\n", Some("a.md:2: what it prints")),
            ("```sh demo\nls\n```\nwords\n```text\nx\n```\n", Some("a.md:2: what it prints")),
            ("```sh run\nls\n```\n```text\nx\n```\n", None),
            ("```sh cluster\nkubctl get pods\n```\n", Some("\"kubctl\" is no program")),
            ("```sh cluster\nkubectl apply -k deploy/nowhere\n```\n", Some("there is no deploy/nowhere")),
            ("```sh cluster\nkubectl apply -f deploy/samples/todo\nweirctl x\n```\n", None),
            ("```sh\nls\n```\n", Some("marked \"sh\"")),
        ] {
            let found: Vec<String> = faults(&root(), "a.md", text).into_iter().map(|one| one.0).collect();
            match want {
                Some(want) => assert!(found.len() == 1 && found[0].contains(want), "{text:?}: {found:?}"),
                None => assert!(found.is_empty(), "{text:?}: {found:?}"),
            }
        }
    }
}
