//! How much memory this process has held at most, where the system tells.

use std::fs;

/// The largest resident set, mapped pages included, since the process began or since [`forget`]: `VmHWM`, proc(5).
pub(super) fn so_far() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    high_water_mark(&status)
}

/// Counts from what is held now. Where that cannot be done, the mark stays what it was.
pub(super) fn forget() {
    // 5 resets the mark, and nothing else (proc(5), clear_refs).
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn high_water_mark(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_in_kibibytes() {
        let cases = [
            (
                "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t  12 kB\nVmRSS: 1 kB\n",
                Some(12 * 1024),
            ),
            ("VmHWM: many kB", None),
            ("VmHWM: 12", None),
            ("", None),
        ];
        for (status, expected) in cases {
            assert_eq!(high_water_mark(status), expected, "{status:?}");
        }
    }
}
