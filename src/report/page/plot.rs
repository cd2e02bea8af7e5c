//! Lines and points over two axes, as a figure with its legend and its table.

use super::{
    STYLE,
    axis::{Axis, Scale},
    table::{Cell, Table},
    text::escaped,
};

/// Size of the drawing. Small, so that its text is still read where a telephone shrinks it.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 310.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 16.0;
/// Where lines are named at their ends.
const RIGHT_NAMED: f64 = 86.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// Distance of two names at the ends of lines.
const NAME_HEIGHT: f64 = 13.0;

/// Most columns of a table with a row per series.
const COLUMNS: usize = 12;

/// A figure.
pub(in super::super) struct Plot {
    /// What is to be seen, as plain text.
    pub(in super::super) caption: String,
    pub(in super::super) x: Axis,
    pub(in super::super) y: Axis,
    pub(in super::super) series: Vec<Series>,
    pub(in super::super) rules: Vec<Rule>,
    /// Points joined by steps behind all others, from left to right.
    pub(in super::super) front: Vec<(f64, f64)>,
}

/// Points that belong together.
pub(in super::super) struct Series {
    pub(in super::super) label: String,
    /// Its name at the end of the line, where it has one.
    pub(in super::super) name: Option<String>,
    pub(in super::super) style: Style,
    /// Whether its points are joined.
    pub(in super::super) line: bool,
    pub(in super::super) points: Vec<Point>,
}

/// Colour, dash and mark: any two of them tell series apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Style {
    /// Of the colours of the style sheet.
    pub(in super::super) colour: usize,
    /// Of [`DASHES`].
    pub(in super::super) dash: usize,
    pub(in super::super) mark: Mark,
    pub(in super::super) faint: bool,
}

/// Lengths of dashes and gaps.
const DASHES: [&str; 5] = ["", "6 3", "2 3", "8 3 2 3", "10 4"];

/// The shape of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Mark {
    #[default]
    Circle,
    Square,
    Triangle,
    Diamond,
    Down,
    Cross,
    /// Shown under the pointer alone.
    None,
}

/// One point.
pub(in super::super) struct Point {
    pub(in super::super) x: f64,
    pub(in super::super) y: f64,
    /// Smallest and largest of what it is the mean of.
    pub(in super::super) range: Option<(f64, f64)>,
    /// Its number in the table.
    pub(in super::super) value: String,
    /// What is said of it; plain text.
    pub(in super::super) label: String,
    /// Whether it is ringed.
    pub(in super::super) ringed: bool,
}

/// A line across the plot.
pub(in super::super) enum Rule {
    /// At a height.
    Across(f64, String),
    /// At a place.
    Up(f64, String),
}

impl Mark {
    fn path(self) -> &'static str {
        match self {
            Self::Circle => "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z",
            Self::Square => "M-3.2 -3.2h6.4v6.4h-6.4z",
            Self::Triangle => "M0 -4.2L4 3H-4z",
            Self::Diamond => "M0 -4.6L4.2 0L0 4.6L-4.2 0z",
            Self::Down => "M0 4.2L4 -3H-4z",
            Self::Cross => "M-3.2 -3.2L3.2 3.2M3.2 -3.2L-3.2 3.2",
            Self::None => "M0 0",
        }
    }
}

impl Style {
    fn class(self) -> String {
        let faint = if self.faint { " faint" } else { "" };
        format!("c{}{faint}", self.colour)
    }

    fn dash(self) -> String {
        match DASHES[self.dash % DASHES.len()] {
            "" => String::new(),
            dash => format!(" stroke-dasharray=\"{dash}\""),
        }
    }
}

/// The two scales of a drawing, and where it ends.
struct Frame {
    x: Scale,
    y: Scale,
    right: f64,
}

