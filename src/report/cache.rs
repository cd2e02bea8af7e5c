//! `onnx-prune cache`.

use std::path::Path;

use super::{numbers::count, table};
use crate::{
    data::readable_bytes,
    features::{CacheEntry, Cleared},
};

/// Letters of a key that tell entries apart.
const SHORT_KEY: usize = 8;

/// One line per entry; `now` is in seconds since 1970.
pub fn cached(folder: &Path, entries: &[CacheEntry], now: u64) -> String {
    if entries.is_empty() {
        return format!("nothing is kept in {}", folder.display());
    }
    let header = ["", "samples", "on disk", "used", "model", "data"];
    let rows = entries.iter().map(|entry| row(entry, now)).collect();
    let mut text = table::words(&header, rows);
    for entry in entries {
        if let Some(problem) = &entry.problem {
            text.push_str(&format!("\n{}: of no use: {problem}", short(entry)));
        }
    }
    let bytes = entries.iter().map(|entry| entry.bytes).sum();
    format!(
        "{text}\n\n{} in {}",
        readable_bytes(bytes),
        folder.display()
    )
}

/// What was removed, and what was not.
pub fn cleared(folder: &Path, cleared: &Cleared) -> String {
    let entries = match cleared.removed {
        1 => "1 entry".to_owned(),
        removed => format!("{} entries", count(removed)),
    };
    let size = readable_bytes(cleared.bytes);
    let mut text = format!("removed {entries}, {size}, from {}", folder.display());
    for kept in &cleared.kept {
        text.push_str(&format!("\nkept: {kept}"));
    }
    text
}

fn row(entry: &CacheEntry, now: u64) -> Vec<String> {
    let name = |path: &Option<std::path::PathBuf>| {
        let path = path.as_ref();
        path.map_or_else(|| "-".to_owned(), |path| path.display().to_string())
    };
    vec![
        short(entry).to_owned(),
        format!("{} of {}", count(entry.present), count(entry.total)),
        readable_bytes(entry.bytes),
        ago(now.saturating_sub(entry.used)),
        name(&entry.model),
        name(&entry.data),
    ]
}

fn short(entry: &CacheEntry) -> &str {
    entry.key.get(..SHORT_KEY).unwrap_or(&entry.key)
}

fn ago(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let unit = UNITS.iter().find(|(size, _)| seconds >= *size);
    match unit.map(|(size, name)| (seconds / size, name)) {
        Some((1, name)) => format!("1 {name} ago"),
        Some((number, name)) => format!("{number} {name}s ago"),
        None => "now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_lines_and_broken_ones_say_why() {
        let whole = CacheEntry {
            key: "0123456789abcdef".to_owned(),
            model: Some("/m/vgg.onnx".into()),
            data: Some("/d/train.npz".into()),
            engine: Some("tract 0.23.9 on cpu, 2 threads".to_owned()),
            present: 1000,
            total: 60_000,
            bytes: 12_544_000,
            used: 1_000_000,
            problem: None,
        };
        let broken = CacheEntry {
            key: "fedcba9876543210".to_owned(),
            model: None,
            data: None,
            engine: None,
            present: 0,
            total: 0,
            bytes: 0,
            used: 0,
            problem: Some("manifest.json: expected value at line 1 column 1".to_owned()),
        };
        let folder = Path::new("/c");
        let now = 1_000_000 + 2 * 3600;
        insta::assert_snapshot!(cached(folder, &[whole, broken], now), @r"
                  samples          on disk   used         model        data
        01234567  1,000 of 60,000  12.0 MiB  2 hours ago  /m/vgg.onnx  /d/train.npz
        fedcba98  0 of 0           0 bytes   11 days ago  -            -
        fedcba98: of no use: manifest.json: expected value at line 1 column 1

        12.0 MiB in /c
        ");
        assert_eq!(cached(folder, &[], now), "nothing is kept in /c");
        let gone = Cleared {
            removed: 2,
            bytes: 2048,
            kept: vec!["/c/ab: another run is using it".to_owned()],
        };
        insta::assert_snapshot!(cleared(folder, &gone), @r"
        removed 2 entries, 2.0 KiB, from /c
        kept: /c/ab: another run is using it
        ");
    }

    #[test]
    fn ages_are_in_the_largest_whole_unit() {
        let cases = [
            (0, "now"),
            (59, "now"),
            (60, "1 minute ago"),
            (7300, "2 hours ago"),
            (86_400, "1 day ago"),
            (400 * 86_400, "400 days ago"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(ago(seconds), expected);
        }
    }
}
