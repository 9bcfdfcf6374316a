//! Which known name somebody may have meant.

/// The longest name that is compared, in characters: that of a host.
const LONGEST: usize = 253;

/// The known name that is most like the one that was given, if one is like it.
pub fn nearest(given: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    let given: Vec<char> = given.chars().take(LONGEST).collect();
    let most = (given.len() / 3).max(1);
    let ranked = known.into_iter().filter_map(|name| {
        let distance = distance(&given, &name.chars().take(LONGEST).collect::<Vec<_>>());
        (distance <= most).then_some((distance, name))
    });
    ranked.min().map(|(_, name)| name)
}

/// What is put behind an error, if somebody may have meant something else.
pub fn hint(meant: Option<&str>) -> String {
    meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"))
}

/// How many characters must be put in, taken out or changed to make one of the other. Levenshtein.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(other) {
            let changed = corner + usize::from(a != b);
            corner = *cell;
            left = changed.min(corner + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chars(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn what_is_like_it_is_found() {
        let known = ["cart.shop", "stock.shop", "web.front"].map(str::to_owned);
        for (given, want) in [
            ("crat.shop", Some("cart.shop")),
            ("stok.shop", Some("stock.shop")),
            ("cart.shop", Some("cart.shop")),
            ("web.fronte", Some("web.front")),
            ("database.backend", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, known.clone()).as_deref(), want, "{given}");
        }
        assert_eq!(hint(Some("a.b")), "; did you mean a.b?");
        assert_eq!(hint(None), "");
    }

    #[test]
    fn a_distance_counts_changes() {
        for (one, other, want) in [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0)] {
            assert_eq!(distance(&chars(one), &chars(other)), want, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn a_distance_is_one(one in "[ab]{0,8}", other in "[ab]{0,8}", third in "[ab]{0,8}") {
            let between = |a: &str, b: &str| distance(&chars(a), &chars(b));
            prop_assert_eq!(between(&one, &other), between(&other, &one));
            prop_assert_eq!(between(&one, &other) == 0, one == other);
            prop_assert!(between(&one, &third) <= between(&one, &other) + between(&other, &third));
        }
    }
}
