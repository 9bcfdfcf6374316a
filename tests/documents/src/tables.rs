//! Sections of a document, and the tables in them.

/// What stands below one heading, up to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The heading, without its signs.
    pub title: String,
    /// Its line, from 1.
    pub line: usize,
    /// What stands below it.
    pub text: String,
}

impl Section {
    /// The rows of the table whose first heading is `first`: their cells, without back quotes around them. Heads and lines between are left out.
    #[must_use]
    pub fn rows(&self, first: &str) -> Vec<Vec<String>> {
        let cells = |line: &str| -> Vec<String> {
            let line = line.trim().trim_start_matches('|').trim_end_matches('|');
            line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        };
        let mut rows = Vec::new();
        let mut inside = false;
        for line in self.text.lines() {
            if !line.trim_start().starts_with('|') {
                inside = false;
                continue;
            }
            let row = cells(line);
            if row[0] == first {
                inside = true;
            } else if inside && !row[0].starts_with("---") {
                rows.push(row);
            }
        }
        rows
    }
}

/// The sections of a document below headings of the second level.
#[must_use]
pub fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section { title: title.to_owned(), line: at + 1, text: String::new() });
        } else if let Some(last) = sections.last_mut() {
            last.text.push_str(line);
            last.text.push('\n');
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_table_asked_for_are_read_and_no_others() {
        let text = "# T\n## One\n| from | to |\n| --- | --- |\n| `a/b` | c `d` |\n| | x |\n\n| other | |\n| --- | --- |\n| y | |\n## Two\nnothing\n";
        let found = sections(text);
        assert_eq!(
            found.iter().map(|one| (one.title.as_str(), one.line)).collect::<Vec<_>>(),
            [("One", 2), ("Two", 11)]
        );
        assert_eq!(found[0].rows("from"), [vec!["a/b", "c `d"], vec!["", "x"]]);
        assert!(found[1].rows("from").is_empty());
    }
}
