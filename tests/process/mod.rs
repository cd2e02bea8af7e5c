//! What the kernel counts of the process of a test.

use std::fs;

/// A line of what the kernel counts of the process, in bytes: `VmHWM`, the largest memory it has had
/// so far, or `RssAnon`, what it holds now that no file does.
pub(crate) fn status_bytes(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kib.expect("it is a number of kB") * 1024
}
