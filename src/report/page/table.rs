//! Tables that scroll by themselves where they are too wide.

use super::text::escaped;

/// One cell.
pub(in super::super) struct Cell {
    text: String,
    /// Names of classes in the style sheet.
    class: &'static str,
}

impl Cell {
    /// A word.
    pub(in super::super) fn word(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            class: "",
        }
    }

    /// A number.
    pub(in super::super) fn number(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            class: "n",
        }
    }

    /// With these classes instead.
    pub(in super::super) fn with(self, class: &'static str) -> Self {
        Self { class, ..self }
    }
}

/// A header and rows; the first cell of a row is its heading.
pub(in super::super) struct Table {
    pub(in super::super) header: Vec<Cell>,
    pub(in super::super) rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(in super::super) fn html(&self) -> String {
        let class = |cell: &Cell| match cell.class {
            "" => String::new(),
            class => format!(" class=\"{class}\""),
        };
        let header = self.header.iter();
        let header = header.map(|cell| {
            format!(
                "<th scope=\"col\"{}>{}</th>",
                class(cell),
                escaped(&cell.text)
            )
        });
        let rows = self.rows.iter().map(|row| {
            let cells = row.iter().enumerate().map(|(at, cell)| {
                let (tag, scope) = match at {
                    0 => ("th", " scope=\"row\""),
                    _ => ("td", ""),
                };
                format!(
                    "<{tag}{scope}{}>{}</{tag}>",
                    class(cell),
                    escaped(&cell.text)
                )
            });
            format!("<tr>{}</tr>", cells.collect::<String>())
        });
        format!(
            "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Table\"><table><thead><tr>{}</tr></thead><tbody>\n{}\n</tbody></table></div>",
            header.collect::<String>(),
            rows.collect::<Vec<_>>().join("\n")
        )
    }
}
