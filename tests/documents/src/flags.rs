//! A program's flags as a page, made of the tree its own reader of flags is.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

/// The page of a program: for it, and for each of its tasks that takes anything, what it is for and its flags.
#[must_use]
pub fn flags(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let name = command.get_name().to_owned();
    let mut page = format!("# {name}: flags\n\nWritten by `cargo xtask reference`, from what the program reads.\n");
    section(&mut page, &command, &name);
    page
}

fn section(page: &mut String, command: &Command, name: &str) {
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    write!(page, "\n## {name}\n\n{}\n", about.trim()).expect("writing to a String does not fail");
    let is_first = !name.contains(' ');
    let arguments: Vec<&Arg> =
        command.get_arguments().filter(|one| is_own(one) && (is_first || !one.is_global_set())).collect();
    if !arguments.is_empty() {
        page.push_str("\n| flag | environment | default | |\n| --- | --- | --- | --- |\n");
        arguments.into_iter().for_each(|argument| row(page, argument));
    }
    for task in command.get_subcommands().filter(|task| task.get_name() != "help" && !task.is_hide_set()) {
        section(page, task, &format!("{name} {}", task.get_name()));
    }
}

/// Whether it is more than what every program has.
fn is_own(argument: &Arg) -> bool {
    let every = matches!(
        argument.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    );
    !every && !argument.is_hide_set()
}

fn row(page: &mut String, argument: &Arg) {
    let values: Vec<&str> =
        argument.get_value_names().unwrap_or_default().iter().map(clap::builder::Str::as_str).collect();
    let value = if argument.get_action().takes_values() { values.join(" ") } else { String::new() };
    let long = argument.get_long().map(|long| format!("--{long}"));
    let short = argument.get_short().map(|short| format!("-{short}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let flag = match names.is_empty() {
        true => value,
        false => format!("{} {value}", names.join(", ")),
    };
    let often = matches!(argument.get_action(), ArgAction::Append).then_some("Several times.");
    let needed = argument.is_required_set().then_some("Needed.");
    let environment = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let defaults: Vec<String> = argument.get_default_values().iter().map(|one| shown(&one.to_string_lossy())).collect();
    let defaults = if argument.get_action().takes_values() { defaults.join(", ") } else { String::new() };
    let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let words: Vec<String> =
        [Some(sentence(&help)), often.map(str::to_owned), needed.map(str::to_owned)].into_iter().flatten().collect();
    page.push('|');
    for cell in [format!("`{}`", flag.trim()), environment, defaults, words.join(" ")] {
        let cell = cell.trim().replace('|', "\\|");
        let space = if cell.is_empty() { "" } else { " " };
        write!(page, "{space}{cell} |").expect("writing to a String does not fail");
    }
    page.push('\n');
}

fn shown(default: &str) -> String {
    if default.is_empty() { "empty".to_owned() } else { format!("`{default}`") }
}

/// With a full stop.
fn sentence(help: &str) -> String {
    if help.is_empty() || help.ends_with(['.', '?', '!']) { help.to_owned() } else { format!("{help}.") }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    #[test]
    fn each_flag_is_a_row_with_all_that_is_known_of_it() {
        let flag = Arg::new("dir").long("dir").short('d').value_name("A|B").default_value("").env("DIR").help("Where");
        let own = Arg::new("name").value_name("NAME").required(true).help("Who.");
        let many =
            Arg::new("many").long("many").value_name("N").action(ArgAction::Append).default_value("1").help("How many");
        let there = Arg::new("all").long("all").action(ArgAction::SetTrue).help("Every one");
        let task = Command::new("go").about("Goes.").arg(own);
        let page = flags(&Command::new("weirx").about("Does x").args([flag, many, there]).subcommand(task));
        let want = "# weirx: flags\n\nWritten by `cargo xtask reference`, from what the program reads.\n\n## weirx\n\nDoes x\n\n\
                    | flag | environment | default | |\n| --- | --- | --- | --- |\n\
                    | `-d, --dir A\\|B` | `DIR` | empty | Where. |\n\
                    | `--many N` | | `1` | How many. Several times. |\n\
                    | `--all` | | | Every one. |\n\n\
                    ## weirx go\n\nGoes.\n\n| flag | environment | default | |\n| --- | --- | --- | --- |\n| `NAME` | | | Who. Needed. |\n";
        assert_eq!(page, want);
    }
}
