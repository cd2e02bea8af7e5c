use super::super::fixtures::{failure, folder, gzip, options, png, read_all, repository, tar};
use crate::data::{DataLimits, DataOptions, Dataset, OnBadSample};

/// The red of each sample's first pixel.
fn reds(values: &[f32], sample: usize) -> Vec<f32> {
    values
        .iter()
        .step_by(sample)
        .map(|v| (v * 255.0).round())
        .collect()
}

#[test]
fn an_archive_written_by_webdataset_is_read() {
    let path = repository("tests/data/webdataset.tar");
    let data = Dataset::open(&path, &options(&[3, 16, 16])).unwrap();
    assert_eq!(data.labels(), Some([3, 2, 1, 0].as_slice()));
    let batch = data.read(&[0, 1, 2, 3]).unwrap();
    assert_eq!(reds(&batch.values, 3 * 256), [0.0, 20.0, 40.0, 60.0]);
    let text = data.describe();
    assert!(text.contains("4 images with labels"), "{text}");
}

/// Samples `first..first + 2` of class 5 and 6.
fn shard(first: u8) -> Vec<u8> {
    let images = [first, first + 1].map(|red| png(2, 2, [red, 0, 0]));
    tar(&[
        ("./a/1.2.cls", b"5\n"),
        ("./a/1.png", &images[0]),
        ("./a/1.cls", b" 5 "),
        ("./a/1.txt", b"a caption"),
        ("./b/1.json", b"{\"label\": 6, \"cls\": 0}"),
        ("./b/1.seg.png", b"no image of the sample"),
        ("./b/1.PNG", &images[1]),
        ("./c/1.cls", b"9"),
    ])
}

#[test]
fn members_of_one_name_are_one_sample_in_one_archive_or_several() {
    let files = [
        ("train-000.tar", shard(10)),
        ("train-001.tar", shard(30)),
        ("train-002.tar", shard(50)),
        ("test-000.tar.gz", gzip(&shard(90))),
        ("notes.txt", vec![]),
    ];
    let folder = folder(&files);
    let open = |place: &str| {
        let path = folder.path().join(place);
        Dataset::open(&path, &options(&[3, 2, 2])).map(|data| {
            let all: Vec<usize> = (0..data.len()).collect();
            let labels = data.labels().unwrap().to_vec();
            (reds(&data.read(&all).unwrap().values, 12), labels)
        })
    };
    let cases: [(&str, &[f32]); 5] = [
        ("train-000.tar", &[10.0, 11.0]),
        ("test-000.tar.gz", &[90.0, 91.0]),
        ("train-{000..001}.tar", &[10.0, 11.0, 30.0, 31.0]),
        ("train-00{2,0}.tar", &[50.0, 51.0, 10.0, 11.0]),
        ("#train", &[10.0, 11.0, 30.0, 31.0, 50.0, 51.0]),
    ];
    for (place, expected) in cases {
        let (values, labels) = open(place).unwrap();
        assert_eq!(values, expected, "{place}");
        assert_eq!(labels, [5, 6].repeat(expected.len() / 2), "{place}");
    }
    let refused = [
        ("", "holds the parts test, train; name one, as in"),
        ("#val", "has no part \"val\"; it has: test, train"),
        ("train-000.tar#train", "is no folder of parts"),
        ("train-{000..003}.tar", "train-003.tar: "),
        ("train-{a..z}.tar", "no list and no range"),
    ];
    for (place, part) in refused {
        let error = open(place).unwrap_err().to_string();
        assert!(error.contains(part), "{place}: {error}");
    }
}