impl Plot {
    /// Whether there is nothing to be seen.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.is_empty())
    }

    /// The figure.
    pub(in super::super) fn html(&self) -> String {
        let caption = escaped(&self.caption);
        format!(
            "<figure class=\"plot\">\n<figcaption>{caption}</figcaption>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" tabindex=\"0\" aria-label=\"{caption}. Arrow keys read the points.\">\n{}</svg>\n\
             {}<details><summary>Numbers</summary>{}</details>\n</figure>",
            self.drawing(),
            self.legend(),
            self.table().html()
        )
    }

    /// The drawing as a file of its own, all lines named at their ends.
    pub(in super::super) fn svg(&self) -> String {
        let caption = escaped(&self.caption);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{caption}\">\n\
             <title>{caption}</title>\n<style>{STYLE}</style>\n<rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n{}</svg>",
            self.drawing()
        )
    }

    fn frame(&self) -> Frame {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let mut x: Vec<f64> = points().map(|point| point.x).collect();
        let mut y: Vec<f64> = points().map(|point| point.y).collect();
        for (low, high) in points().filter_map(|point| point.range) {
            y.extend([low, high]);
        }
        for rule in &self.rules {
            match rule {
                Rule::Across(at, _) => y.push(*at),
                Rule::Up(at, _) => x.push(*at),
            }
        }
        let named = self.series.iter().any(|series| series.name.is_some());
        let right = WIDTH - if named { RIGHT_NAMED } else { RIGHT };
        Frame {
            x: Scale::new(&self.x, &x, (LEFT, right)),
            y: Scale::new(&self.y, &y, (HEIGHT - BOTTOM, TOP)),
            right,
        }
    }

    fn drawing(&self) -> String {
        let frame = self.frame();
        let mut svg = self.axes(&frame);
        svg += &self.rules(&frame);
        for series in &self.series {
            svg += &band(series, &frame);
        }
        let steps = self.front.iter().enumerate().map(|(at, &(x, y))| {
            let (x, y) = (frame.x.place(x), frame.y.place(y));
            match at {
                0 => format!("M{x:.1} {y:.1}"),
                _ => format!("H{x:.1}V{y:.1}"),
            }
        });
        if !self.front.is_empty() {
            svg += &format!(
                "<path class=\"front\" d=\"{}\"/>\n",
                steps.collect::<String>()
            );
        }
        for (at, series) in self.series.iter().enumerate() {
            svg += &drawn(at, series, &frame);
        }
        svg + &self.names(&frame)
    }

    fn axes(&self, frame: &Frame) -> String {
        let (bottom, right) = (HEIGHT - BOTTOM, frame.right);
        let mut svg = String::new();
        for &tick in &frame.y.ticks {
            let y = frame.y.place(tick);
            svg += &format!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                LEFT - 6.0,
                y + 4.0,
                escaped(&self.y.written(tick))
            );
        }
        let ticks = frame.x.ticks.iter();
        let ticks: Vec<(f64, String)> = ticks
            .map(|&tick| (frame.x.place(tick), self.x.written(tick)))
            .collect();
        for (x, _) in &ticks {
            svg += &format!("<path class=\"grid\" d=\"M{x:.1} {bottom}v4\"/>");
        }
        svg += &spaced(ticks, "tick", bottom + 17.0);
        svg += &format!(
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\n\
             <text class=\"title middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n\
             <text class=\"title middle\" transform=\"translate(13 {:.1}) rotate(-90)\">{}</text>\n",
            (LEFT + right) / 2.0,
            HEIGHT - 8.0,
            escaped(self.x.title),
            (TOP + bottom) / 2.0,
            escaped(self.y.title)
        );
        svg
    }

    fn rules(&self, frame: &Frame) -> String {
        let (bottom, right) = (HEIGHT - BOTTOM, frame.right);
        let mut svg = String::new();
        let mut ups = Vec::new();
        for rule in &self.rules {
            match rule {
                // At the right, where lines have fallen.
                Rule::Across(at, label) => {
                    let y = frame.y.place(*at);
                    svg += &format!(
                        "<path class=\"rule\" d=\"M{LEFT} {y:.1}H{right}\"/><text class=\"note end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                        right - 2.0,
                        y - 5.0,
                        escaped(label)
                    );
                }
                Rule::Up(at, label) => {
                    let x = frame.x.place(*at);
                    svg += &format!("<path class=\"rule\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
                    ups.push((x, label.clone()));
                }
            }
        }
        svg + &spaced(ups, "note", TOP - 3.0)
    }

    /// Names at the ends of lines, moved apart where they would cover each other.
    fn names(&self, frame: &Frame) -> String {
        let ends = self.series.iter().filter_map(|series| {
            let name = series.name.as_ref()?;
            let places = series.points.iter();
            let places = places.map(|point| (frame.x.place(point.x), frame.y.place(point.y)));
            let (_, y) = places.reduce(|last, next| if next.0 > last.0 { next } else { last })?;
            Some((y, name, series.style))
        });
        let mut ends: Vec<_> = ends.collect();
        ends.sort_by(|one, other| one.0.total_cmp(&other.0));
        let wanted: Vec<f64> = ends.iter().map(|(y, ..)| *y).collect();
        let places = apart(&wanted, (TOP, HEIGHT - BOTTOM));
        let names = ends.iter().zip(places).map(|((_, name, style), y)| {
            format!(
                "<text class=\"name {}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                style.class(),
                frame.right + 8.0,
                y + 4.0,
                escaped(name)
            )
        });
        names.collect()
    }

    fn legend(&self) -> String {
        if self.series.len() < 2 {
            return String::new();
        }
        let entries = self.series.iter().enumerate().map(|(at, series)| {
            let line = match series.line {
                true => format!("<path class=\"line\" d=\"M1 7H27\"{}/>", series.style.dash()),
                false => String::new(),
            };
            format!(
                "<li><button type=\"button\" aria-pressed=\"true\" data-series=\"{at}\"><svg viewBox=\"0 0 28 14\" aria-hidden=\"true\" class=\"{}\">{line}<path class=\"mark\" transform=\"translate(14 7)\" d=\"{}\"/></svg>{}</button></li>",
                series.style.class(),
                series.style.mark.path(),
                escaped(&series.label)
            )
        });
        format!(
            "<ul class=\"legend\">{}</ul>\n",
            entries.collect::<String>()
        )
    }

    /// As many numbers as there are points.
    fn table(&self) -> Table {
        let points = self.series.iter().flat_map(|series| &series.points);
        let mut places: Vec<f64> = points.map(|point| point.x).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        if self.x.falling {
            places.reverse();
        }
        let once = |series: &Series| {
            let mut own: Vec<f64> = series.points.iter().map(|point| point.x).collect();
            own.sort_by(f64::total_cmp);
            own.windows(2).all(|pair| pair[0] < pair[1])
        };
        let shared = self.series.iter().all(once);
        match (shared, places.len() <= COLUMNS) {
            (true, true) => self.rows_of_series(&places),
            (true, false) if self.series.len() <= COLUMNS => self.rows_of_places(&places),
            _ => self.rows_of_points(),
        }
    }

    fn rows_of_series(&self, places: &[f64]) -> Table {
        let mut header = vec![Cell::word(self.x.title)];
        header.extend(places.iter().map(|&at| Cell::number(self.x.written(at))));
        let rows = self.series.iter().map(|series| {
            let mut row = vec![Cell::word(&series.label)];
            row.extend(places.iter().map(|&at| series.cell(at)));
            row
        });
        Table {
            header,
            rows: rows.collect(),
        }
    }

    fn rows_of_places(&self, places: &[f64]) -> Table {
        let mut header = vec![Cell::word(self.x.title)];
        header.extend(self.series.iter().map(|series| Cell::number(&series.label)));
        let rows = places.iter().map(|&at| {
            let mut row = vec![Cell::word(self.x.written(at))];
            row.extend(self.series.iter().map(|series| series.cell(at)));
            row
        });
        Table {
            header,
            rows: rows.collect(),
        }
    }

    fn rows_of_points(&self) -> Table {
        let header = [("", ""), (self.x.title, "n"), (self.y.title, "n")];
        let rows = self.series.iter().flat_map(|series| {
            series.points.iter().map(|point| {
                vec![
                    Cell::word(&series.label),
                    Cell::number(self.x.written(point.x)),
                    Cell::number(&point.value).with("n v"),
                ]
            })
        });
        Table {
            header: header
                .map(|(title, class)| Cell::word(title).with(class))
                .into(),
            rows: rows.collect(),
        }
    }
}

