//! What a document says that a command prints, against what it prints.

/// Compares line by line. A line that is `…` stands for any number of lines, also none; `…` within a line for any text. After the last line of `says` more may
/// come. Blanks at the ends of lines do not count.
///
/// # Errors
/// The first line of `says` that is not there, and all that was printed.
pub fn matches(says: &str, printed: &str) -> Result<(), String> {
    let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
    let (mut at, mut skip) = (0, false);
    for want in says.lines().map(str::trim_end) {
        if want == "…" {
            skip = true;
            continue;
        }
        let found = lines[at..].iter().position(|line| fits(want, line));
        match found {
            Some(0) => at += 1,
            Some(after) if skip => at += after + 1,
            Some(_) | None => return Err(format!("expected the line\n  {want}\nin\n{printed}")),
        }
        skip = false;
    }
    Ok(())
}

/// Whether a line is as it is said, `…` being anything.
fn fits(want: &str, line: &str) -> bool {
    let mut parts = want.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_compared_and_dots_stand_for_anything() {
        let printed = "one 1 a\ntwo\n\nthree\n";
        for says in
            ["one 1 a", "one … a\ntwo", "…\nthree", "one 1 a  \n…\nthree", "…\n", "", "o…1…a\n…", "one 1 a\n…\ntwo"]
        {
            assert_eq!(matches(says, printed), Ok(()), "{says:?}");
        }
        for says in
            ["two", "one 1", "one 1 a\nthree", "…\nfour", "one … b", "…\nthree\n…\ntwo", "one 1 a\ntwo\n\nthree\nfour"]
        {
            assert!(matches(says, printed).is_err(), "{says:?}");
        }
    }
}
