//! Each rule of the text, on made-up files that break it and files that only look as if; then on the real tree.

use super::{
    check, documents, rules,
    source::{Part, Source},
    tracked, with_test_modules,
};
use crate::metadata::{Metadata, root};

fn found(path: &str, text: &str) -> Vec<String> {
    let text = format!("//! A file.\n{text}");
    rules::all(&Source::read(path, &text)).iter().map(ToString::to_string).collect()
}

#[test]
fn the_repository_is_tidy() {
    let files = tracked(&root()).unwrap();
    assert!(files.iter().any(|file| file == "xtask/src/tidy.rs"), "git listed only {files:?}");
    let findings = check(&root(), &Metadata::load(&root()).unwrap()).unwrap();
    let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(text.is_empty(), "\n{}", text.join("\n"));
}

#[test]
fn comments_and_literals_are_not_code() {
    for text in [
        "// unsafe todo!()",
        "/* unsafe /* nested */ todo!() */",
        "const A: &str = \"unsafe \\\" todo!()\";",
        "const A: &str = r#\"unsafe \" todo!()\"#;",
        "const A: &[u8] = br\"unsafe\\\";",
        "const A: char = '\"'; // unsafe",
        "const A: char = '\\''; // unsafe",
        "fn f<'a>(a: &'a str) {} // 'unsafe'",
        "const A: &str = \"over\n  two unsafe lines\n\";",
    ] {
        assert_eq!(found("agent/src/a.rs", text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn code_after_comments_and_literals_is_code() {
    for text in [
        "/* a */ unsafe {}",
        "const A: &str = \"\\\\\"; unsafe {}",
        "const A: char = '\"'; unsafe {}",
        "fn f<'a>(a: &'a str) { unsafe {} }",
        "const A: &str = r\"\\\"; unsafe {}",
        "let bar\"x\"; unsafe {}",
    ] {
        assert_eq!(found("agent/src/a.rs", text).len(), 1, "{text}");
    }
}

#[test]
fn unsafe_stands_only_at_the_kernel_boundary() {
    for (path, want) in [
        ("ebpf/loader/src/a.rs", 0),
        ("crates/io/net/src/a.rs", 0),
        ("crates/io/netlink/src/a.rs", 0),
        ("crates/io/network/src/a.rs", 1),
        ("crates/io/hbone/src/a.rs", 1),
        ("tests/testbed/src/a.rs", 1),
    ] {
        assert_eq!(found(path, "fn f() { unsafe { g() } }").len(), want, "{path}");
    }
    assert!(found("agent/src/a.rs", "#![deny(unsafe_code)]").is_empty());
}

#[test]
fn stubs_and_silenced_tests_are_found_in_tests_too() {
    for text in
        ["fn f() { todo!() }", "fn f() { unimplemented!(\"x\") }", "#[ignore]", "#[ignore = \"slow\"]", "dbg!(x);"]
    {
        assert_eq!(found("agent/src/a.rs", text).len(), 1, "{text}");
        assert_eq!(found("agent/tests/a.rs", text).len(), 1, "{text}");
    }
    assert!(found("agent/src/a.rs", "fn ignore() {} #[expect(dead_code, reason = \"x\")]").is_empty());
    assert_eq!(found("agent/src/a.rs", "#[allow(dead_code, reason = \"x\")]").len(), 1);
}

#[test]
fn a_test_may_sleep_only_while_it_polls_or_the_clock_is_paused() {
    for (text, want) in [
        ("fn f() { thread::sleep(A); }", 1),
        ("async fn f() { tokio::time::sleep(A).await; }", 1),
        ("fn f() {\n  while !ready() {\n    thread::sleep(A);\n  }\n}", 0),
        (
            "fn f() {\n  let x = loop {\n    match y() { Some(z) => break z, None => {\n thread::sleep(A);\n } }\n  };\n}",
            0,
        ),
        ("fn f() {\n  for _ in 0..9 {\n    g();\n  }\n  thread::sleep(A);\n}", 1),
        ("impl A for B {\n  fn f() {\n    thread::sleep(A);\n  }\n}", 1),
        ("#[tokio::test(start_paused = true)]\nasync fn f() { time::sleep(A).await; }", 0),
        ("#[tokio::test(start_paused = true)]\nasync fn f() { thread::sleep(A); }", 1),
        ("fn f() { sleepy(); }", 0),
    ] {
        assert_eq!(found("agent/tests/a.rs", text).len(), want, "{text}");
    }
    assert!(found("agent/src/a.rs", "fn f() { thread::sleep(A); }").is_empty(), "the product may sleep");
}

#[test]
fn logic_and_wire_have_no_effects_but_their_tests_may() {
    let effects = [
        "async fn f() {}",
        "fn f() { g().await }",
        "use std::sync::Mutex;",
        "let now = Instant::now();",
        "let now = std::time::SystemTime::now();",
        "std::env::var(\"A\");",
        "tracing::info!(\"a\");",
        "println!(\"a\");",
        "let mut rng = rand::rng();",
    ];
    for text in effects {
        for path in ["crates/logic/world/src/a.rs", "crates/wire/src/a.rs"] {
            assert!(!found(path, text).is_empty(), "{path}: {text}");
        }
        let test = format!("#[cfg(test)]\nmod tests {{\n{text}\n}}");
        assert_eq!(found("crates/logic/world/src/a.rs", &test), Vec::<String>::new());
        assert_eq!(found("crates/io/hbone/src/a.rs", text), Vec::<String>::new());
        assert_eq!(found("crates/logic/world/benches/a.rs", text), Vec::<String>::new());
    }
    assert!(found("crates/logic/world/src/a.rs", "use std::{net::IpAddr, sync::Arc, time::Instant};").is_empty());
}

#[test]
fn a_file_may_have_500_lines_before_its_tests() {
    let lines = |count: usize| "fn f() {}\n".repeat(count);
    assert!(found("agent/src/a.rs", &lines(499)).is_empty());
    assert_eq!(found("agent/src/a.rs", &lines(500)).len(), 1);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(400), lines(400));
    assert!(found("agent/src/a.rs", &tests).is_empty());
    assert!(found("agent/src/a/tests.rs", &lines(900)).is_empty());
    assert_eq!(found("tests/testbed/src/a.rs", &lines(900)).len(), 1);
}

#[test]
fn code_after_a_test_module_is_product_again() {
    let text = "#[cfg(test)]\nmod tests;\nfn f() {}\n#[cfg(test)]\nmod more {\n  fn g() {}\n}\nfn h() {}\n";
    let parts: Vec<Part> = Source::read("a.rs", text).lines.iter().map(|line| line.part).collect();
    let (p, t) = (Part::Product, Part::Test);
    assert_eq!(parts, [t, t, p, t, t, t, t, p]);
}

#[test]
fn a_module_declared_for_tests_is_tests_wherever_its_file_stands() {
    let declares = "#[cfg(test)]\nmod fixtures;\nmod product;\n";
    for (declaring, file, want) in [
        ("a/src/lib.rs", "a/src/fixtures.rs", Part::Test),
        ("a/src/lib.rs", "a/src/product.rs", Part::Product),
        ("a/src/lib.rs", "b/src/fixtures.rs", Part::Product),
        ("a/src/pool.rs", "a/src/pool/fixtures.rs", Part::Test),
        ("a/src/pool.rs", "a/src/fixtures.rs", Part::Product),
        ("a/src/pool.rs", "a/src/pool/fixtures/mod.rs", Part::Test),
    ] {
        let sources = vec![Source::read(declaring, declares), Source::read(file, "fn f() {}\n")];
        assert_eq!(with_test_modules(sources)[1].lines[0].part, want, "{declaring} declares, {file} is");
    }
}

#[test]
fn empty_names_are_refused() {
    for (path, text, want) in [
        ("agent/src/util.rs", "", 1),
        ("agent/src/helpers/a.rs", "", 1),
        ("crates/io/common/src/lib.rs", "", 1),
        ("ebpf/common/src/lib.rs", "", 0),
        ("agent/src/a.rs", "struct PodManager;", 1),
        ("agent/src/a.rs", "pub(crate) enum BuildInfo<T> {", 1),
        ("agent/src/a.rs", "struct Informer;", 0),
        ("agent/src/a.rs", "fn get_pod() {}", 1),
        ("agent/src/a.rs", "fn get_mut() {}", 0),
        ("agent/src/a.rs", "fn forget_pod() {}", 0),
    ] {
        assert_eq!(found(path, text).len(), want, "{path}: {text}");
    }
}

#[test]
fn a_file_opens_with_what_it_is_for() {
    assert!(rules::opening("a.rs", "//! A file.\n").is_none());
    for text in ["", "// A file.\n", "\n//! A file.\n", "#![no_std]\n//! A file.\n"] {
        assert!(rules::opening("a.rs", text).is_some(), "{text:?}");
    }
}

#[test]
fn paths_of_a_machine_are_found_in_text_and_in_objects() {
    let home = ["/ho", "me/ann/weir"].concat();
    let root = ["/ro", "ot/.cargo"].concat();
    for (text, want) in [
        (home.clone(), 1),
        (format!("path = \"{home}\""), 1),
        (format!("\u{0}ELF\u{1}\u{0}{root}\u{0}"), 1),
        (format!("a\nb\n{root}"), 1),
        (format!("/proc/1{root}"), 0),
        (format!("https://example.org{home}"), 0),
        (format!("{{pid}}{root}"), 0),
    ] {
        assert_eq!(rules::machine_paths("a", text.as_bytes()).len(), want, "{text:?}");
    }
    assert_eq!(rules::machine_paths("a", format!("a\nb\n{root}").as_bytes())[0].line, 3);
}

#[test]
fn a_member_inherits_the_lints() {
    for (text, inherits) in [
        ("[package]\n\n[lints]\nworkspace = true\n", true),
        ("[lints]\nworkspace=true", true),
        ("[package]\n", false),
        ("[lints]\n[dependencies]\nworkspace = true", false),
        ("[lints.rust]\nmissing_docs = \"warn\"", false),
    ] {
        assert_eq!(rules::inherited_lints("Cargo.toml", text).is_none(), inherits, "{text}");
    }
}

#[test]
fn the_changelog_has_a_place_for_what_is_to_come() {
    let found = |text: &str| documents::all("CHANGELOG.md", text, &[], &[]).len();
    assert_eq!(found("# Changelog\n\n## [Unreleased]\n"), 0);
    assert_eq!(found("# Changelog\n"), 1);
}

#[test]
fn the_architecture_lists_every_member() {
    let members = ["agent/Cargo.toml", "crates/io/net/Cargo.toml", "tests/testbed/Cargo.toml"].map(str::to_owned);
    let found = |text: &str| documents::all("ARCHITECTURE.md", text, &[], &members).len();
    assert_eq!(found("| `agent` | `crates/io/net` | `tests/**` |"), 0);
    assert_eq!(found("| `agents` | `crates/io/netlink` | `tests/**` |"), 2);
    assert_eq!(found("| `agent` | `crates/io/net` |"), 1);
}

#[test]
fn a_link_leads_to_a_file_of_the_repository() {
    let files = ["README.md", "docs/a.md", "docs/b.md"].map(str::to_owned);
    for (path, text, want) in [
        ("README.md", "see [a](docs/a.md), [b](docs/b.md#part)", 0),
        ("README.md", "see [a](a.md)", 1),
        ("README.md", "see [all](docs/) and [none](doc)", 1),
        ("docs/a.md", "see [b](b.md) and [top](../README.md)", 0),
        ("docs/a.md", "see [b](docs/b.md)", 1),
        ("docs/a.md", "see [b](#part) and [out](https://example.org/x.md)", 0),
        ("docs/a.md", "fine\n[b](gone.md)", 1),
    ] {
        assert_eq!(documents::all(path, text, &files, &[]).len(), want, "{path}: {text}");
    }
    assert_eq!(documents::all("docs/a.md", "fine\n[b](gone.md)", &files, &[])[0].line, 2);
}

#[test]
fn every_document_of_the_root_is_there_or_missed() {
    assert!(!documents::missing(&["README.md".to_owned()]).is_empty());
    assert!(documents::missing(&["README.md".to_owned()]).iter().all(|finding| finding.file != "README.md"));
}

#[test]
fn a_feature_names_a_test_that_there_is() {
    let sources = ["#[test]\nfn bytes_pass_both_ways() {}".to_owned()];
    for (row, want) in [
        ("| tunnels | `weir-hbone` | `bytes_pass_both_ways` |", 0),
        ("| tunnels | `weir-hbone` | `bytes_pass_one_way` |", 1),
        ("| `SO_MARK` | `weir-hbone` | `bytes_pass`, `bytes_pass_both` |", 1),
    ] {
        let found = documents::features_without_test(row, &sources);
        assert_eq!(found.len(), want, "{row}: {found:?}");
    }
}
