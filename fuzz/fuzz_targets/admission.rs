//! Reviews of admission: any bytes are answered or refused; an answer is JSON that says of the same review the same, and is short.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir_analyze::Review;
use weir_compile::Settings;
use weir_fuzz::settings;
use weir_manifest::{FileName, Object, parse};

const MESH: &str = include_str!("../../crates/logic/analyze/cases/mesh.yaml");

static OBJECTS: LazyLock<Vec<Object>> =
    LazyLock::new(|| parse(&[(FileName::new("mesh.yaml"), MESH)]).expect("the mesh is legal").into_objects().collect());

static SETTINGS: LazyLock<Settings> = LazyLock::new(settings);

fuzz_target!(|bytes: &[u8]| {
    let Ok(review) = Review::read(bytes) else { return };
    let verdict = review.judge(&SETTINGS, |_| OBJECTS.clone());
    assert_eq!(verdict, review.judge(&SETTINGS, |_| OBJECTS.clone()));
    assert!(verdict.warnings.iter().map(String::len).sum::<usize>() <= 4096);
    assert!(verdict.refused.len() <= 9);
    let answer: Value = serde_json::from_slice(&review.answer(&verdict)).expect("an answer is JSON");
    assert_eq!(answer["response"]["allowed"], verdict.refused.is_empty());
});
