//! The rules of the layers, on made-up graphs and on the real one.

use super::{Graph, Package, Room, check, violations};
use crate::metadata::{Metadata, root};

/// A graph out of (name, folder or "" if foreign, names used).
fn graph(packages: &[(&str, &str, &[&str])]) -> Graph {
    let position = |name: &str| packages.iter().position(|(other, ..)| *other == name).expect("a name of the table");
    Graph::new(
        packages
            .iter()
            .map(|(name, folder, uses)| Package {
                name: (*name).to_owned(),
                folder: (!folder.is_empty()).then(|| (*folder).to_owned()),
                uses: uses.iter().map(|used| position(used)).collect(),
            })
            .collect(),
    )
}

fn found(packages: &[(&str, &str, &[&str])]) -> Vec<String> {
    violations(&graph(packages)).iter().map(ToString::to_string).collect()
}

#[test]
fn the_workspace_keeps_its_layers() {
    let metadata = Metadata::load(&root()).unwrap();
    assert!(metadata.workspace_members.len() > 10, "cargo listed only {:?}", metadata.workspace_members);
    let found: Vec<String> = check(&metadata).unwrap().iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "forbidden dependencies:\n{}", found.join("\n"));
}

#[test]
fn the_real_graph_has_the_edges_it_is_known_to_have() {
    let graph = Graph::from_metadata(&Metadata::load(&root()).unwrap()).unwrap();
    let at = |name: &str| graph.packages().iter().position(|package| package.name == name).expect("a package");
    let reached: Vec<usize> =
        graph.paths_from(at("weir-world")).iter().map(|path| *path.last().expect("a path ends")).collect();
    assert!(reached.contains(&at("weir-model")), "weir-world does not reach weir-model");
    assert!(!reached.contains(&at("weir-agent")), "weir-world reaches weir-agent");
}

#[test]
fn every_arrow_between_rooms_is_allowed_or_refused_as_drawn() {
    let folders = ["crates/logic/a", "crates/wire", "crates/io/a", "ebpf/a", "agent", "waypoint", "cni", "tests/a"];
    // A row is who depends, a column is on whom, both in the order of `folders`.
    let drawn = [
        "y.......", // logic
        "y.......", // wire
        "yyyy....", // io
        "...y....", // ebpf
        "yyyy....", // agent
        "yyy.....", // another program
        "........", // the plugin
        "yyyyyyyy", // tests
    ];
    for (from, row) in folders.iter().zip(drawn) {
        for (to, cell) in folders.iter().zip(row.chars()) {
            let twin = format!("{to}x");
            let to = if from == to && *to != "crates/wire" && to.contains('/') { twin.as_str() } else { to };
            let found = found(&[("upper", from, &["lower"]), ("lower", to, &[])]);
            assert_eq!(found.is_empty(), cell == 'y', "{from} -> {to}: {found:?}");
        }
    }
}

#[test]
fn a_forbidden_dependency_is_found_through_others_and_printed_as_its_path() {
    let packages: &[(&str, &str, &[&str])] = &[
        ("weir-world", "crates/logic/world", &["weir-model"]),
        ("weir-model", "crates/logic/model", &["pretty"]),
        ("pretty", "", &["tokio"]),
        ("tokio", "", &[]),
    ];
    let want = [
        "weir-world -> weir-model -> pretty -> tokio: Logic must never reach tokio",
        "weir-model -> pretty -> tokio: Logic must never reach tokio",
    ];
    assert_eq!(found(packages), want);
}

#[test]
fn a_program_must_not_reach_ebpf_through_io_but_the_agent_may() {
    let below: [(&str, &str, &[&str]); 2] = [("io", "crates/io/a", &["loader"]), ("loader", "ebpf/loader", &[])];
    for (folder, want) in [("agent", None), ("control", Some("top -> io -> loader: Program must not depend on Ebpf"))] {
        let found = found(&[("top", folder, &["io"]), below[0], below[1]]);
        assert_eq!(found.first().map(String::as_str), want, "{folder}");
    }
}

#[test]
fn rustls_aya_and_anyhow_are_named_only_at_their_doors() {
    for (package, folder, foreign, allowed) in [
        ("weir-identity", "crates/io/identity", "rustls", true),
        ("weir-hbone", "crates/io/hbone", "rustls", true),
        ("weir-agent", "agent", "rustls", true),
        ("weir-jwks", "crates/io/jwks", "rustls", true),
        ("weir-origination", "crates/io/origination", "rustls", true),
        ("weir-waypoint", "waypoint", "rustls", false),
        ("weir-telemetry", "crates/io/telemetry", "rustls", false),
        ("weir-model", "crates/logic/model", "rustls", false),
        ("weir-ebpf-loader", "ebpf/loader", "aya", true),
        ("weir-agent", "agent", "aya", false),
        ("weir-agent", "agent", "anyhow", true),
        ("weir-hbone", "crates/io/hbone", "anyhow", false),
        ("weir-testbed", "tests/testbed", "anyhow", true),
        ("xtask", "xtask", "rustls", true),
    ] {
        let found = found(&[(package, folder, &[foreign]), (foreign, "", &[])]);
        assert_eq!(found.is_empty(), allowed, "{package} names {foreign}: {found:?}");
    }
}

#[test]
fn a_door_binds_only_those_who_name_it_themselves() {
    let packages: &[(&str, &str, &[&str])] = &[
        ("weir-agent", "agent", &["weir-ebpf-loader"]),
        ("weir-ebpf-loader", "ebpf/loader", &["aya"]),
        ("aya", "", &[]),
    ];
    assert_eq!(found(packages), Vec::<String>::new());
}

#[test]
fn a_package_in_no_room_is_a_violation() {
    let want = ["stray: ARCHITECTURE.md has no room \"crates/misc\""];
    assert_eq!(found(&[("stray", "crates/misc", &[])]), want);
    assert_eq!(Room::of("crates/logic"), None);
    assert_eq!(Room::of("tests/testbed"), Some(Room::Tests));
}

#[test]
fn circles_among_foreign_packages_end() {
    let packages: &[(&str, &str, &[&str])] =
        &[("weir-net", "crates/io/net", &["a"]), ("a", "", &["b"]), ("b", "", &["a"])];
    assert_eq!(found(packages), Vec::<String>::new());
}
