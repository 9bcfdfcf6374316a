//! docs/reference/weir-agent.md is what the program reads.

use crate::cli::Arguments;

#[test]
fn the_reference_of_flags_is_what_is_read() {
    weir_documents::same("docs/reference/weir-agent.md", &weir_documents::flags(&Arguments::command())).unwrap();
}

#[test]
fn every_command_for_agents_in_the_documents_is_read() {
    let read = weir_documents::read_all("weir-agent", |words| {
        Arguments::read(words).map(drop).map_err(|error| error.to_string())
    });
    assert!(read.unwrap() > 0, "the documents have no command for agents");
}
