//! Asking other programs, as separate processes that cannot hang us.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for an answer; a cold interpreter on a network disk takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look whether it has answered.
const PAUSE: Duration = Duration::from_millis(5);

/// What a program prints, or nothing: no such program, an error, or no answer in time.
///
/// For answers that fit a pipe: it is read once the program has ended.
pub(super) fn answer(command: &mut Command) -> Option<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begin = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begin.elapsed() < PATIENCE => thread::sleep(PAUSE),
            _ => {
                // Both may fail only because it has just ended.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let mut answer = String::new();
    child.stdout.take()?.read_to_string(&mut answer).ok()?;
    status.success().then_some(answer)
}
