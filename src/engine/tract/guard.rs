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
    let line = message.lines().next().unwrap_or_default();
    // From the crate's folder on a path says where in tract; what is before it is the machine's.
    match PLACE.take().rsplit_once("tract-") {
        Some((_, place)) => format!("panicked: {line} (tract-{place})"),
        None => format!("panicked: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn panics() -> Result<(), String> {
        panic!("index {} is out of range", 7)
    }

    #[test]
    fn panic_becomes_an_error_and_the_thread_goes_on() {
        let error = run(&Executor::SingleThread, panics).unwrap_err();
        assert_eq!(error, "panicked: index 7 is out of range");
        assert_eq!(run(&Executor::SingleThread, || Ok(1)), Ok(1));
        assert!(!GUARDED.get(), "panics outside are shown again");
    }

    #[test]
    fn panic_of_a_worker_is_caught_as_well() {
        let executor = Executor::multithread_with_name(2, WORKER);
        let Executor::MultiThread(pool) = &executor else {
            panic!("two threads make a pool");
        };
        let error = run(&executor, || pool.install(panics)).unwrap_err();
        assert_eq!(error, "panicked: index 7 is out of range");
    }

    #[test]
    fn caught_panics_write_nothing() {
        let this = std::env::current_exe().unwrap();
        let module = module_path!().split_once("::").unwrap().1;
        for name in [
            "panic_becomes_an_error_and_the_thread_goes_on",
            "panic_of_a_worker_is_caught_as_well",
        ] {
            let output = Command::new(&this)
                .args([&format!("{module}::{name}"), "--exact", "--nocapture"])
                .output()
                .unwrap();
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{output:?}"
            );
            assert!(
                String::from_utf8_lossy(&output.stdout).contains("1 passed"),
                "{output:?}"
            );
        }
    }
}
