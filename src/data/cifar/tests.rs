use super::super::fixtures::{failure, folder, gzip, options, read_all, repository, tar};
use super::*;
use crate::data::{Batch, Dataset};

/// The image whose planes hold `number`, `number` + 1 and `number` + 2.
fn image(number: u8) -> Vec<u8> {
    (0..3).flat_map(|plane| [number + plane; 1024]).collect()
}

/// Records of one image each.
fn records(labels: &[&[u8]], first: u8) -> Vec<u8> {
    let record = |(label, number): (&&[u8], u8)| [label, image(number).as_slice()].concat();
    labels.iter().zip(first..).flat_map(record).collect()
}

/// A batch with the opcodes that Python 2 wrote the published files with: protocol 2, byte strings, `numpy.core`.
fn python2(key: &str, labels: &[u8], first: u8) -> Vec<u8> {
    let short = |text: &str| [b"U", [text.len() as u8].as_slice(), text.as_bytes()].concat();
    let count = labels.len() as u8;
    let numbers: Vec<u8> = labels.iter().flat_map(|&label| [b'K', label]).collect();
    let images: Vec<u8> = (first..first + count).flat_map(image).collect();
    [
        b"\x80\x02}q\x01(".to_vec(),
        short("batch_label"),
        b"q\x02".to_vec(),
        short("training batch 1 of 5"),
        b"q\x03".to_vec(),
        short(key),
        b"q\x04]q\x05(".to_vec(),
        numbers,
        b"e".to_vec(),
        short("data"),
        b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01K".to_vec(),
        vec![count],
        b"M\x00\x0c\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T".to_vec(),
        (images.len() as u32).to_le_bytes().to_vec(),
        images,
        b"tbu.".to_vec(),
    ]
    .concat()
}

fn names2(key: &str, names: &[&str]) -> Vec<u8> {
    let texts = names
        .iter()
        .flat_map(|name| [b"U", [name.len() as u8].as_slice(), name.as_bytes()].concat());
    let start = [
        b"\x80\x02}q\x01U",
        [key.len() as u8].as_slice(),
        key.as_bytes(),
        b"](",
    ]
    .concat();
    start.into_iter().chain(texts).chain(*b"es.").collect()
}

/// The files of each edition, two images in every batch.
fn files(edition: &Edition) -> Vec<(&'static str, Vec<u8>)> {
    let batches = edition.train.iter().chain(edition.test);
    let batch = |(name, number): (&&'static str, u8)| {
        let first = 10 * number;
        let labels = [number, number + 1];
        let content = match edition.kind {
            Kind::Binary { labels: 1 } => records(&[&labels[..1], &labels[1..]], first),
            Kind::Binary { .. } => records(&[&[99, labels[0]], &[99, labels[1]]], first),
            Kind::Python { labels: key, .. } => python2(key, &labels, first),
        };
        (*name, content)
    };
    let mut files: Vec<_> = batches.zip(0..).map(batch).collect();
    let names = ["apple", "bear", "clock", "dolphin", "elm", "fox", "girl"];
    let content = match edition.kind {
        Kind::Binary { .. } => format!("{}\n\n", names.join("\n")).into_bytes(),
        Kind::Python { names: key, .. } => names2(key, &names),
    };
    files.push((edition.names, content));
    files.push(("readme.html", b"<html>".to_vec()));
    files
}

fn archive_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let inside: Vec<(String, &[u8])> = files
        .iter()
        .map(|(name, content)| (format!("cifar-10-batches/{name}"), content.as_slice()))
        .collect();
    let members: Vec<(&str, &[u8])> = inside.iter().map(|(name, c)| (name.as_str(), *c)).collect();
    gzip(&tar(&members))
}

/// The value of the first pixel of each plane of each image, as stored.
fn firsts(batch: &Batch) -> Vec<f32> {
    batch
        .values
        .iter()
        .step_by(1024)
        .map(|v| (v * 255.0).round())
        .collect()
}

#[test]
fn archives_folders_and_single_files_are_read_in_every_edition() {
    for edition in &EDITIONS {
        let name = edition.name;
        let mut files = files(edition);
        // The order in the archive does not matter.
        files.reverse();
        let packed = archive_of(&files);
        files.push(("all.tar.gz", packed));
        let folder = folder(&files);
        let batches = edition.train.len();
        let all: Vec<f32> = (0..batches)
            .flat_map(|b| [0, 1].map(|i| 10 * b + i))
            .flat_map(|first| [0, 1, 2].map(|plane| (first + plane) as f32))
            .collect();
        let labels: Vec<usize> = (0..batches).flat_map(|b| [b, b + 1]).collect();
        for place in ["all.tar.gz", ""] {
            let path = folder.path().join(place);
            let batch = read_all(&path, &options(&[3, 32, 32])).unwrap();
            assert_eq!(firsts(&batch), all, "{name} {place:?}");
            assert_eq!(batch.labels, Some(labels.clone()), "{name} {place:?}");
            let data = Dataset::open(&path, &options(&[3, 32, 32])).unwrap();
            assert_eq!(data.class_names().unwrap()[1], "bear", "{name}");
            assert!(
                data.describe().contains("the training part"),
                "{}",
                data.describe()
            );
            let test = PathBuf::from(format!("{}#test", path.display()));
            let batch = read_all(&test, &options(&[3, 32, 32])).unwrap();
            assert_eq!(firsts(&batch)[0], 10.0 * batches as f32, "{name} {place:?}");
            assert_eq!(batch.labels, Some(vec![batches, batches + 1]), "{name}");
            let tested = Dataset::open(&test, &options(&[3, 32, 32])).unwrap();
            assert_ne!(tested.state().unwrap(), data.state().unwrap(), "{name}");
        }
        let one = folder.path().join(edition.train[0]);
        let batch = read_all(&one, &options(&[3, 32, 32])).unwrap();
        assert_eq!(firsts(&batch)[..3], [0.0, 1.0, 2.0], "{name}");
    }
}

