//! docs/reference/weir-control.md is what the program reads, and it reads every command of its own that stands in a document.

use clap::{CommandFactory, Parser};

use crate::cli::Arguments;

#[test]
fn the_reference_of_flags_is_what_is_read() {
    weir_documents::same("docs/reference/weir-control.md", &weir_documents::flags(&Arguments::command())).unwrap();
}

#[test]
fn every_command_of_its_own_in_the_documents_is_read() {
    let read = weir_documents::read_all("weir-control", |words| {
        Arguments::try_parse_from(words).map(drop).map_err(|error| error.to_string())
    });
    assert!(read.unwrap() > 0, "the documents have no command of weir-control");
}
