//! Runs tract code so that nothing it does ends the program or writes to the terminal.
//!
//! The panic hook is one per process: ours is put in front of whatever was there, stays silent for
//! threads that are inside [`run`] and for tract's own workers, and passes everything else on.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::thread;

use tract_linalg::multithread::{Executor, multithread_tract_scope};

/// Name of tract's worker threads, followed by a number.
pub(super) const WORKER: &str = "onnx-prune-tract";

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// Runs `work` with tract's matrix products on `executor`; a panic becomes an error.
pub(super) fn run<T>(
    executor: &Executor,
    work: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    HOOK.call_once(install_hook);
    // The scope does not restore the executor when it unwinds, so the catch is inside it. What
    // `work` borrows is not used after a panic: the session throws the plan away.
    multithread_tract_scope(executor.clone(), || {
        let before = GUARDED.replace(true);
        let caught = panic::catch_unwind(AssertUnwindSafe(work));
        GUARDED.set(before);
        caught.unwrap_or_else(|payload| Err(describe(payload.as_ref())))
    })
}

fn install_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let worker = thread::current()
            .name()
            .is_some_and(|name| name.starts_with(WORKER));
        if GUARDED.get() || worker {
            let place = info.location().map(ToString::to_string);
            PLACE.set(place.unwrap_or_default());
        } else {
            previous(info);
        }
    }));
}

/// The panic's message, and where in tract it happened.
fn describe(payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    let place = PLACE.take();
    let line = message.lines().next().unwrap_or_default();
    if place.is_empty() {
        format!("panicked: {line}")
    } else {
        // From the registry folder on, a path says which crate; what is before it is the machine.
        let short = place
            .rsplit_once("tract-")
            .map_or(place.as_str(), |(_, rest)| rest);
        format!("panicked: {line} (in tract-{short})")
    }
}
