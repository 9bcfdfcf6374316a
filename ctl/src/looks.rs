//! Every command that looks, over a folder and over programs that answer as those of a mesh do; the commands and their answers are in `tests/look`.

mod programs;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use crate::testing::answer;

fn folder() -> PathBuf {
    fs::canonicalize("../tests/look").unwrap()
}

/// The answers to the lines of a file, with names in place of what differs from run to run.
fn answers(file: &str, names: &[(&str, &str)]) -> String {
    let mut answers = String::new();
    for line in fs::read_to_string(folder().join(file)).unwrap().lines() {
        let word = |word: &str| match word {
            "." => folder().display().to_string(),
            word => names.iter().fold(word.to_owned(), |word, (name, url)| word.replace(name, url)),
        };
        let words: Vec<String> = ["weirctl"].into_iter().chain(line.split(' ')).map(word).collect();
        let mut said = answer(words.iter().map(String::as_str));
        for (name, url) in names {
            said = said.replace(url, name);
        }
        write!(answers, "$ weirctl {line}\n{said}\n").unwrap();
    }
    answers
}

fn golden(name: &str, answers: &str) {
    insta::with_settings!({ snapshot_path => folder(), prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, answers);
    });
}

#[test]
fn every_command_answers_of_a_folder_as_it_was_written_down() {
    let answers = answers("of-a-folder.txt", &[]);
    assert!(
        !answers.contains(&folder().display().to_string()),
        "files are named as whoever asks knows them: {answers}"
    );
    golden("of-a-folder", &answers);
}

#[test]
fn every_command_answers_of_programs_as_it_was_written_down() {
    let (agent, other) = (programs::agent(&folder()), programs::other_agent());
    let (waypoint, control, foreign) = (programs::waypoint(), programs::control(), programs::foreign());
    let names = [
        ("AGENT", agent.url.as_str()),
        ("OTHER", &other.url),
        ("WAYPOINT", &waypoint.url),
        ("CONTROL", &control.url),
        ("FOREIGN", &foreign.url),
    ];
    golden("of-programs", &answers("of-programs.txt", &names));
    let set = agent.asked().into_iter().filter(|asked| asked.starts_with("POST")).collect::<Vec<_>>();
    assert_eq!(set, ["POST /logging?level=info%2Caccess%3Ddebug", "POST /logging?level=nonsense"]);
}

#[test]
fn without_a_cluster_it_is_said_how_one_is_named() {
    let nowhere = Path::new("/nonexistent/kubeconfig");
    for words in [["weirctl", "status"], ["weirctl", "check"], ["weirctl", "why"]] {
        let said = answer(words.into_iter().chain(["--kubeconfig", nowhere.to_str().unwrap()]));
        assert!(said.contains("--context NAME") && said.contains("/nonexistent/kubeconfig"), "{said}");
        assert!(said.ends_with("(ends with 2)\n"), "{said}");
    }
}

#[test]
fn completion_scripts_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = answer(["weirctl", "completion", shell]);
        for command in ["version", "status", "check", "agent", "waypoint", "describe", "why", "explain", "authz"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}
