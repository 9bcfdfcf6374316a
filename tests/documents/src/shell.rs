//! Lines of commands, as far as a document may have them: words, quotes, pipes, assignments before, and no more.

use crate::{blocks, documents};

/// The words of one command, as a shell makes them of a line without variables: single and double quotes are taken off.
#[must_use]
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The commands of a line: what stands between pipes, `&&` and `;`, outside of quotes.
fn commands(line: &str) -> Vec<String> {
    let (mut commands, mut command, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '|' | ';' | '&') => {
                commands.push(std::mem::take(&mut command));
                continue;
            }
            (Some(_) | None, _) => {}
        }
        command.push(c);
    }
    commands.push(command);
    commands.retain(|command| !command.trim().is_empty());
    commands
}

/// Has every command of `program` that stands in a document read by `read`, which is given its words; how many there are.
///
/// # Errors
/// Each that is not taken, as `file:line: why`; or that a document cannot be read.
pub fn read_all(program: &str, read: impl Fn(Vec<String>) -> Result<(), String>) -> Result<usize, String> {
    let (mut number, mut faults) = (0, Vec::new());
    for (file, text) in documents().map_err(|error| error.to_string())? {
        for block in blocks(&file, &text).0 {
            for command in block.lines().iter().flat_map(|line| commands(line)) {
                let words: Vec<String> = words(&command);
                // What stands before it runs it somewhere, as another or in a namespace.
                let Some(at) = words.iter().position(|word| is_called(word, program)) else { continue };
                number += 1;
                if let Err(why) = read(words[at..].to_vec()) {
                    faults.push(format!("{}: {}: {why}", block.place(), command.trim()));
                }
            }
        }
    }
    if faults.is_empty() { Ok(number) } else { Err(faults.join("\n")) }
}

/// Whether a word is the program, by its name or by a path. `daemonset/weir-agent` is neither: it names an object of a cluster.
fn is_called(word: &str, program: &str) -> bool {
    let path = word.strip_suffix(program).and_then(|path| path.strip_suffix('/'));
    word == program
        || path.is_some_and(|path| ["", ".", "~", "target"].contains(&path.split('/').next().unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_a_shell_cuts_it() {
        assert_eq!(
            words("weirctl explain 'GET /a b' -H \"x: 'y'\" ''"),
            ["weirctl", "explain", "GET /a b", "-H", "x: 'y'", ""]
        );
        assert_eq!(commands("a 'b | c' | d && e; f"), ["a 'b | c' ", " d ", " e", " f"]);
    }

    #[test]
    fn a_program_is_called_by_its_name_or_by_a_path() {
        for (word, is) in [
            ("weirctl", true),
            ("/usr/bin/weirctl", true),
            ("./weirctl", true),
            ("target/debug/weirctl", true),
            ("daemonset/weirctl", false),
            ("not-weirctl", false),
        ] {
            assert_eq!(is_called(word, "weirctl"), is, "{word}");
        }
    }

    #[test]
    fn what_a_program_does_not_read_is_told_with_its_place() {
        let error = read_all("weirctl", |_| Err("no such flag".to_owned())).unwrap_err();
        assert!(
            error.lines().next().is_some_and(|line| line.contains(".md:") && line.ends_with(": no such flag")),
            "{error}"
        );
    }
}
