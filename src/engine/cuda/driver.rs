//! The NVIDIA driver of this machine, and what it says of its devices.

use std::env;
use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::engine::process;

/// The driver's library, which no package of CUDA brings.
pub(super) const LIBRARY: &str = if cfg!(windows) {
    "nvcuda.dll"
} else {
    "libcuda.so.1"
};

/// Where the kernel module says its version.
const VERSION: &str = "/proc/driver/nvidia/version";

/// What is known of the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Driver {
    /// Version, for example `580.65.06`; nothing where there is none.
    pub version: Option<String>,
    /// Why its library cannot be loaded.
    pub problem: Option<String>,
    /// What it computes on, as `nvidia-smi` lists it.
    pub devices: Vec<Device>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its name, for example `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Memory that nobody uses now.
    pub free_bytes: u64,
    /// All of its memory.
    pub total_bytes: u64,
}

impl Driver {
    /// Asks the system; loads the driver's library.
    pub(super) fn look() -> Self {
        let problem = super::load(LIBRARY).err();
        let version = fs::read_to_string(VERSION).ok();
        Self {
            version: version.as_deref().and_then(version_in),
            // A broken installation may make nvidia-smi wait for long.
            devices: match problem {
                None => devices(),
                Some(_) => Vec::new(),
            },
            problem,
        }
    }

    /// The first number of the version.
    pub(super) fn major(&self) -> Option<u32> {
        self.version.as_ref()?.split('.').next()?.parse().ok()
    }
}

/// Bytes that are free on a device, as CUDA counts devices.
pub(in crate::engine) fn free_memory(device: u32) -> Option<u64> {
    let found = devices();
    found.get(device as usize).map(|device| device.free_bytes)
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun ..`
fn version_in(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM"))?;
    let mut words = line.split_whitespace();
    let version = words
        .find(|word| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.'))?;
    Some(version.to_owned())
}

/// The devices that CUDA sees, in its order.
fn devices() -> Vec<Device> {
    let mut command = Command::new("nvidia-smi");
    command.args([
        "--query-gpu=name,memory.free,memory.total",
        "--format=csv,noheader,nounits",
    ]);
    if let Some(visible) = env::var_os("CUDA_VISIBLE_DEVICES").filter(|text| !text.is_empty()) {
        command.arg("--id").arg(visible);
    }
    let answer = process::answer(&mut command).unwrap_or_default();
    answer.lines().filter_map(device_in).collect()
}

/// `NVIDIA H100 80GB HBM3, 80994, 81559`, in MiB.
fn device_in(line: &str) -> Option<Device> {
    let mut parts = line.rsplitn(3, ',').map(str::trim);
    let mut bytes = || Some(parts.next()?.parse::<u64>().ok()? << 20);
    let (total_bytes, free_bytes) = (bytes()?, bytes()?);
    Some(Device {
        name: parts.next()?.to_owned(),
        free_bytes,
        total_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_says_its_version() {
        let cases = [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.12  Wed Sep 20\nGCC version: 12.2.0",
                Some("535.104.12"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build",
                Some("580.65.06"),
            ),
            ("GCC version:  gcc 12.2.0", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(version_in(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn devices_are_read_from_the_tools_table() {
        let cases = [
            (
                "NVIDIA H100 80GB HBM3, 80994, 81559",
                Some(("NVIDIA H100 80GB HBM3", 80994 << 20, 81559 << 20)),
            ),
            ("A, B, 1, 2", Some(("A, B", 1 << 20, 2 << 20))),
            ("No devices were found", None),
            ("NVIDIA GH200, [N/A], [N/A]", None),
        ];
        for (line, expected) in cases {
            let found = device_in(line);
            let found = found
                .as_ref()
                .map(|found| (found.name.as_str(), found.free_bytes, found.total_bytes));
            assert_eq!(found, expected, "{line}");
        }
    }
}
