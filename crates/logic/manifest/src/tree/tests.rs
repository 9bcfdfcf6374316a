//! Trees: scalars as Kubernetes reads them, bounds, and documents that do not hide each other.

use super::*;

fn only(text: &str) -> Result<Arc<Node>, Cause> {
    let (mut documents, more) = documents(text, 10);
    assert!(!more);
    assert_eq!(documents.len(), 1, "{text:?}");
    documents.remove(0).root.map_err(|(_, cause)| cause)
}

#[test]
fn a_plain_scalar_has_the_type_kubernetes_gives_it() {
    for (text, want) in [
        ("0.1", "Number(\"0.1\")"),
        ("'0.1'", "Text(\"0.1\")"),
        ("!!str 0.1", "Text(\"0.1\")"),
        ("80", "Int(80)"),
        ("-1", "Int(-1)"),
        ("0x50", "Int(80)"),
        ("0120", "Int(80)"),
        ("1_000", "Int(1000)"),
        ("99999999999999999999", "Number(\"99999999999999999999\")"),
        ("1.2.3", "Text(\"1.2.3\")"),
        ("10.0.0.7", "Text(\"10.0.0.7\")"),
        ("fd00::7", "Text(\"fd00::7\")"),
        ("2026-08-01T10:00:00Z", "Text(\"2026-08-01T10:00:00Z\")"),
        ("1e3", "Number(\"1e3\")"),
        ("infinity", "Text(\"infinity\")"),
        ("yes", "Bool(true)"),
        ("Off", "Bool(false)"),
        ("y", "Text(\"y\")"),
        ("~", "Null"),
        ("\"\"", "Text(\"\")"),
    ] {
        let node = only(&format!("a: {text}")).unwrap();
        let Value::Map(fields) = &node.value else { panic!("{text}") };
        assert_eq!(format!("{:?}", fields[0].1.value), want, "{text}");
    }
}

#[test]
fn an_alias_is_what_it_repeats() {
    let node = only("a: &x [1, 2]\nb: *x").unwrap();
    let Value::Map(fields) = &node.value else { panic!("no map") };
    assert!(Arc::ptr_eq(&fields[0].1, &fields[1].1));
}

#[test]
fn a_tree_that_would_unfold_beyond_bounds_is_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let last = i - 1;
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{last}"); 10].join(",")));
    }
    // Not `unwrap_err`, which would print what it unfolds to.
    assert_eq!(only(&bomb).err(), Some(Cause::TooManyNodes { max: MAX_NODES }));

    let mut tower = String::from("- &a0 [x]\n");
    for i in 1..300 {
        tower.push_str(&format!("- &a{i} [*a{}]\n", i - 1));
    }
    assert_eq!(only(&tower).unwrap_err(), Cause::TooDeep { max: MAX_DEPTH.into() });
    assert_eq!(only(&("[".repeat(200) + &"]".repeat(200))).unwrap_err(), Cause::TooDeep { max: MAX_DEPTH.into() });
}

#[test]
fn what_kubernetes_has_no_meaning_for_is_refused() {
    for (text, want) in [
        ("a: 1\nb: 2\na: 3", Cause::DuplicateKey { key: "a".into(), first: 1 }),
        ("[1, 2]: x", Cause::KeyNotText),
        ("a: !secret x", Cause::Tag { tag: "!secret".into() }),
        ("a: &x [*x]", Cause::AliasInsideItself),
    ] {
        assert_eq!(only(text).unwrap_err(), want, "{text}");
    }
    assert!(matches!(only("a: *nowhere").unwrap_err(), Cause::Syntax { .. }));
}

#[test]
fn a_broken_document_does_not_hide_the_next() {
    let (documents, _) = documents("a: 1\n---\nb: [1\n---\nc: {d: 1, d: 2}\n---\ne: 5\n", 10);
    let good: Vec<bool> = documents.iter().map(|document| document.root.is_ok()).collect();
    assert_eq!(good, [true, false, false, true]);
    let numbers: Vec<usize> = documents.iter().map(|document| document.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[test]
fn documents_beyond_the_limit_are_not_read_and_said_to_be_there() {
    let (read, more) = documents("a\n---\nb\n---\nc\n", 2);
    assert_eq!((read.len(), more), (2, true));
    let (read, more) = documents("a\n---\nb\n", 2);
    assert_eq!((read.len(), more), (2, false));
}

#[test]
fn json_is_read_too() {
    let node = only("{\n\t\"a\": [1, true, null, \"yes\"],\n\t\"b\": {\"c\": \"\\u00e9\"}\n}\n").unwrap();
    assert!(matches!(&node.value, Value::Map(fields) if fields.len() == 2));
}
