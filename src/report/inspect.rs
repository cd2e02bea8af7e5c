//! What a model is made of, and what cutting it can gain; what differs between two.

use super::{
    bench::interval,
    numbers::{count, grouped, megabytes, seconds},
    table,
};
use crate::{
    head::{BORDER, Ending},
    pipeline::{DiffReport, Gain, InspectReport, InspectedLayer, Part, PartName, Reach},
};

/// Head, layers, shares, what a cut can gain, and the verdict.
pub fn inspected(report: &InspectReport) -> String {
    let head = &report.head;
    let mut blocks = vec![
        format!(
            "head: {} classes, {} in {:?}, from {}",
            count(head.classes),
            match head.ending {
                Ending::Logits => "logits",
                Ending::Softmax | Ending::Sigmoid => "probabilities",
                Ending::LogSoftmax => "logarithms of probabilities",
            },
            head.output,
            head.features.join(", ")
        ),
        layers(report),
        shares(report),
        gains(report),
    ];
    blocks.extend(Some(remarks(report)).filter(|text| !text.is_empty()));
    blocks.push(report.verdict.clone());
    blocks.join("\n\n")
}

fn layers(report: &InspectReport) -> String {
    let row = |layer: &InspectedLayer| {
        vec![
            layer.layer.name.clone(),
            count(layer.layer.width),
            layer.channels.map_or_else(String::new, count),
            match layer.made_by.is_empty() {
                true => "the trunk".to_owned(),
                false => layer.made_by.join(", "),
            },
            layer.read_by.join(", "),
        ]
    };
    let rows = report.layers.iter().map(row).collect();
    let header = ["layer", "neurons", "channels", "made by", "read by"];
    let mut text = table::words(&header, rows);
    for layer in &report.layers {
        for stop in &layer.boundaries {
            let (name, value, why) = (&layer.layer.name, &stop.value, &stop.why);
            text.push_str(&format!("\n{name}: {BORDER} {value:?}, because {why}"));
        }
    }
    text
}

fn shares(report: &InspectReport) -> String {
    let whole = report.parts.last();
    let row = |part: &Part| {
        let name = match part.part {
            PartName::Head => "head",
            PartName::Removable => "trunk that can shrink",
            PartName::Rest => "rest of the trunk",
            PartName::Whole => "whole model",
        };
        let mut row = vec![name.to_owned()];
        let shares = [
            (
                grouped(part.parameters),
                part.parameters,
                whole.map(|whole| whole.parameters),
            ),
            (
                megabytes(part.bytes),
                part.bytes,
                whole.map(|whole| whole.bytes),
            ),
            (
                millions(part.macs),
                part.macs,
                whole.map(|whole| whole.macs),
            ),
        ];
        for (text, size, whole) in shares {
            row.extend([text, percent(size as f64, whole.unwrap_or_default() as f64)]);
        }
        if let (Some(time), Some(all)) = (part.seconds, whole.and_then(|whole| whole.seconds)) {
            row.extend([seconds(time), percent(time, all)]);
        }
        row
    };
    let rows = report.parts.iter().map(row).collect();
    let mut header = vec!["", "parameters", "", "bytes", "", "MACs", ""];
    if whole.is_some_and(|whole| whole.seconds.is_some()) {
        header.extend(["time", ""]);
    }
    table::numbers(&header, rows)
}

fn gains(report: &InspectReport) -> String {
    let Some(whole) = report.parts.last() else {
        return String::new();
    };
    let timed = report.gains.iter().any(|gain| gain.ratio.is_some());
    let row = |gain: &Gain| {
        let kept = report.layers.iter().zip(&gain.kept);
        let kept = kept.map(|(layer, &kept)| format!("{} {}", layer.layer.name, count(kept)));
        let name = match gain.reach {
            Reach::Head => "head alone",
            Reach::Trunk => "head and trunk",
        };
        let left = |after: u64, before: u64| percent(after as f64, before as f64);
        let mut row = vec![
            format!("{name}: {}", kept.collect::<Vec<_>>().join(", ")),
            left(gain.parameters, whole.parameters),
            left(gain.bytes, whole.bytes),
            left(gain.macs, whole.macs),
        ];
        if let Some(ratio) = gain.ratio {
            row.push(format!("{:.1} %", 100.0 * ratio.median));
            row.push(interval(ratio));
        }
        row
    };
    let rows = report.gains.iter().map(row).collect();
    let mut header = vec!["left at best", "parameters", "bytes", "MACs"];
    if timed {
        header.extend(["time", "interval of the ratio"]);
    }
    table::numbers(&header, rows)
}

