//! The path of a request: whatever the text, it has one spelling or is refused, at every level.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_request::{NormalPath, Normalization, spelt};

fuzz_target!(|text: &str| {
    for level in [Normalization::Base, Normalization::MergeSlashes, Normalization::DecodeAndMergeSlashes] {
        let Ok(path) = NormalPath::read(text, level) else { continue };
        assert!(spelt(text, level).is_ok(), "a request may say what no rule could");
        let again = NormalPath::read(path.as_str(), level);
        assert_eq!(again.as_ref(), Ok(&path), "spelt anew it is another");
        for read in [path.as_str(), &path.as_served()] {
            assert!(read.starts_with('/') && read.is_ascii(), "{read:?} is no path");
            assert!(!read.split('/').any(|segment| matches!(segment, "." | "..")), "{read:?} has dots");
        }
        if level != Normalization::Base {
            assert!(!path.as_str().contains("//"), "{path:?} has slashes in a row");
        }
    }
});
