//! Spellings of paths: tables of what is read and what is refused, and the laws of normalisation.

use Normalization::{Base, DecodeAndMergeSlashes as Decode, MergeSlashes as Merge};
use proptest::prelude::*;

use super::*;

fn read(sent: &str, level: Normalization) -> Result<String, PathError> {
    NormalPath::read(sent, level).map(|path| path.as_str().to_owned())
}

#[test]
fn paths_have_one_spelling() {
    for (sent, base, merged, decoded) in [
        ("/", "/", "/", "/"),
        ("/a/b", "/a/b", "/a/b", "/a/b"),
        ("/a/b/", "/a/b/", "/a/b/", "/a/b/"),
        // Unreserved characters, and the case of escapes.
        ("/%61%2D%2e%5f%7e%30%5A", "/a-._~0Z", "/a-._~0Z", "/a-._~0Z"),
        ("/%c3%A9", "/%C3%A9", "/%C3%A9", "/%C3%A9"),
        ("/é{x}", "/%C3%A9%7Bx%7D", "/%C3%A9%7Bx%7D", "/%C3%A9%7Bx%7D"),
        ("/a%40b@c", "/a%40b@c", "/a%40b@c", "/a%40b@c"),
        // Once, not twice.
        ("/%252e%252e/%252f", "/%252e%252e/%252f", "/%252e%252e/%252f", "/%252e%252e/%252f"),
        // Dot segments.
        ("/a/../b", "/b", "/b", "/b"),
        ("/a/./b", "/a/b", "/a/b", "/a/b"),
        ("/a/%2e%2E/b", "/b", "/b", "/b"),
        ("/a/.%2e/b/%2e", "/b/", "/b/", "/b/"),
        ("/../../a", "/a", "/a", "/a"),
        ("/..", "/", "/", "/"),
        ("/.", "/", "/", "/"),
        ("/a/..", "/", "/", "/"),
        ("/a/b/..", "/a/", "/a/", "/a/"),
        ("/...", "/...", "/...", "/..."),
        ("/.well-known/..x", "/.well-known/..x", "/.well-known/..x", "/.well-known/..x"),
        // Dots are resolved before slashes are merged, as Istio does.
        ("/a//../b", "/a/b", "/a/b", "/a/b"),
        // Slashes.
        ("//a///b//", "//a///b//", "/a/b/", "/a/b/"),
        ("/a%2Fb%2fc", "/a%2Fb%2Fc", "/a%2Fb%2Fc", "/a/b/c"),
        ("/a%5cb", "/a%5Cb", "/a%5Cb", "/a/b"),
        ("/a%2f%2Fb", "/a%2F%2Fb", "/a%2F%2Fb", "/a/b"),
        ("\\a\\b", "/a/b", "/a/b", "/a/b"),
        ("/a\\..\\b", "/b", "/b", "/b"),
        // Parameters stay.
        ("/a;v=1/b;jsessionid=2", "/a;v=1/b;jsessionid=2", "/a;v=1/b;jsessionid=2", "/a;v=1/b;jsessionid=2"),
    ] {
        for (level, want) in [(Base, base), (Merge, merged), (Decode, decoded)] {
            assert_eq!(read(sent, level).as_deref(), Ok(want), "{sent:?} {level:?}");
        }
    }
    // Only resolved where an escaped slash is one.
    assert_eq!(read("/a%2F..%2Fb", Decode).as_deref(), Ok("/b"));
}

#[test]
fn paths_that_can_be_read_in_two_ways_are_refused() {
    use PathError::{Character, Escape, HiddenDots, NotAbsolute, Nul, TooLong};
    for (sent, want) in [
        ("", NotAbsolute),
        ("*", NotAbsolute),
        ("a/b", NotAbsolute),
        ("%2Fa", NotAbsolute),
        ("/a%", Escape { at: 2 }),
        ("/a%2", Escape { at: 2 }),
        ("/a%zz", Escape { at: 2 }),
        ("/%%32%66", Escape { at: 1 }),
        ("/%é0", Escape { at: 1 }),
        ("/a%00", Nul { at: 2 }),
        ("/a\0", Nul { at: 2 }),
        ("/a b", Character { at: 2, found: ' ' }),
        ("/a\r\nx", Character { at: 2, found: '\r' }),
        ("/a\x7f", Character { at: 2, found: '\x7f' }),
        ("/a#b", Character { at: 2, found: '#' }),
        ("/a?b", Character { at: 2, found: '?' }),
        ("/a%2F..%2Fb", HiddenDots),
        ("/a%2f%2e%2E/b", HiddenDots),
        ("/..%5Cb", HiddenDots),
        ("/a/..;/b", HiddenDots),
        ("/a/..;x=1/b", HiddenDots),
        ("/a/.%2e;/b", HiddenDots),
        ("/a/.;x", HiddenDots),
        ("/a/..%3b/b", HiddenDots),
    ] {
        assert_eq!(read(sent, Base), Err(want.clone()), "{sent:?}");
        assert_eq!(read(sent, Merge), Err(want), "{sent:?}");
    }
    assert_eq!(read("/a%2F..;%2Fb", Decode), Err(HiddenDots));
    let longest = "/".repeat(MAX_TARGET);
    assert_eq!(read(&longest, Merge).as_deref(), Ok("/"));
    assert_eq!(read(&format!("{longest}/"), Merge), Err(TooLong { len: MAX_TARGET + 1 }));
}