fn remarks(report: &InspectReport) -> String {
    let mut lines = Vec::new();
    for gain in &report.gains {
        for removal in &gain.removed {
            lines.push(format!(
                "{:?} can lose channels: {:?} -> {:?}",
                removal.node, removal.before, removal.after
            ));
        }
    }
    for stop in &report.stops {
        lines.push(format!("{:?} stays whole: {}", stop.value, stop.why));
    }
    if !report.not_counted.is_empty() {
        let operators = report.not_counted.iter();
        let operators = operators.map(|(name, number)| format!("{number} x {name}"));
        let operators: Vec<String> = operators.collect();
        lines.push(format!(
            "not counted among the MACs: {}",
            operators.join(", ")
        ));
    }
    if report.parts.iter().any(|part| part.seconds.is_some()) {
        lines.push(format!("times: batch {}, {}", report.batch, report.engine));
    }
    // Where the cut of the head ends was said below the layers.
    let said = |note: &&String| !note.contains(BORDER);
    lines.extend(report.notes.iter().filter(said).cloned());
    lines.join("\n")
}

/// What differs, in words.
pub fn compared(report: &DiffReport) -> String {
    if report.same {
        return "the models are the same in inputs, outputs, head, operators and weights"
            .to_owned();
    }
    let (a, b) = (&report.a, &report.b);
    let sizes = vec![
        vec![
            "parameters".to_owned(),
            grouped(a.parameters),
            grouped(b.parameters),
        ],
        vec!["bytes".to_owned(), grouped(a.bytes), grouped(b.bytes)],
    ];
    let mut rows = sizes;
    let neurons = |number: Option<usize>| number.map_or_else(absent, count);
    for layer in &report.layers {
        rows.push(vec![
            format!("neurons of {}", layer.name),
            neurons(layer.a),
            neurons(layer.b),
        ]);
    }
    for (operator, [before, after]) in &report.operators {
        rows.push(vec![
            format!("{operator} nodes"),
            count(*before),
            count(*after),
        ]);
    }
    for port in &report.ports {
        let text = |kind: &Option<String>| kind.clone().unwrap_or_else(absent);
        rows.push(vec![port.name.clone(), text(&port.a), text(&port.b)]);
    }
    let shape = |dims: &Option<Vec<i64>>| {
        dims.as_ref()
            .map_or_else(absent, |dims| format!("{dims:?}"))
    };
    for weight in &report.weights {
        let after = match weight.a == weight.b {
            true => "other values".to_owned(),
            false => shape(&weight.b),
        };
        rows.push(vec![weight.name.clone(), shape(&weight.a), after]);
    }
    let mut text = table::numbers(&["", "A", "B"], rows);
    for note in &report.notes {
        text.push_str(&format!("\n\n{note}"));
    }
    text
}

fn absent() -> String {
    "-".to_owned()
}

/// `15,346.6 M`: multiply-accumulates are counted in millions.
fn millions(number: u64) -> String {
    format!(
        "{}.{} M",
        grouped(number / 1_000_000),
        number % 1_000_000 / 100_000
    )
}

/// `89.4 %`, and two digits below one per cent.
fn percent(part: f64, whole: f64) -> String {
    if whole == 0.0 {
        return String::new();
    }
    let percent = 100.0 * part / whole;
    match percent {
        percent if percent >= 1.0 || percent == 0.0 => format!("{percent:.1} %"),
        percent if percent >= 0.005 => format!("{percent:.2} %"),
        _ => "0.00 %".to_owned(),
    }
}
