//! Blocks of commands, and what is to be done with each: the word behind `sh`.

/// What is to be done with a block of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// `sh run`: run in the root of the repository, without a cluster and without root; `sh run ends=N`: it ends with N. What it prints begins with the
    /// lines of the `text` block that follows, up to one that is `…`.
    Run {
        /// What the last command ends with.
        ends_with: i32,
    },
    /// `sh cluster`: for a cluster. Its commands are read by the programs' own readers, and the files they name are there.
    Cluster,
    /// `sh node`: for a node, as root. Likewise.
    Node,
    /// `sh demo`: a command of the way of five minutes, in its order, with what it prints in the `text` block that follows. One test runs them all.
    /// `sh demo ends=N`: it ends with N.
    Demo {
        /// What it ends with.
        ends_with: i32,
    },
    /// `sh repository`: for who works on Weir; too long to be run by a test of documents. Its tasks are there.
    Repository,
}

/// A block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The document, from the root.
    pub file: String,
    /// The line of its first command, from 1.
    pub line: usize,
    /// What is to be done with it.
    pub mark: Mark,
    /// The commands.
    pub commands: String,
    /// What they print, if that is said: the `text` block which is the next thing after it.
    pub prints: Option<String>,
}

impl Block {
    /// The commands one by one: lines, those that end in a backslash joined with the next, without comments.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let joined = self.commands.replace("\\\n", " ");
        let lines = joined.lines().map(|line| line.split(" # ").next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    }

    /// Where it stands, as `file:line`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// A block of commands that says nothing of what is to be done with it, or something nobody knows; as `file:line: why`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

/// One fenced block.
struct Fence {
    info: String,
    line: usize,
    text: String,
    /// Whether nothing but blank lines stands between it and the one before.
    follows: bool,
}

fn fences(text: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut open: Option<(Fence, &str)> = None;
    let mut follows = false;
    for (at, line) in text.lines().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                let fence = Fence { info: info.trim().to_owned(), line: at + 2, text: String::new(), follows };
                open = Some((fence, indent));
            }
            (None, None) => follows &= line.trim().is_empty(),
            (Some(_), Some(_)) => {
                fences.extend(open.take().map(|(fence, _)| fence));
                follows = true;
            }
            (Some((fence, indent)), None) => {
                fence.text.push_str(line.strip_prefix(*indent).unwrap_or(line));
                fence.text.push('\n');
            }
        }
    }
    fences
}

/// The blocks of commands of a document, and what is wrong with others: those without a mark, and consoles with prompts, which nobody can copy.
#[must_use]
pub fn blocks(file: &str, text: &str) -> (Vec<Block>, Vec<Fault>) {
    let fences = fences(text);
    let (mut blocks, mut faults) = (Vec::new(), Vec::new());
    for (at, fence) in fences.iter().enumerate() {
        let mut words = fence.info.split_whitespace();
        if !matches!(words.next(), Some("sh" | "bash" | "shell" | "console")) {
            continue;
        }
        let prints = fences.get(at + 1).filter(|next| next.follows && next.info == "text");
        match mark(&fence.info) {
            Some(mark) => blocks.push(Block {
                file: file.to_owned(),
                line: fence.line,
                mark,
                commands: fence.text.clone(),
                prints: prints.map(|next| next.text.clone()),
            }),
            None => faults.push(Fault(format!(
                "{file}:{}: a block of commands marked {:?}: expected `sh run`, `sh run ends=N`, `sh cluster`, `sh node`, `sh demo` or `sh repository`",
                fence.line, fence.info
            ))),
        }
    }
    (blocks, faults)
}

/// The texts of the fenced blocks of one kind, each with its first line.
#[must_use]
pub fn others(text: &str, info: &str) -> Vec<(usize, String)> {
    fences(text).into_iter().filter(|fence| fence.info == info).map(|fence| (fence.line, fence.text)).collect()
}

fn mark(info: &str) -> Option<Mark> {
    match info.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["sh", "run"] => Some(Mark::Run { ends_with: 0 }),
        ["sh", "run", ends] => end(ends).map(|ends_with| Mark::Run { ends_with }),
        ["sh", "cluster"] => Some(Mark::Cluster),
        ["sh", "node"] => Some(Mark::Node),
        ["sh", "demo"] => Some(Mark::Demo { ends_with: 0 }),
        ["sh", "demo", ends] => end(ends).map(|ends_with| Mark::Demo { ends_with }),
        ["sh", "repository"] => Some(Mark::Repository),
        _ => None,
    }
}

fn end(word: &str) -> Option<i32> {
    word.strip_prefix("ends=")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_its_mark_its_commands_and_what_they_print() {
        let text = "# A\n```sh run ends=1\nweirctl a \\\n  --b    # why\n# all\nweirctl c\n```\n\n```text\nDENY\n…\n```\n\n- in a list\n  ```sh cluster\n  \
                    kubectl get pods\n  ```\n  words\n  ```text\n  nothing to do with it\n  ```\n";
        let (blocks, faults) = blocks("docs/a.md", text);
        assert!(faults.is_empty(), "{faults:?}");
        let [first, second] = blocks.as_slice() else { panic!("{blocks:?}") };
        assert_eq!((first.place().as_str(), first.mark), ("docs/a.md:3", Mark::Run { ends_with: 1 }));
        assert_eq!(first.lines(), ["weirctl a    --b", "weirctl c"]);
        assert_eq!(first.prints.as_deref(), Some("DENY\n…\n"));
        assert_eq!((second.mark, second.prints.as_deref()), (Mark::Cluster, None));
        assert_eq!(second.commands, "kubectl get pods\n");
    }

    #[test]
    fn a_block_without_a_mark_or_with_one_nobody_knows_is_a_fault() {
        for info in ["sh", "console", "bash", "sh somewhere", "sh run ends=x", "sh run fast", "sh demo ends="] {
            let (found, faults) = blocks("a.md", &format!("```{info}\nls\n```\n"));
            assert!(found.is_empty() && faults.len() == 1 && faults[0].0.starts_with("a.md:2: "), "{info}: {faults:?}");
        }
        for info in ["yaml", "text", "", "json", "rust"] {
            assert_eq!(blocks("a.md", &format!("```{info}\nls\n```\n")), (vec![], vec![]), "{info}");
        }
    }

    #[test]
    fn blocks_of_another_kind_are_found_with_their_lines() {
        assert_eq!(others("a\n```yaml\nkind: A\n```\n```text\nb\n```\n", "yaml"), [(3, "kind: A\n".to_owned())]);
    }
}
