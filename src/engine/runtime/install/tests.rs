use std::cell::RefCell;
use std::io::Write;

use zip::write::SimpleFileOptions;

use super::super::wheels::{PINNED, PINNED_CUDA};
use super::*;
use crate::engine::cuda::Cuda;
use crate::engine::testing::ort_library;

/// A wheel with these entries.
fn wheel(folder: &Path, name: &str, entries: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.join(name);
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

/// Every file below a folder, in order.
fn files(folder: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(inside) = folders.pop() {
        for entry in fs::read_dir(inside).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    let names = found.iter();
    names
        .map(|path| path.to_str().unwrap().to_owned())
        .collect()
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
    let fails = |interpreter: &dyn Fn(&str) -> Command| {
        let wheel = Build::Cpu.wheels()[0];
        let failed = download(Build::Cpu, wheel, folder.path(), folder.path(), interpreter);
        failed.unwrap_err().to_string()
    };
    let error = fails(&|_| Command::new("no-such-interpreter"));
    assert!(
        error.contains("neither python3 nor python was found"),
        "{error}"
    );
    assert!(
        error.contains(&format!("`pip download onnxruntime=={PINNED} --no-deps`")),
        "{error}"
    );
    // A Python without pip: an isolated one that cannot find any module of that name.
    let error = fails(&|_| {
        let mut command = Command::new("python3");
        command.args(["-c", "raise SystemExit('No module named pip')"]);
        command
    });
    assert!(error.contains("No module named pip"), "{error}");
}

#[test]
fn a_full_disk_is_noticed_beforehand() {
    let folder = Path::new("/data/runtime");
    let said = RefCell::new(String::new());
    let say = |text: &str| *said.borrow_mut() = text.to_owned();
    for (free, fits) in [
        (Some(Build::Cuda.room()), true),
        (Some(Build::Cuda.room() - 1), false),
        (Some(0), false),
        // nobody knows
        (None, true),
    ] {
        let found = check_room(Build::Cuda, folder, free, &say);
        assert_eq!(found.is_ok(), fits, "{free:?}");
        if let Err(error) = found {
            let text = error.to_string();
            assert!(
                text.contains("2.8 GiB are needed in /data/runtime"),
                "{text}"
            );
        }
        let said = said.borrow();
        assert!(
            said.starts_with("a download of 1.5 GiB; 2.3 GiB stay"),
            "{said}"
        );
    }
}

/// The layout of NVIDIA's wheels, in small: everything lands where it is looked for.
#[test]
fn cuda_comes_with_the_libraries_it_needs() {
    let root = tempfile::tempdir().unwrap();
    let index = root.path().join("index");
    fs::create_dir(&index).unwrap();
    let runtime = fs::read(ort_library()).unwrap();
    let library = format!("onnxruntime/capi/libonnxruntime.so.{PINNED_CUDA}");
    for package in Build::Cuda.wheels() {
        let name = package.package.replace('-', "_");
        let licence = format!("{name}-1.dist-info/licenses/License.txt");
        let own = format!("nvidia/cu13/lib/lib{name}.so.13");
        let provider = "onnxruntime/capi/libonnxruntime_providers_cuda.so";
        let entries: &[(&str, &[u8])] = match package.package {
            "onnxruntime-gpu" => &[(&library, &runtime), (provider, b"provider")],
            _ => &[(&own, b"library"), (&licence, b"terms")],
        };
        wheel(&index, &format!("{}.whl", package.package), entries);
    }
    // pip, as far as we use it: `-m pip download PACKAGE==VERSION .. --dest DIR`.
    let script = format!("cp {}/${{4%%==*}}.whl \"${{@: -1}}\"", index.display());
    let pip = |_: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", &script, "pip"]);
        command
    };
    let home = root.path().join("home");
    let said = RefCell::new(Vec::new());
    let say = |text: &str| said.borrow_mut().push(text.to_owned());
    let found = install_build(Build::Cuda, &home, &say, pip).unwrap();
    assert!(found.fetched);
    assert_eq!(found.version, PINNED_CUDA);
    assert_eq!(said.borrow().len(), 1 + Build::Cuda.wheels().len());
    let there = files(&home);
    for expected in [
        format!("onnxruntime-gpu-{PINNED_CUDA}/libonnxruntime.so.{PINNED_CUDA}"),
        format!("onnxruntime-gpu-{PINNED_CUDA}/libonnxruntime_providers_cuda.so"),
        format!("onnxruntime-gpu-{PINNED_CUDA}/nvidia/cu13/lib/libnvidia_cublas.so.13"),
        format!("onnxruntime-gpu-{PINNED_CUDA}/LICENSE.nvidia_cublas-1"),
    ] {
        assert!(there.contains(&expected), "no {expected} in {there:?}");
    }
    assert_eq!(there.len(), 2 + 2 * (Build::Cuda.wheels().len() - 1));
    // A second time, nothing is fetched; and without a driver that is what is missing.
    let again = install_build(Build::Cuda, &home, &|_| {}, |_| Command::new("none")).unwrap();
    assert!(!again.fetched);
    assert!(Cuda::look(Some(&again.library)).libraries.is_empty());
}
