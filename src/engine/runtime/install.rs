//! Fetching the pinned ONNX Runtime from the Python package index.
//!
//! `pip` downloads the wheel (it knows the machine's platform, proxies, mirrors and checks the
//! hash); only the library and its licence texts are unpacked from it. Python is needed for this
//! once, not for running.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Serialize;
use zip::ZipArchive;

use super::discover::{Surroundings, is_library_name};
use super::python;
use crate::engine::ort::{NAME, minor_version};
use crate::error::{Error, Result};

/// The version that is fetched; other versions are used where they are found.
pub const PINNED: &str = "1.32.0";

/// What a wheel holds besides the library that has to go with it.
const LICENCES: [&str; 2] = ["LICENSE", "ThirdPartyNotices.txt"];

/// One wheel, no source, no questions. The library is the same in the wheels for all Pythons, and the
/// one that runs pip may be too old or too new for this version of the package.
const PIP_OPTIONS: [&str; 7] = [
    "--no-deps",
    "--only-binary=:all:",
    "--python-version",
    "3.12",
    "--disable-pip-version-check",
    "--no-input",
    "--quiet",
];

/// What [`install`] did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// The library.
    pub library: PathBuf,
    /// Its version.
    pub version: String,
    /// Whether it was fetched now; it was there already otherwise.
    pub fetched: bool,
}

/// Fetches the library into our data folder, unless it is there.
///
/// # Errors
/// [`Error::Engine`] when there is no Python with pip, when pip fails, or when the wheel holds no
/// library; [`Error::Io`] when the folder cannot be written.
pub fn install() -> Result<Installed> {
    let folder = Surroundings::of_this_process().data_folder();
    let folder = folder.ok_or_else(|| {
        failed("there is no home folder to install into; set ONNX_PRUNE_HOME".to_owned())
    })?;
    install_into(&folder)
}

/// Fetches the library into a folder of its version below `folder`, unless it is there.
///
/// # Errors
/// As [`install`].
pub fn install_into(folder: &Path) -> Result<Installed> {
    let place = folder.join(format!("onnxruntime-{PINNED}"));
    if let Some(library) = library_in(&place) {
        return Ok(installed(library, false));
    }
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    // In the same folder as the result, so that moving it there is one atomic step.
    let work = tempfile::Builder::new()
        .prefix(".install-")
        .tempdir_in(folder);
    let work = work.map_err(Error::io(folder))?;
    let wheel = download(work.path(), folder, |python| Command::new(python))?;
    let unpacked = work.path().join("unpacked");
    unpack(&wheel, &unpacked)?;
    let library = library_in(&unpacked).ok_or_else(|| {
        failed(format!(
            "the package {} holds no usable library",
            wheel.display()
        ))
    })?;
    match fs::rename(&unpacked, &place) {
        Ok(()) => Ok(installed(
            place.join(library.file_name().unwrap_or_default()),
            true,
        )),
        // Another process was faster: what it put there is as good.
        Err(error) => library_in(&place)
            .map(|library| installed(library, false))
            .ok_or(Error::Io {
                path: place,
                source: error,
            }),
    }
}

fn installed(library: PathBuf, fetched: bool) -> Installed {
    Installed {
        library,
        version: PINNED.to_owned(),
        fetched,
    }
}

/// A library in the folder that loads.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut files = entries.map(|entry| entry.path());
    files.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        is_library_name(&name) && minor_version(path).is_ok()
    })
}

fn download(into: &Path, home: &Path, interpreter: impl Fn(&str) -> Command) -> Result<PathBuf> {
    let package = format!("onnxruntime=={PINNED}");
    let by_hand = format!(
        "by hand: `pip download {package} --no-deps`, unzip the .whl file and put the library \
         from its onnxruntime/capi into {}",
        home.join(format!("onnxruntime-{PINNED}")).display()
    );
    let mut problem = "neither python3 nor python was found".to_owned();
    for name in python::NAMES {
        let output = interpreter(name)
            .args(["-m", "pip", "download", &package])
            .args(PIP_OPTIONS)
            .arg("--dest")
            .arg(into)
            .output();
        match output {
            Ok(output) if output.status.success() => return wheel_in(into),
            Ok(output) => {
                problem = format!("pip could not fetch {package}: {}", last_line(&output));
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => problem = format!("{name} does not start: {error}"),
        }
    }
    Err(failed(format!("{problem}; {by_hand}")))
}

/// The line in which pip or Python says what is wrong.
fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next_back().unwrap_or("it gave no reason").to_owned()
}

