//! Ctrl-C: the first asks the run to stop, so that temporary files go; the second ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

static SEEN: AtomicBool = AtomicBool::new(false);

/// Exit code of a process that did not even wait for its clean-up.
const AT_ONCE: i32 = 130;

/// Begins to listen.
pub(super) fn watch() {
    // Without a handler the system's own ends the run, which is a fine second best.
    let _ = ctrlc::set_handler(|| {
        if SEEN.swap(true, Ordering::Relaxed) {
            std::process::exit(AT_ONCE);
        }
    });
}

/// Whether Ctrl-C was pressed.
pub(super) fn seen() -> bool {
    SEEN.load(Ordering::Relaxed)
}