#[test]
fn labels_are_numbers_or_names_of_all_samples_or_of_none() {
    let image = png(2, 2, [1, 2, 3]);
    let archive = |labels: [Option<&str>; 2]| {
        let mut members: Vec<(&str, &[u8])> = vec![];
        for (index, label) in labels.into_iter().enumerate() {
            members.push((["0.png", "1.png"][index], &image));
            if let Some(label) = label {
                members.push((["0.cls", "1.cls"][index], label.as_bytes()));
            }
        }
        tar(&members)
    };
    let open = |archive: Vec<u8>| {
        let folder = folder(&[("a.tar", archive)]);
        let data = Dataset::open(&folder.path().join("a.tar"), &options(&[3, 2, 2]))?;
        Ok((
            data.labels().map(<[usize]>::to_vec),
            data.class_names().map(<[String]>::to_vec),
        ))
    };
    let named = Some(vec!["cat".to_owned(), "dog".to_owned()]);
    let found: crate::Result<_> = open(archive([Some("dog"), Some("cat")]));
    assert_eq!(found.unwrap(), (Some(vec![1, 0]), named));
    assert_eq!(open(archive([None, None])).unwrap(), (None, None));
    let refused = [
        (
            archive([Some("1"), None]),
            "1 have neither a .cls nor a label in a .json: 1.png",
        ),
        (archive([Some("1"), Some("cat")]), "has the label \"cat\""),
        (archive([Some("1"), Some("-1")]), "has the label \"-1\""),
        (
            archive([Some("1"), Some(&"9".repeat(65))]),
            "holds 1.cls of 65 bytes, the limit is 64",
        ),
        (tar(&[("0.cls", b"1")]), "holds no images"),
        (tar(&[("../0.png", &image)]), "climbs out of the archive"),
    ];
    for (archive, part) in refused {
        let message = failure("a.tar", archive, &options(&[3, 2, 2]));
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn bad_images_are_listed_or_left_out() {
    let mut members = vec![];
    let (good, bad) = (png(2, 2, [9, 0, 0]), png(2, 2, [8, 0, 0])[..45].to_vec());
    let names: Vec<String> = (0..6).map(|number| format!("{number}.png")).collect();
    for (number, name) in names.iter().enumerate() {
        let image = if number % 2 == 0 { &good } else { &bad };
        members.push((name.as_str(), image.as_slice()));
    }
    members.push(("7.jpg", b"text"));
    for archive in [tar(&members), gzip(&tar(&members))] {
        let folder = folder(&[("a.tar", archive)]);
        let path = folder.path().join("a.tar");
        let error = Dataset::open(&path, &options(&[3, 2, 2]))
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("1 of 7 images cannot be used:\n  7.jpg: "),
            "{error}"
        );
        let skipping = DataOptions {
            on_bad_sample: OnBadSample::Skip,
            ..options(&[3, 2, 2])
        };
        let data = Dataset::open(&path, &skipping).unwrap();
        assert_eq!((data.len(), data.skipped().unwrap().count), (3, 4));
    }
}

#[test]
fn what_gzipped_archives_hold_is_bounded() {
    let archive = gzip(&shard(1));
    let mut options = options(&[3, 2, 2]);
    options.limits = DataLimits {
        held_bytes: 100,
        ..DataLimits::default()
    };
    let message = failure("a.tar.gz", archive.clone(), &options);
    assert!(
        message.contains("more than 100 bytes of images"),
        "{message}"
    );
    options.limits = DataLimits {
        inflated_bytes: 2048,
        ..DataLimits::default()
    };
    let message = failure("a.tar.gz", archive, &options);
    assert!(
        message.contains("unpacks to more than the limit of 2.0 KiB"),
        "{message}"
    );
}

#[test]
fn the_fingerprint_follows_names_sizes_and_labels() {
    let print = |archive: Vec<u8>| {
        let folder = folder(&[("a.tar", archive)]);
        let data = Dataset::open(&folder.path().join("a.tar"), &options(&[3, 2, 2]));
        data.unwrap().fingerprint().unwrap()
    };
    let image = png(2, 2, [1, 2, 3]);
    let archive = |label: &[u8]| tar(&[("0.png", &image), ("0.cls", label)]);
    assert_eq!(print(archive(b"1")), print(archive(b"1")));
    assert_ne!(print(archive(b"1")), print(archive(b"2")));
    assert_eq!(
        read_all(
            &repository("tests/data/webdataset.tar"),
            &options(&[3, 16, 16])
        )
        .unwrap()
        .len(),
        4
    );
}