impl Series {
    fn cell(&self, at: f64) -> Cell {
        let point = self.points.iter().find(|point| point.x == at);
        match point {
            Some(point) => Cell::number(&point.value).with("n v"),
            None => Cell::number(""),
        }
    }
}

/// Words beside each other at a height; one that would run into its neighbour is left out.
fn spaced(mut words: Vec<(f64, String)>, class: &str, y: f64) -> String {
    words.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut svg, mut last) = (String::new(), f64::NEG_INFINITY);
    for (x, word) in words {
        // About as wide as its letters.
        let half = 3.4 * word.chars().count() as f64;
        if x - half > last {
            svg += &format!(
                "<text class=\"{class} middle\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n",
                escaped(&word)
            );
            last = x + half + 2.0;
        }
    }
    svg
}

/// From the smallest to the largest of several draws.
fn band(series: &Series, frame: &Frame) -> String {
    let ranged = series.points.iter();
    let ranged = ranged.filter_map(|point| Some((frame.x.place(point.x), point.range?)));
    let ranged: Vec<_> = ranged.collect();
    if ranged.len() < 2 {
        return String::new();
    }
    let place = |x: f64, y: f64| format!("{x:.1} {:.1}", frame.y.place(y));
    let upper = ranged.iter().map(|(x, (_, high))| place(*x, *high));
    let lower = ranged.iter().rev().map(|(x, (low, _))| place(*x, *low));
    let outline: Vec<String> = upper.chain(lower).collect();
    format!(
        "<path class=\"band {}\" d=\"M{}z\"/>\n",
        series.style.class(),
        outline.join("L")
    )
}

