//! Memory: how much is free, and errors that say there was too little.

use std::fs;

/// What ONNX Runtime, CUDA and its libraries say when an allocation fails, in lower case.
const TOO_LITTLE: [&str; 6] = [
    "failed to allocate memory",
    "out of memory",
    "alloc_failed",
    "bad_alloc",
    "available memory of",
    "cudaerrormemoryallocation",
];

/// Bytes of the computer's memory that can be had without swapping, where the system tells.
pub(super) fn free() -> Option<u64> {
    available(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// `MemAvailable: 123 kB` (proc(5)).
fn available(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Whether a runtime's error is about too little memory.
pub(super) fn is_too_little(text: &str) -> bool {
    let text = text.to_lowercase();
    TOO_LITTLE.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_kibibytes() {
        let cases = [
            ("MemTotal: 9 kB\nMemAvailable:   12 kB\n", Some(12 * 1024)),
            ("MemTotal: 9 kB\n", None),
            ("MemAvailable: much\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(available(text), expected, "{text:?}");
        }
    }

    #[test]
    fn words_about_memory_are_known() {
        let cases = [
            (
                "BFCArena::AllocateRawInternal(size_t) Failed to allocate memory for requested buffer of size 7",
                true,
            ),
            ("CUDA failure 2: out of memory ; GPU=0", true),
            ("CUBLAS_STATUS_ALLOC_FAILED", true),
            (
                "Non-zero status code returned while running Conv node",
                false,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(is_too_little(text), expected, "{text}");
        }
    }
}