#[test]
fn a_batch_written_by_python_3_is_read() {
    let batch = std::fs::read(repository("tests/data/cifar-batch.pickle")).unwrap();
    let folder = folder(&[("test_batch", batch)]);
    let batch = read_all(&folder.path().join("test_batch"), &options(&[3, 32, 32])).unwrap();
    assert_eq!(batch.labels, Some(vec![3, 9]));
    let values: Vec<f32> = batch.values.iter().map(|v| v * 255.0).collect();
    assert_eq!(values[..2], [7.0, 7.0]);
    assert_eq!(values[3072..3076], [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(values[3072 + 1024 + 5], 5.0);
}

#[test]
fn images_are_resized_to_what_the_model_takes() {
    let folder = folder(&[("test_batch.bin", records(&[&[4]], 50))]);
    let path = folder.path().join("test_batch.bin");
    let mut options = options(&[3, 8, 8]);
    options.preprocess.resize = Some("8".parse().unwrap());
    let batch = read_all(&path, &options).unwrap();
    assert_eq!(batch.shape, [1, 3, 8, 8]);
    assert_eq!((batch.values[64] * 255.0).round(), 51.0);
}

#[test]
fn broken_sets_are_refused() {
    let ten = files(&EDITIONS[0]);
    let lacking = archive_of(&ten[1..]);
    let mut longer = ten.clone();
    longer[2].1.push(0);
    let twice = archive_of(&[ten.clone(), ten[..1].to_vec()].concat());
    let python = |key: &str, labels: &[u8], count: usize| {
        let mut batch = python2(key, labels, 1);
        batch.truncate(batch.len() - count);
        batch
    };
    let swapped = {
        let mut batch = python2("labels", &[1, 2], 1);
        let at = batch.windows(3).position(|part| part == b"\x02u1").unwrap();
        batch[at + 2] = b'2';
        batch
    };
    let shaped = {
        let mut batch = python2("labels", &[1, 2], 1);
        let at = batch
            .windows(3)
            .position(|part| part == b"M\x00\x0c")
            .unwrap();
        batch[at + 2] = 0x0d;
        batch
    };
    let cases = [
        (
            "a.tar.gz",
            lacking,
            "lacks data_batch_1.bin of CIFAR-10, binary",
        ),
        (
            "a.tar.gz",
            archive_of(&longer),
            "data_batch_3.bin: has 6147 bytes, no multiple of the 3073",
        ),
        ("a.tar.gz", twice, "holds data_batch_1.bin twice"),
        (
            "a.tar.gz",
            archive_of(&[("x", vec![])]),
            "holds no batches of CIFAR",
        ),
        ("test_batch", python("labels", &[1, 2], 9), "truncated"),
        (
            "test_batch",
            python("fine_labels", &[1, 2], 0),
            "a pickle without \"labels\"",
        ),
        (
            "test_batch",
            swapped,
            "something else than an array uint8 [2, 3072]",
        ),
        (
            "test_batch",
            shaped,
            "something else than an array uint8 [2, 3072]",
        ),
        (
            "test_batch",
            b"\x80\x02cos\nsystem\n(U\x04echotR.".to_vec(),
            "a pickle without \"labels\"",
        ),
    ];
    for (name, content, part) in cases {
        let message = failure(name, content, &options(&[3, 32, 32]));
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn parts_that_are_not_there_are_named() {
    let folder = folder(&files(&EDITIONS[0]));
    let open = |place: &str| {
        let path = format!("{}/{place}", folder.path().display());
        let data = Dataset::open(Path::new(&path), &options(&[3, 32, 32]));
        data.err().unwrap().to_string()
    };
    assert!(open("#val").contains("has the parts train and test, not \"val\""));
    assert!(open("test_batch.bin#test").contains("is one file of a part, not \"test\""));
}

#[test]
fn many_labels_do_not_fit_a_python_batch() {
    let mut batch = python2("labels", &[1, 2], 1);
    // One label more than images.
    let at = batch
        .windows(4)
        .position(|part| part == b"K\x01K\x02")
        .unwrap();
    batch.splice(at..at, *b"K\x05");
    let message = failure("test_batch", batch, &options(&[3, 32, 32]));
    assert!(message.contains("array uint8 [3, 3072]"), "{message}");
}
