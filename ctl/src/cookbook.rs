//! docs/policy-cookbook.md does what it says: each recipe is read by the reader of manifests, and each row of its table asked of the code that decides.

use std::{fs, path::Path};

use clap::Parser;
use weir_documents::{Section, others, root, sections};
use weir_explain::Verdict;

use crate::{
    cli::{Arguments, Task},
    explain,
};

/// What a row asks, and what it says is answered.
struct Row {
    asks: Vec<String>,
    says: Verdict,
}

fn rows(recipe: &Section) -> Vec<Row> {
    let rows = recipe.rows("from").into_iter().map(|cells| {
        let [from, to, asks, with, says] = cells.as_slice() else { panic!("{}: {cells:?}", recipe.title) };
        let words =
            |flag: &str, value: &str| if value.is_empty() { vec![] } else { vec![flag.to_owned(), value.to_owned()] };
        let mut all = [words("--from", from), words("--to", to)].concat();
        match with.strip_prefix("--token ") {
            Some(file) => all.extend(words("--token", root().join(file).to_str().unwrap())),
            None => all.extend(words("-H", with)),
        }
        all.extend(Some(asks.clone()).filter(|asks| !asks.is_empty()));
        let says = match says.as_str() {
            "ALLOW" => Verdict::Allow,
            "DENY" => Verdict::Deny,
            _ => panic!("{}: {says:?} is no verdict", recipe.title),
        };
        Row { asks: all, says }
    });
    rows.collect()
}

/// The answer in a folder.
fn answer(folder: &Path, row: &Row) -> (Verdict, String) {
    let before = ["weirctl", "explain", "-f", folder.to_str().unwrap(), "-o", "json"].map(str::to_owned);
    let Task::Explain(way) = Arguments::try_parse_from(before.iter().chain(&row.asks)).unwrap().task else {
        panic!("another task")
    };
    let (text, _) = explain::explain(&way).unwrap_or_else(|error| panic!("{:?}: {error:#}", row.asks));
    let answer: weir_explain::Explained = serde_json::from_str(&text).unwrap();
    (answer.verdict, answer.reason)
}

/// A folder with the mesh, and what else there is to be in it.
fn folder(recipe: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(root().join("tests/cookbook/mesh.yaml"), folder.path().join("mesh.yaml")).unwrap();
    if !recipe.is_empty() {
        fs::write(folder.path().join("recipe.yaml"), recipe).unwrap();
    }
    folder
}

#[test]
fn each_recipe_decides_as_its_table_says() {
    let text = fs::read_to_string(root().join("docs/policy-cookbook.md")).unwrap();
    let recipes = sections(&text);
    assert!(recipes.len() >= 10, "{} recipes", recipes.len());
    for recipe in recipes {
        let title = &recipe.title;
        let yaml: String = others(&recipe.text, "yaml").into_iter().map(|(_, text)| text).collect();
        let rows = rows(&recipe);
        assert!(!rows.is_empty(), "{title} has no table");
        let (with, without) = (folder(&yaml), folder(""));
        let mut decides = false;
        for row in &rows {
            let (verdict, why) = answer(with.path(), row);
            assert_eq!(verdict, row.says, "{title}: {:?}: {why}", row.asks);
            let (before, why) = answer(without.path(), row);
            assert_eq!(before, Verdict::Allow, "{title}, without it: {:?}: {why}", row.asks);
            decides |= verdict == Verdict::Deny;
        }
        let dry = "  annotations: {istio.io/dry-run: \"true\"}\n";
        if yaml.contains(dry) {
            let meant = folder(&yaml.replace(dry, ""));
            assert!(
                rows.iter().all(|row| answer(meant.path(), row).0 == Verdict::Deny),
                "{title}: meant, it decides nothing"
            );
        } else {
            assert!(decides, "{title} denies nothing");
        }
    }
}
