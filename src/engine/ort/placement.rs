//! Which nodes run on the CPU although a device was asked for.
//!
//! ONNX Runtime gives a node that its CUDA provider has no kernel for to the CPU, and says so
//! nowhere but in its most talkative log, when a session is made. That log is read here, and thrown
//! away otherwise.

use std::sync::{Arc, Mutex, PoisonError};

use ::ort::logging::{LogLevel, LoggerFunction};

use crate::engine::OnCpu;

/// The function of ONNX Runtime that lists them, as it stands in the log's place.
const SOURCE: &str = "VerifyEachNodeIsAssignedToAnEp";

/// Begin of the lines about one provider; its name follows.
const HEADER: &str = "placed on [";

const CPU: &str = "CPUExecutionProvider";

/// A listener that writes what it hears into `on_cpu`.
pub(super) fn listener(on_cpu: OnCpu) -> LoggerFunction {
    let is_cpu = Mutex::new(false);
    Arc::new(
        move |_: LogLevel, _: &str, _: &str, place: &str, message: &str| {
            if place.contains(SOURCE) {
                let mut is_cpu = is_cpu.lock().unwrap_or_else(PoisonError::into_inner);
                hear(message, &mut is_cpu, &on_cpu);
            }
        },
    )
}

/// ` Node(s) placed on [CPUExecutionProvider]. Number of nodes: 2`, then `  Shape (/Shape_1)` for
/// each. Where all are on one provider, only `All nodes placed on [..]` is said.
fn hear(message: &str, is_cpu: &mut bool, on_cpu: &OnCpu) {
    if let Some((begin, rest)) = message.split_once(HEADER) {
        *is_cpu = rest.starts_with(CPU);
        if *is_cpu && begin.contains("All nodes") {
            let count = rest.rsplit(' ').next().and_then(|count| count.parse().ok());
            on_cpu.add("all nodes", count.unwrap_or(1));
        }
        return;
    }
    if *is_cpu && let Some((operator, _)) = message.trim().split_once(" (") {
        on_cpu.add(operator, 1);
    }
}

#[cfg(test)]
mod tests {
    use ::ort::session::Session;

    use super::*;
    use crate::engine::ort::{environment, session};
    use crate::engine::testing::ort_library;

    #[test]
    fn operators_on_the_cpu_are_counted() {
        let cases: [(&[&str], &str); 4] = [
            (
                &["All nodes placed on [CUDAExecutionProvider]. Number of nodes: 52"],
                "",
            ),
            (
                &[
                    "Node placements",
                    " Node(s) placed on [CUDAExecutionProvider]. Number of nodes: 2",
                    "  Conv (/conv)",
                    "  MemcpyFromHost (Memcpy)",
                    " Node(s) placed on [CPUExecutionProvider]. Number of nodes: 3",
                    "  Shape (/Shape)",
                    "  Gather (/Gather)",
                    "  Shape (/Shape_1)",
                    "Some nodes were not assigned to the preferred execution providers",
                ],
                "Gather, 2 Shape",
            ),
            (
                &["All nodes placed on [CPUExecutionProvider]. Number of nodes: 7"],
                "7 all nodes",
            ),
            (&["Node placements"], ""),
        ];
        for (lines, expected) in cases {
            let (on_cpu, mut is_cpu) = (OnCpu::default(), false);
            for line in lines {
                hear(line, &mut is_cpu, &on_cpu);
            }
            assert_eq!(on_cpu.to_string(), expected, "{lines:?}");
        }
    }

    /// What the library really writes, on the provider that every machine has.
    #[test]
    fn the_librarys_own_log_is_understood() {
        let loaded = environment::load(&ort_library()).unwrap();
        let on_cpu = OnCpu::default();
        let builder = Session::builder(&loaded.environment)
            .unwrap()
            .with_logger(listener(on_cpu.clone()))
            .unwrap()
            .with_log_level(LogLevel::Verbose)
            .unwrap();
        session::load(builder, &session::tiny_model()).unwrap();
        assert_eq!(on_cpu.to_string(), "all nodes");
    }
}
