//! What runs where, for the terminal and for every report.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What runs where, for the terminal and for every report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// `tract` or `onnxruntime`.
    pub name: &'static str,
    /// Version of the runtime.
    pub version: String,
    /// `cpu` or `cuda:0`.
    pub provider: String,
    /// The shared library, where the engine is one.
    pub library: Option<PathBuf>,
    /// Threads that compute.
    pub threads: usize,
    /// Of products on a device; a CPU has one precision only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Nodes that run on the CPU although a device was asked for.
    #[serde(skip_serializing_if = "OnCpu::is_empty")]
    pub on_cpu: OnCpu,
}

/// Reports are read again where scores come from a file.
impl<'de> Deserialize<'de> for EngineInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Owned {
            name: String,
            version: String,
            provider: String,
            library: Option<PathBuf>,
            threads: usize,
            #[serde(default)]
            precision: Option<Precision>,
            #[serde(default)]
            on_cpu: BTreeMap<String, usize>,
        }
        let found = Owned::deserialize(deserializer)?;
        let mut known = ["tract", "onnxruntime"].into_iter();
        let name = known.find(|known| *known == found.name).ok_or_else(|| {
            serde::de::Error::custom(format!("{:?} is no engine of this program", found.name))
        })?;
        Ok(Self {
            name,
            version: found.version,
            provider: found.provider,
            library: found.library,
            threads: found.threads,
            precision: found.precision,
            on_cpu: OnCpu(Arc::new(Mutex::new(found.on_cpu))),
        })
    }
}

impl EngineInfo {
    /// tract with two threads, for tests of reports.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            name: "tract",
            version: "0.23.9".to_owned(),
            provider: "cpu".to_owned(),
            threads: 2,
            ..Self::default()
        }
    }

    /// The provider, and the precision where there is a choice: all that decides about numbers.
    pub fn place(&self) -> String {
        match self.precision {
            Some(Precision::Tf32) => format!("{} in tf32", self.provider),
            Some(Precision::Fp32) | None => self.provider.clone(),
        }
    }
}

impl fmt::Display for EngineInfo {
    /// `onnxruntime 1.32.0 on cpu, 2 threads`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = match self.threads {
            1 => "1 thread".to_owned(),
            count => format!("{count} threads"),
        };
        let place = self.place();
        write!(f, "{} {} on {place}, {threads}", self.name, self.version)?;
        match self.on_cpu.is_empty() {
            true => Ok(()),
            false => write!(f, ", but {} on the cpu", self.on_cpu),
        }
    }
}

/// How exact products of f32 are on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// As the model says.
    #[default]
    Fp32,
    /// Factors are rounded to 10 bits first: faster, and not the arithmetic of the model.
    Tf32,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fp32" => Ok(Self::Fp32),
            "tf32" => Ok(Self::Tf32),
            _ => Err("expected fp32 or tf32".to_owned()),
        }
    }
}

/// Nodes that run on the CPU although a device was asked for, counted by operator.
///
/// All copies share one count, so that a report made at the end knows of every session.
#[derive(Clone, Debug, Default)]
pub struct OnCpu(Arc<Mutex<BTreeMap<String, usize>>>);

impl OnCpu {
    /// Whether every node is where it was asked for.
    pub fn is_empty(&self) -> bool {
        self.counts().is_empty()
    }

    pub(super) fn add(&self, operator: &str, count: usize) {
        *self.counts().entry(operator.to_owned()).or_default() += count;
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for OnCpu {
    fn eq(&self, other: &Self) -> bool {
        // One after the other: both may be the same.
        let ours = self.counts().clone();
        ours == *other.counts()
    }
}

impl Eq for OnCpu {}

impl Serialize for OnCpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.counts().serialize(serializer)
    }
}

impl fmt::Display for OnCpu {
    /// `Gather, 2 Shape`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let named = counts.iter().map(|(operator, count)| match count {
            1 => operator.clone(),
            count => format!("{count} {operator}"),
        });
        f.write_str(&named.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_hears_what_comes_later() {
        let info = EngineInfo {
            name: "onnxruntime",
            provider: "cuda:0".to_owned(),
            precision: Some(Precision::Fp32),
            ..EngineInfo::default()
        };
        let copy = info.clone();
        let json = |info| serde_json::to_value(info).unwrap();
        assert!(json(&copy).get("on_cpu").is_none());
        info.on_cpu.add("Shape", 2);
        info.on_cpu.add("Gather", 1);
        assert_eq!(
            copy.to_string(),
            "onnxruntime  on cuda:0, 0 threads, but Gather, 2 Shape on the cpu"
        );
        assert_eq!(json(&copy)["on_cpu"]["Shape"], 2);
        assert_eq!(json(&copy)["precision"], "fp32");
        assert_eq!(copy, info);
    }

    #[test]
    fn only_what_changes_numbers_changes_the_place() {
        let place = |precision| {
            let info = EngineInfo {
                provider: "cuda:1".to_owned(),
                precision,
                ..EngineInfo::default()
            };
            info.place()
        };
        assert_eq!(place(None), "cuda:1");
        assert_eq!(place(Some(Precision::Fp32)), "cuda:1");
        assert_eq!(place(Some(Precision::Tf32)), "cuda:1 in tf32");
    }
}
