//! A panel's lines as an SVG: no library, no font of its own, the same picture for the same numbers.

use std::fmt::Write;

use super::model::Unit;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
/// Space for numbers on the left, for the title above, for times and names below.
const LEFT: f64 = 74.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 16.0;
const BELOW: f64 = 30.0;
/// Between two names below.
const NAME: f64 = 18.0;
/// Lines across.
const STEPS: u32 = 4;
/// Names that fit; more lines than that would be no picture.
pub(super) const MOST_LINES: usize = 12;

const COLOURS: [&str; MOST_LINES] = [
    "#3a78c2", "#d9822b", "#3d9a50", "#c23a3a", "#8256b5", "#8a6d3b", "#d16ba5", "#6b7280", "#b5a642", "#2aa5a0",
    "#1f3b73", "#e0a800",
];

/// A line: its name, and its value at each second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    /// In the order of time.
    pub(super) points: Vec<(f64, f64)>,
}

/// The picture of at most [`MOST_LINES`] lines.
pub(super) fn svg(title: &str, unit: Unit, lines: &[Line]) -> String {
    let lines = &lines[..lines.len().min(MOST_LINES)];
    let points = || lines.iter().flat_map(|line| line.points.iter().copied()).filter(|(_, value)| value.is_finite());
    let (first, last) = points().fold((f64::MAX, f64::MIN), |(low, high), (at, _)| (low.min(at), high.max(at)));
    let most = match unit {
        Unit::Ratio => 1.0,
        Unit::Bytes | Unit::BytesPerSecond | Unit::Count | Unit::PerSecond | Unit::Requests | Unit::Seconds => {
            round_up(points().map(|(_, value)| value).fold(0.0, f64::max))
        }
    };
    let names = f64::from(u32::try_from(lines.len()).unwrap_or(u32::MAX)) * NAME;
    let (height, plot) = (HEIGHT + names, HEIGHT - TOP - BELOW);
    let x = |at: f64| LEFT + (at - first) / (last - first).max(1.0) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + plot * (1.0 - (value / most).clamp(0.0, 1.0));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n<text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    for step in 0..=STEPS {
        let value = most * f64::from(step) / f64::from(STEPS);
        let at = y(value);
        push(
            &mut text,
            format_args!(
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0,
                shown(value, unit)
            ),
        );
    }
    let below = TOP + plot + 20.0;
    if first <= last {
        push(
            &mut text,
            format_args!(
                "<text x=\"{LEFT}\" y=\"{below:.1}\" fill=\"#555\">0 s</text>\n<text x=\"{:.1}\" y=\"{below:.1}\" text-anchor=\"end\" fill=\"#555\">{:.0} s</text>\n",
                WIDTH - RIGHT,
                last - first
            ),
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number];
        let drawn = line.points.iter().filter(|(_, value)| value.is_finite()).map(|(at, value)| (x(*at), y(*value)));
        let path: Vec<String> = drawn.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let row = below + NAME * f64::from(u32::try_from(number + 1).unwrap_or(u32::MAX));
        push(
            &mut text,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>\n\
             <path d=\"M{LEFT} {:.1}h18\" stroke=\"{colour}\" stroke-width=\"4\"/>\n<text x=\"{:.1}\" y=\"{row:.1}\">{}</text>\n",
                path.join(" "),
                row - 4.0,
                LEFT + 26.0,
                escaped(&line.name)
            ),
        );
    }
    text + "</svg>\n"
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|step| step * power).find(|bound| *bound >= value).unwrap_or(value)
}

fn shown(value: f64, unit: Unit) -> String {
    let scaled = |steps: [(f64, &str); 4], tail: &str| {
        let found = steps.iter().find(|(bound, _)| value >= *bound);
        let (bound, letter) = found.copied().unwrap_or((1.0, ""));
        format!("{} {letter}{tail}", short(value / bound)).trim_end().to_owned()
    };
    let bytes = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    match unit {
        Unit::Bytes => scaled(bytes, "B"),
        Unit::BytesPerSecond => scaled(bytes, "B/s"),
        Unit::Count => scaled(bytes, ""),
        Unit::PerSecond | Unit::Requests => format!("{}/s", short(value)),
        Unit::Ratio => format!("{} %", short(value * 100.0)),
        Unit::Seconds => scaled([(86_400.0, "d"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")], ""),
    }
}

/// At most two digits behind the point, none that are zero.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_scales_are_round() {
        for (value, unit, want) in [
            (0.0, Unit::Requests, "0/s"),
            (12.5, Unit::Requests, "12.5/s"),
            (0.25, Unit::Ratio, "25 %"),
            (2_000.0, Unit::Bytes, "2 kB"),
            (0.0, Unit::BytesPerSecond, "0 B/s"),
            (0.005, Unit::Seconds, "5 ms"),
            (172_800.0, Unit::Seconds, "2 d"),
        ] {
            assert_eq!(shown(value, unit), want);
        }
        for (value, want) in [(0.0, 1.0), (f64::NAN, 1.0), (1.0, 1.0), (3.0, 5.0), (51.0, 100.0), (0.03, 0.05)] {
            assert!((round_up(value) - want).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }

    #[test]
    fn a_picture_has_a_line_and_a_name_for_each_series_and_stays_well_formed() {
        let line = |name: &str, points: &[(f64, f64)]| Line { name: name.to_owned(), points: points.to_vec() };
        let lines = [line("a <b> & c", &[(0.0, 1.0), (5.0, f64::NAN), (10.0, 2.0)]), line("empty", &[])];
        let text = svg("Requests", Unit::Requests, &lines);
        assert_eq!(text.matches("<polyline").count(), 2, "{text}");
        assert!(text.contains("a &lt;b&gt; &amp; c") && !text.contains("NaN"), "{text}");
        let many: Vec<Line> = (0..30).map(|n| line(&n.to_string(), &[(0.0, 1.0)])).collect();
        assert_eq!(svg("Many", Unit::Count, &many).matches("<polyline").count(), MOST_LINES);
    }
}
