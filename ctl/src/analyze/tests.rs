//! What is printed, what it ends with, and which files are read.

use std::{fs, path::Path};

use clap::Parser;

use super::*;
use crate::cli::{Arguments, Task};

const SHOP: &str = "apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypiont}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: cart}, ports: [{name: http, port: 80}]}
";
const ROUTE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec: {hosts: [cart], http: [{route: [{destination: {host: crat}}]}]}
";

/// What is printed of these files, and what it ends with. Names are those of the folder's own files.
fn said(files: &[(&str, &str)], flags: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    asked(folder.path(), flags)
}

fn asked(folder: &Path, flags: &[&str]) -> String {
    let shown = folder.to_str().unwrap();
    let words = ["weirctl", "analyze", shown].into_iter().chain(flags.iter().copied());
    let Task::Analyze(flags) = Arguments::try_parse_from(words).unwrap().task else { panic!("another task") };
    let (text, ends_with) = analyze(&flags).unwrap();
    format!("{text}(ends with {ends_with})\n").replace(&format!("{shown}/"), "").replace(shown, ".")
}

#[test]
fn findings_are_printed_as_people_and_programs_read_them() {
    let files = [("a.yaml", SHOP), ("b.yml", ROUTE)];
    insta::assert_snapshot!("table", said(&files, &[]));
    insta::assert_snapshot!("json", said(&files, &["-o", "json"]));
    insta::assert_snapshot!("yaml", said(&files, &["-o", "yaml"]));
    insta::assert_snapshot!(
        "nothing",
        said(&[("a.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: a}}")], &[])
    );
    insta::assert_snapshot!("damaged", said(&[("a.yaml", SHOP), ("b.yaml", "kind: [")], &[]));
}

#[test]
fn what_it_ends_with_says_how_bad_it_is() {
    let right = SHOP.replace("waypiont", "waypoint");
    let warned = [
        ("a.yaml", right.as_str()),
        (
            "b.yaml",
            "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: d, namespace: shop}, spec: {host: gone}}",
        ),
    ];
    let wrong = [("a.yaml", SHOP), ("b.yaml", ROUTE)];
    for (files, flags, want) in [
        (&warned, &[][..], 0),
        (&warned, &["--fail-on", "warning"], 79),
        (&warned, &["--failure-threshold", "info"], 79),
        (&wrong, &[], 79),
        (&wrong, &["-n", "other"], 0),
        (&wrong, &["-n", "shop"], 79),
        (&wrong, &["-S", "WEIR0004=Namespace shop"], 79),
        (&wrong, &["-S", "WEIR0004=*", "-S", "IST0101=VirtualService *.shop"], 0),
    ] {
        let text = said(files, flags);
        assert!(text.ends_with(&format!("(ends with {want})\n")), "{flags:?}: {text}");
    }
}

#[test]
fn an_annotation_of_an_object_suppresses_its_findings() {
    let quiet = ROUTE.replace("{name: cart,", "{name: cart, annotations: {galley.istio.io/analyze-suppress: IST0101},");
    let text = said(&[("a.yaml", &SHOP.replace("waypiont", "waypoint")), ("b.yaml", &quiet)], &[]);
    assert!(!text.contains("IST0101") && text.ends_with("(ends with 0)\n"), "{text}");
}

#[test]
fn files_are_found_and_what_cannot_be_read_is_said() {
    let files = [("a.yaml", SHOP), ("deep/b.yaml", ROUTE), (".hidden/c.yaml", "kind: ["), ("notes.txt", "kind: [")];
    assert!(!said(&files, &[]).contains("IST0101"));
    assert!(said(&files, &["-R"]).contains("(VirtualService shop/cart deep/b.yaml:4)"), "{}", said(&files, &["-R"]));
    let none = said(&[("notes.txt", "")], &[]);
    assert!(none.contains("no *.yaml") && none.ends_with("(ends with 65)\n"), "{none}");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("latin.yaml"), b"name: \xe9").unwrap();
    let text = asked(folder.path(), &[]);
    assert!(text.contains("latin.yaml: no UTF-8") && text.ends_with("(ends with 65)\n"), "{text}");
    let gone = asked(&folder.path().join("gone"), &[]);
    assert!(gone.contains("No such file") && gone.ends_with("(ends with 65)\n"), "{gone}");
    assert!(Arguments::try_parse_from(["weirctl", "analyze"]).is_err());
    assert!(Arguments::try_parse_from(["weirctl", "analyze", "-", "-S", "IST9999=a"]).is_err());
}
