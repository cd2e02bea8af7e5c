//! Asking Python where its packages are.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use crate::engine::process;

/// Names of the interpreter, best first.
pub(super) const NAMES: [&str; 2] = ["python3", "python"];

/// Prints the folder of the package without importing it. The current folder, which `-c` puts on
/// the path, is taken off first: nothing that lies around there may be loaded.
const FIND_PACKAGE: &str = "\
import sys
sys.path = [p for p in sys.path if p]
import importlib.util
spec = importlib.util.find_spec('onnxruntime')
if spec and spec.submodule_search_locations:
    print(list(spec.submodule_search_locations)[0])
";

/// The folder of the `onnxruntime` package of the Python a shell would run.
pub(super) fn onnxruntime_package() -> Option<PathBuf> {
    let answer = NAMES
        .iter()
        .find_map(|name| ask(name.as_ref(), FIND_PACKAGE))?;
    let line = answer.lines().next()?.trim();
    (!line.is_empty()).then(|| PathBuf::from(line))
}

/// What a short script prints, or nothing: no such interpreter, an error, or no answer in time.
pub(super) fn ask(interpreter: &OsStr, script: &str) -> Option<String> {
    process::answer(Command::new(interpreter).args(["-c", script]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python() -> &'static OsStr {
        let mut names = NAMES.iter().map(OsStr::new);
        let found = names.find(|name| ask(name, "print(1)").is_some());
        found.expect("the tests need Python")
    }

    #[test]
    fn answers_and_failures_are_told_apart() {
        assert_eq!(ask(python(), "print('yes')").unwrap().trim(), "yes");
        assert_eq!(ask(python(), "raise SystemExit(3)"), None);
        assert_eq!(ask(OsStr::new("no-such-interpreter"), "print(1)"), None);
    }

    #[test]
    fn package_in_the_current_folder_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("onnxruntime");
        std::fs::create_dir(&package).unwrap();
        std::fs::write(package.join("__init__.py"), "").unwrap();
        let script = format!(
            "import os\nos.chdir({:?})\n{FIND_PACKAGE}",
            folder.path().to_string_lossy()
        );
        let answer = ask(python(), &script).unwrap();
        assert!(
            !answer.contains(&*folder.path().to_string_lossy()),
            "{answer}"
        );
    }
}