fn wheel_in(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?.flatten();
    let mut files = entries.map(|entry| entry.path());
    files
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| failed("pip reported success, but left no package".to_owned()))
}

/// Writes the library and the licence texts, by their bare names, into a new folder.
fn unpack(wheel: &Path, into: &Path) -> Result<()> {
    fs::create_dir(into).map_err(Error::io(into))?;
    let broken = |error: zip::result::ZipError| Error::Format {
        path: wheel.to_path_buf(),
        what: error.to_string(),
    };
    let file = File::open(wheel).map_err(Error::io(wheel))?;
    let mut archive = ZipArchive::new(file).map_err(broken)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let full = entry.name().map_err(broken)?.into_owned();
        let Some(name) = wanted(&full) else {
            continue;
        };
        let path = into.join(name);
        let mut target = File::create(&path).map_err(Error::io(&path))?;
        io::copy(&mut entry, &mut target).map_err(Error::io(&path))?;
        target.sync_all().map_err(Error::io(&path))?;
    }
    Ok(())
}

/// The bare name of a wheel's entry, if we keep it.
fn wanted(entry: &str) -> Option<&str> {
    let inside = entry.strip_prefix("onnxruntime/")?;
    if LICENCES.contains(&inside) {
        return Some(inside);
    }
    inside
        .strip_prefix("capi/")
        .filter(|name| is_library_name(name))
}

fn failed(what: String) -> Error {
    Error::Engine { engine: NAME, what }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::engine::testing::ort_library;

    /// A wheel with these entries.
    fn wheel(folder: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
        let path = folder.join("onnxruntime.whl");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in entries {
            archive
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
        path
    }

    #[test]
    fn only_library_and_licences_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = wheel(
            folder.path(),
            &[
                ("onnxruntime/LICENSE", b"terms"),
                ("onnxruntime/ThirdPartyNotices.txt", b"notices"),
                ("onnxruntime/__init__.py", b"code"),
                ("onnxruntime/capi/libonnxruntime.so.1.32.0", b"library"),
                (
                    "onnxruntime/capi/libonnxruntime_providers_shared.so",
                    b"provider",
                ),
                ("onnxruntime/capi/../../libonnxruntime.so", b"escape"),
                ("../onnxruntime/capi/libonnxruntime.so", b"escape"),
                ("onnxruntime/capi/sub/libonnxruntime.so", b"elsewhere"),
            ],
        );
        let into = folder.path().join("unpacked");
        unpack(&wheel, &into).unwrap();
        let mut names: Vec<_> = fs::read_dir(&into)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "LICENSE",
                "ThirdPartyNotices.txt",
                "libonnxruntime.so.1.32.0"
            ]
        );
        assert_eq!(
            fs::read(into.join("libonnxruntime.so.1.32.0")).unwrap(),
            b"library"
        );
    }

    #[test]
    fn broken_wheel_is_a_format_error() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("onnxruntime.whl");
        fs::write(&wheel, "not a zip").unwrap();
        let result = unpack(&wheel, &folder.path().join("unpacked"));
        assert!(matches!(result, Err(Error::Format { .. })), "{result:?}");
    }

    #[test]
    fn installed_library_is_found_again_without_fetching() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(format!("onnxruntime-{PINNED}"));
        fs::create_dir(&place).unwrap();
        let library = place.join(format!("libonnxruntime.so.{PINNED}"));
        fs::copy(ort_library(), &library).unwrap();
        let expected = Installed {
            library,
            version: PINNED.to_owned(),
            fetched: false,
        };
        assert_eq!(install_into(folder.path()).unwrap(), expected);
    }

    #[test]
    fn failing_pip_is_explained_with_the_way_by_hand() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = |_: &str| Command::new("no-such-interpreter");
        let error = download(folder.path(), folder.path(), nothing)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("neither python3 nor python was found"),
            "{error}"
        );
        assert!(
            error.contains(&format!("`pip download onnxruntime=={PINNED} --no-deps`")),
            "{error}"
        );
        // A Python without pip: an isolated one that cannot find any module of that name.
        let without_pip = |_: &str| {
            let mut command = Command::new("python3");
            command.args(["-c", "raise SystemExit('No module named pip')"]);
            command
        };
        let error = download(folder.path(), folder.path(), without_pip)
            .unwrap_err()
            .to_string();
        assert!(error.contains("No module named pip"), "{error}");
    }
}
