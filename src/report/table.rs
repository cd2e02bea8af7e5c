//! The look of a table: names to the left, numbers to the right, no frame.

use comfy_table::{CellAlignment, Table, presets};

/// Renders rows below a header; all columns but the first are numbers.
pub(super) fn numbers(header: &[&str], rows: Vec<Vec<String>>) -> String {
    render(header, rows, CellAlignment::Right)
}

/// Renders rows of words below a header.
pub(super) fn words(header: &[&str], rows: Vec<Vec<String>>) -> String {
    render(header, rows, CellAlignment::Left)
}

/// A Markdown table; all columns but the first are numbers.
pub(super) fn markdown(header: &[String], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let rule = std::iter::once("---").chain(std::iter::repeat_n("---:", header.len() - 1));
    let rule = format!("|{}|", rule.collect::<Vec<_>>().join("|"));
    let rows = rows.iter().map(|row| line(row));
    let lines = [line(header), rule].into_iter().chain(rows);
    lines.collect::<Vec<_>>().join("\n")
}

fn render(header: &[&str], rows: Vec<Vec<String>>, alignment: CellAlignment) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    for (position, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if position > 0 {
            column.set_cell_alignment(alignment);
        }
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}