#[test]
fn an_application_may_drop_parameters_and_resolve_escapes() {
    for (sent, want) in [
        ("/admin", "/admin"),
        ("/admin;x", "/admin"),
        ("/admin;x/;y/z;=", "/admin/z"),
        ("/;x/admin", "/admin"),
        ("/admin/;x", "/admin/"),
        ("/;x", "/"),
        ("/a%40b%3Bc%2Bd", "/a@b;c+d"),
        ("/a%2Fb%5Cc%25d%C3%A9%0a", "/a%2Fb%5Cc%25d%C3%A9%0A"),
    ] {
        let path = NormalPath::read(sent, Base).unwrap();
        assert_eq!(path.as_served(), want, "{sent:?}");
    }
}

#[test]
fn what_is_written_into_a_rule_is_spelt_like_a_path() {
    for (text, level, want) in [
        ("/a%2fb", Base, Ok("/a%2Fb")),
        ("/a%2fb", Decode, Ok("/a/b")),
        ("/%61/..", Base, Ok("/a/..")),
        ("/ä", Base, Ok("/%C3%A4")),
        ("a", Base, Err(PathError::NotAbsolute)),
        ("/a?b", Base, Err(PathError::Character { at: 2, found: '?' })),
    ] {
        assert_eq!(spelt(text, level).as_deref(), want.as_ref().copied(), "{text:?}");
    }
}

#[test]
fn levels_have_istios_names() {
    for (text, want) in [
        ("DEFAULT", Some(Base)),
        ("BASE", Some(Base)),
        ("MERGE_SLASHES", Some(Merge)),
        ("DECODE_AND_MERGE_SLASHES", Some(Decode)),
        ("NONE", None),
        ("base", None),
    ] {
        assert_eq!(text.parse::<Normalization>().ok(), want, "{text}");
    }
    assert_eq!(Normalization::default(), Base);
}

fn level() -> impl Strategy<Value = Normalization> {
    prop_oneof![Just(Base), Just(Merge), Just(Decode)]
}

/// Paths of the pieces that matter.
fn path() -> impl Strategy<Value = String> {
    let pieces = [
        "/", "//", ".", "..", "a", "B", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", ";", ";x=1", "%3b", "%25", "%c3%a9",
        "é", "%41", "%00", "%", "@", "%40", "{",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12)
        .prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// The same path with the digits of its escapes in the other case.
fn other_case(path: &str) -> String {
    let mut left = 0;
    path.chars()
        .map(|c| match (left, c) {
            (0, '%') => {
                left = 2;
                c
            }
            (0, _) => c,
            (_, 'a'..='f') => {
                left -= 1;
                c.to_ascii_uppercase()
            }
            _ => {
                left -= 1;
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn a_path_spelt_anew_is_as_before(sent in path(), level in level()) {
        let Ok(once) = read(&sent, level) else { return Ok(()) };
        let again = NormalPath::read(&once, level);
        prop_assert_eq!(again.as_ref().map(NormalPath::as_str), Ok(once.as_str()));
    }

    #[test]
    fn no_dots_are_left_and_nothing_leaves_the_root(sent in path(), level in level()) {
        let Ok(path) = NormalPath::read(&sent, level) else { return Ok(()) };
        for text in [path.as_str(), &path.as_served()] {
            prop_assert!(text.starts_with('/'));
            prop_assert!(!text.split('/').any(|segment| matches!(segment, "." | "..")), "{}", text);
        }
        prop_assert!(path.as_str().bytes().all(|byte| is_allowed(byte) || matches!(byte, b'/' | b'%')));
        if level != Base {
            prop_assert!(!path.as_str().contains("//"));
        }
    }

    #[test]
    fn the_case_of_escapes_makes_no_difference(sent in path(), level in level()) {
        prop_assert_eq!(read(&sent, level), read(&other_case(&sent), level));
    }

    #[test]
    fn any_text_is_read_or_refused(sent in any::<String>(), level in level()) {
        let _read = read(&format!("/{sent}"), level);
    }
}