fn drawn(at: usize, series: &Series, frame: &Frame) -> String {
    let places = series.points.iter();
    let places: Vec<(f64, f64)> = places
        .map(|point| (frame.x.place(point.x), frame.y.place(point.y)))
        .collect();
    let mut svg = format!(
        "<g class=\"series {}\" data-series=\"{at}\">",
        series.style.class()
    );
    if series.line && places.len() > 1 {
        let corners = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}"));
        svg += &format!(
            "<path class=\"line\" d=\"M{}\"{}/>",
            corners.collect::<Vec<_>>().join("L"),
            series.style.dash()
        );
    }
    for (point, (x, y)) in series.points.iter().zip(places) {
        if point.ringed {
            svg += &format!("<circle class=\"ring\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\"/>");
        }
        svg += &format!(
            "<path class=\"point\" transform=\"translate({x:.1} {y:.1})\" d=\"{}\" data-label=\"{}\"/>",
            series.style.mark.path(),
            escaped(&point.label)
        );
    }
    svg + "</g>\n"
}

/// Sorted places, moved as little as needed to be [`NAME_HEIGHT`] apart and within the limits.
fn apart(wanted: &[f64], (low, high): (f64, f64)) -> Vec<f64> {
    let mut places = wanted.to_vec();
    for at in 1..places.len() {
        places[at] = places[at].max(places[at - 1] + NAME_HEIGHT);
    }
    let mut limit = high;
    for place in places.iter_mut().rev() {
        *place = place.min(limit).max(low);
        limit = *place - NAME_HEIGHT;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::{super::axis::Unit, *};

    fn point(x: f64, y: f64) -> Point {
        Point {
            x,
            y,
            range: None,
            value: format!("{y}"),
            label: format!("<{x}>"),
            ringed: false,
        }
    }

    fn plot(series: Vec<Vec<Point>>) -> Plot {
        let series = series.into_iter().enumerate().map(|(at, points)| Series {
            label: format!("</title> {at}"),
            name: (at == 0).then(|| "first".to_owned()),
            style: Style::default(),
            line: true,
            points,
        });
        Plot {
            caption: "A & B".to_owned(),
            x: Axis::logarithmic("keep", Unit::Plain).falling(),
            y: Axis::linear("accuracy", Unit::Percent),
            series: series.collect(),
            rules: vec![Rule::Across(92.0, "original".to_owned())],
            front: Vec::new(),
        }
    }

    #[test]
    fn a_table_has_as_many_numbers_as_the_plot_has_points() {
        let many = |count: usize| (1..=count).map(|at| point(at as f64, 1.0)).collect();
        let cases: [Vec<Vec<Point>>; 5] = [
            vec![
                vec![point(0.3, 91.0), point(0.1, 88.0)],
                vec![point(0.3, 90.0)],
            ],
            vec![many(40), many(39)],
            // twice at one place
            vec![vec![point(0.3, 91.0), point(0.3, 92.0)]],
            (0..20).map(|_| many(30)).collect(),
            vec![Vec::new()],
        ];
        for series in cases {
            let points: usize = series.iter().map(Vec::len).sum();
            let html = plot(series).html();
            assert_eq!(html.matches("class=\"point\"").count(), points);
            assert_eq!(html.matches("class=\"n v\"").count(), points);
            assert!(!html.contains("</title>") && !html.contains("<0.3>"));
        }
    }

    #[test]
    fn names_stay_apart_and_within() {
        let cases: [(&[f64], &[f64]); 4] = [
            (&[20.0, 60.0], &[20.0, 60.0]),
            (&[20.0, 22.0, 24.0], &[20.0, 33.0, 46.0]),
            (&[95.0, 96.0], &[87.0, 100.0]),
            (&[], &[]),
        ];
        for (wanted, expected) in cases {
            assert_eq!(apart(wanted, (14.0, 100.0)), expected, "{wanted:?}");
        }
    }
}
