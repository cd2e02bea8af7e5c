use super::super::fixtures::{
    declared_png, folder, gzip, idx, npy, npz, options, png, read_all, repository, tar, tar_header,
};
use crate::Error;

/// A small file of every format, and the input it feeds.
fn files() -> Vec<(&'static str, Vec<u8>, Vec<usize>)> {
    let fixture = |path: &str| std::fs::read(repository(path)).unwrap();
    let web = fixture("tests/data/webdataset.tar");
    let record = [vec![3], vec![200; 3072]].concat();
    let cifar = tar(&[
        ("cifar-10-batches-bin/test_batch.bin", &record),
        ("cifar-10-batches-bin/batches.meta.txt", b"a\nb\nc\nd\n"),
    ]);
    let image = vec![3, 16, 16];
    vec![
        ("a.tar", web.clone(), image.clone()),
        ("a.tar.gz", gzip(&web), image.clone()),
        ("cifar.tar.gz#test", gzip(&cifar), vec![3, 32, 32]),
        ("cifar.tar#test", cifar, vec![3, 32, 32]),
        (
            "test_batch",
            fixture("tests/data/cifar-batch.pickle"),
            vec![3, 32, 32],
        ),
        (
            "a.pb",
            fixture("tests/data/model-zoo/test_data_set_0/input_0.pb"),
            vec![3, 2, 2],
        ),
        (
            "a.csv",
            b"path,label\na.png,1\nb/c.png,2\n".to_vec(),
            image.clone(),
        ),
        ("a.npy", npy("<f4", false, "2, 2", &[0; 16]), vec![2]),
        (
            "a.npz",
            npz(&[("x.npy", npy("|u1", false, "2, 2", &[0; 4]))]),
            vec![2],
        ),
        ("a.idx", idx(8, &[2, 2], &[0; 4]), vec![2]),
        (
            "a.parquet",
            fixture("tests/data/hugging-face.parquet"),
            image,
        ),
    ]
}

/// Half of the changes hit the first 600 bytes, where the structure of most formats is.
#[test]
fn changed_or_missing_bytes_of_any_format_are_errors_at_most() {
    let mut state = 11_u32;
    let mut draw = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below.max(1)
    };
    let mut wrong = vec![];
    for (name, whole, input) in files() {
        let place = name.split('#').next().unwrap();
        let folder = folder(&[]);
        for round in 0..120 {
            let mut changed = whole.clone();
            match round % 4 {
                0 => changed.truncate(draw(whole.len())),
                _ => {
                    for _ in 0..=round % 3 {
                        let reach = if draw(2) == 0 { 600 } else { whole.len() };
                        let at = draw(reach.min(whole.len()));
                        changed[at] = draw(256) as u8;
                    }
                }
            }
            std::fs::write(folder.path().join(place), &changed).unwrap();
            match read_all(&folder.path().join(name), &options(&input)) {
                Ok(_) | Err(Error::Data { .. } | Error::Io { .. }) => {}
                Err(other) => wrong.push(format!("{name}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Names and contents.
type Files = Vec<(&'static str, Vec<u8>)>;

/// One image in everything that holds image files; what to open, and the files.
fn containers(image: &[u8]) -> Vec<(&'static str, Files)> {
    let archive = tar(&[("a.png", image)]);
    let file = ("images/a.png", image.to_vec());
    vec![
        ("images", vec![file.clone()]),
        ("images/a.png", vec![file.clone()]),
        (
            "list.csv",
            vec![("list.csv", b"images/a.png\n".to_vec()), file],
        ),
        ("a.tar", vec![("a.tar", archive.clone())]),
        ("a.tar.gz", vec![("a.tar.gz", gzip(&archive))]),
    ]
}

#[test]
fn images_of_one_pixel_and_of_too_many_in_any_container() {
    for (place, files) in containers(&png(1, 1, [51, 102, 204])) {
        let folder = folder(&files);
        let batch = read_all(&folder.path().join(place), &options(&[3, 8, 8])).unwrap();
        for (plane, expected) in batch.values.chunks(64).zip([0.2, 0.4, 0.8]) {
            assert!(
                plane.iter().all(|value| *value == expected),
                "{place}: {expected}"
            );
        }
    }
    for (place, files) in containers(&declared_png(20_000, 20_000)) {
        let folder = folder(&files);
        let error = read_all(&folder.path().join(place), &options(&[3, 8, 8])).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("a.png")
                && message.contains("20000 x 20000 pixels, the limit is 178956970"),
            "{place}: {message}"
        );
    }
}

#[test]
fn arrays_of_one_pixel_are_images_too() {
    let pixel = npy("|u1", false, "1, 1, 1", &[51]);
    for (name, file) in [
        ("a.npy", pixel.clone()),
        ("a.npz", npz(&[("x.npy", pixel)])),
        ("a.idx", idx(8, &[1, 1, 1], &[51])),
        ("a.gz", gzip(&idx(8, &[1, 1, 1], &[51]))),
    ] {
        let folder = folder(&[(name, file)]);
        let batch = read_all(&folder.path().join(name), &options(&[1, 1, 1])).unwrap();
        assert_eq!(batch.values, [0.2], "{name}");
    }
}

/// Files with nothing in them but a beginning, and long ones: holes take no room on the disk.
#[test]
fn files_too_long_to_be_meant_are_not_read() {
    let sides: [u32; 3] = [1, 20_000, 20_000];
    let cases = [
        (
            "a.csv",
            b"path\n".to_vec(),
            2 << 30,
            "is 2.0 GiB long, the limit is 1.0 GiB",
        ),
        (
            "a.pb",
            vec![],
            2 << 30,
            "is 2.0 GiB long, the limit is 1.0 GiB",
        ),
        (
            "test_batch",
            b"\x80\x02".to_vec(),
            1 << 30,
            "has 1.0 GiB, the limit is 256.0 MiB",
        ),
        (
            "a.npy",
            npy("|u1", false, "1, 20000, 20000", &[]),
            128 + 400_000_000,
            "20000",
        ),
        ("a.idx", idx(8, &sides, &[]), 16 + 400_000_000, "20000"),
    ];
    for (name, start, length, part) in cases {
        let folder = folder(&[(name, start)]);
        let path = folder.path().join(name);
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_len(length).unwrap();
        let found = read_all(&path, &options(&[1, 28, 28])).map(|batch| batch.shape);
        let message = found.unwrap_err().to_string();
        assert!(message.contains(part), "{name}: {message}");
    }
}

#[test]
fn a_batch_of_cifar_that_declares_gigabytes_is_not_unpacked() {
    let huge = tar_header(
        tar::EntryType::Regular,
        "cifar-10-batches-bin/data_batch_1.bin",
        4 << 30,
    );
    for (name, archive) in [("a.tar", huge.clone()), ("a.tar.gz", gzip(&huge))] {
        let folder = folder(&[(name, archive)]);
        let error = read_all(&folder.path().join(name), &options(&[3, 32, 32])).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("data_batch_1.bin has 4.0 GiB, the limit is 256.0 MiB"),
            "{name}: {message}"
        );
    }
}
