//! What a dashboard is made of, whatever shows it.

/// A dashboard.
pub(super) struct Dashboard {
    /// The name of its file, without an ending.
    pub(super) file: &'static str,
    /// What links and bookmarks know it by.
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) variables: Vec<Variable>,
    pub(super) rows: Vec<Row>,
}

/// Something a reader chooses, written `$name` in queries.
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) from: Choices,
}

/// Where choices come from.
pub(super) enum Choices {
    /// One value of a label among the series that a selector finds.
    One { selector: String, of: &'static str },
    /// Any number of them; all at first.
    Many { selector: String, of: &'static str },
    /// Any number of these words; those of the second list at first.
    Fixed { words: &'static [&'static str], first: &'static [&'static str] },
}

/// Panels under a title.
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

/// One picture.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) shape: Shape,
    pub(super) unit: Unit,
    pub(super) queries: Vec<Query>,
    /// Of 24 columns.
    pub(super) width: u8,
}

/// How a panel is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The last value, large.
    Number,
    /// A line for each series.
    Lines,
    /// A line for each set of labels, a column for each query.
    Table,
    /// The buckets of a histogram.
    Heat,
}

/// What numbers are. Grafana, `packages/grafana-data/src/valueFormats/categories.ts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    BytesPerSecond,
    Count,
    /// Of something that is no request.
    PerSecond,
    /// 0 to 1.
    Ratio,
    Requests,
    Seconds,
}

impl Unit {
    /// Grafana's word.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "Bps",
            Self::Count => "short",
            Self::PerSecond => "ops",
            Self::Ratio => "percentunit",
            Self::Requests => "reqps",
            Self::Seconds => "s",
        }
    }
}

/// One question.
pub(super) struct Query {
    pub(super) expr: String,
    /// With `{{label}}` for a label's value; the column's title in a table.
    pub(super) legend: String,
    /// Where it is not the panel's.
    pub(super) unit: Option<Unit>,
}

impl Row {
    pub(super) fn new(title: &'static str, panels: impl IntoIterator<Item = Panel>) -> Self {
        Self { title, panels: panels.into_iter().collect() }
    }
}

impl Panel {
    fn new(title: &'static str, shape: Shape, unit: Unit, width: u8, about: &'static str) -> Self {
        Self { title, about, shape, unit, queries: Vec::new(), width }
    }

    /// A line for each series, on a half of the page.
    pub(super) fn lines(title: &'static str, unit: Unit, about: &'static str) -> Self {
        Self::new(title, Shape::Lines, unit, 12, about)
    }

    /// One number, on a quarter of the page.
    pub(super) fn number(title: &'static str, unit: Unit, about: &'static str) -> Self {
        Self::new(title, Shape::Number, unit, 6, about)
    }

    /// A table over the whole page.
    pub(super) fn table(title: &'static str, about: &'static str) -> Self {
        Self::new(title, Shape::Table, Unit::Count, 24, about)
    }

    /// A heat map on a half of the page.
    pub(super) fn heat(title: &'static str, unit: Unit, about: &'static str) -> Self {
        Self::new(title, Shape::Heat, unit, 12, about)
    }

    /// The same, on so many of 24 columns.
    pub(super) fn wide(self, width: u8) -> Self {
        Self { width, ..self }
    }

    /// The same with one more question.
    pub(super) fn ask(mut self, legend: impl Into<String>, expr: impl Into<String>) -> Self {
        self.queries.push(Query { expr: expr.into(), legend: legend.into(), unit: None });
        self
    }

    /// The same with one more column.
    pub(super) fn column(mut self, title: &'static str, unit: Unit, expr: impl Into<String>) -> Self {
        self.queries.push(Query { expr: expr.into(), legend: title.to_owned(), unit: Some(unit) });
        self
    }
}

impl Dashboard {
    pub(super) fn panels(&self) -> impl Iterator<Item = (&Row, &Panel)> {
        self.rows.iter().flat_map(|row| row.panels.iter().map(move |panel| (row, panel)))
    }
}
