use std::path::Path;

use crate::data::fixtures::{failure, folder, gzip, idx, options, read_all};
use crate::data::{DataLimits, DataOptions, Dataset};

fn images() -> Vec<u8> {
    idx(8, &[2, 2, 2], &[0, 51, 102, 153, 204, 255, 0, 0])
}

fn labels() -> Vec<u8> {
    idx(8, &[2], &[9, 1])
}

#[test]
fn pairs_are_found_plain_gzipped_and_by_their_folder() {
    let expected = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.0, 0.0];
    let cases = [
        (
            "train-images-idx3-ubyte",
            images(),
            "train-labels-idx1-ubyte",
            labels(),
        ),
        (
            "train-images.idx3-ubyte",
            images(),
            "train-labels.idx1-ubyte",
            labels(),
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            gzip(&images()),
            "t10k-labels-idx1-ubyte.gz",
            gzip(&labels()),
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            gzip(&images()),
            "t10k-labels-idx1-ubyte",
            labels(),
        ),
    ];
    for (name, images, other, labels) in cases {
        let folder = folder(&[(name, images), (other, labels)]);
        for path in [folder.path().join(name), folder.path().to_owned()] {
            let batch = read_all(&path, &options(&[1, 2, 2])).unwrap();
            assert_eq!(batch.values, expected, "{name}");
            assert_eq!(batch.labels, Some(vec![9, 1]), "{name}");
        }
    }
}

#[test]
fn other_element_types_are_big_endian() {
    let floats = idx(
        0x0d,
        &[1, 2],
        &[1.5_f32.to_be_bytes(), (-2.0_f32).to_be_bytes()].concat(),
    );
    let shorts = idx(0x0b, &[1, 2], &[1, 0, 0xff, 0xfe]);
    for (file, expected) in [(floats, [1.5, -2.0]), (shorts, [256.0, -2.0])] {
        let folder = folder(&[("a.idx", file)]);
        assert_eq!(
            read_all(&folder.path().join("a.idx"), &options(&[2]))
                .unwrap()
                .values,
            expected
        );
    }
}

#[test]
fn broken_files_are_refused() {
    let huge = idx(8, &[1 << 31, 1 << 9], &[0; 10]);
    let whole = images();
    let packed = gzip(&whole);
    let mut checksum = packed.clone();
    let near_end = checksum.len() - 6;
    checksum[near_end] ^= 1;
    let cases = [
        (
            "truncated",
            whole[..whole.len() - 1].to_vec(),
            "is truncated",
        ),
        ("truncated header", whole[..9].to_vec(), "is truncated"),
        (
            "too long",
            [whole.as_slice(), &[1]].concat(),
            "has bytes left over",
        ),
        (
            "truncated gzip",
            packed[..packed.len() - 12].to_vec(),
            "truncated",
        ),
        ("wrong checksum", checksum, "cannot be unpacked"),
        (
            "gzip that holds too little",
            gzip(&whole[..whole.len() - 1]),
            "truncated",
        ),
        (
            "gzip that holds too much",
            gzip(&[whole.as_slice(), &[1]].concat()),
            "more bytes than its header declares",
        ),
        (
            "gzip of something else",
            gzip(b"hello world"),
            "does not start like an IDX",
        ),
        ("2^40 elements", huge.clone(), "1.0 TiB"),
        ("2^40 elements in gzip", gzip(&huge), "the limit is"),
        ("unknown type", idx(0x0a, &[1], &[0]), "0x0a"),
        (
            "wrong shape",
            idx(8, &[2, 2, 3], &[0; 12]),
            "shape [2, 3] (uint8 [2, 2, 3]), the model's input is [N, 1, 2, 2]",
        ),
        (
            "labels in place of images",
            labels(),
            "the model's input is",
        ),
    ];
    for (caption, file, part) in cases {
        let message = failure("a.idx3-ubyte", file, &options(&[1, 2, 2]));
        assert!(message.contains(part), "{caption}: {message}");
    }
    let bomb = gzip(&idx(8, &[1 << 20, 2, 2], &vec![0; 4 << 20]));
    let mut small = options(&[1, 2, 2]);
    small.limits = DataLimits {
        inflated_bytes: 1 << 20,
        ..DataLimits::default()
    };
    assert!(failure("a.gz", bomb, &small).contains("inflates to 4.0 MiB"));
}

#[test]
fn labels_of_another_length_and_several_pairs_are_refused() {
    let short = folder(&[
        ("x-images-idx3-ubyte", images()),
        ("x-labels-idx1-ubyte", idx(8, &[1], &[0])),
    ]);
    let error = Dataset::open(short.path(), &options(&[1, 2, 2]))
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("x-labels-idx1-ubyte has 1 labels for 2 samples"),
        "{error}"
    );
    let two = folder(&[
        ("a-images-idx3-ubyte", images()),
        ("b-images-idx3-ubyte", images()),
    ]);
    let error = Dataset::open(two.path(), &options(&[1, 2, 2]))
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("name one of them: a-images-idx3-ubyte, b-images-idx3-ubyte"),
        "{error}"
    );
}

#[test]
#[ignore = "needs the real files of Debian's dataset-fashion-mnist"]
fn real_fashion_mnist_is_read() {
    let folder = Path::new("/usr/share/datasets/fashion-mnist");
    let options = DataOptions {
        samples: Some(100),
        seed: 1,
        ..options(&[1, 28, 28])
    };
    for (name, total) in [("t10k", "100 of 10000"), ("train", "100 of 60000")] {
        let data = Dataset::open(
            &folder.join(format!("{name}-images-idx3-ubyte.gz")),
            &options,
        )
        .unwrap();
        assert!(data.describe().contains(total), "{}", data.describe());
        let batch = data.read(&(0..100).collect::<Vec<_>>()).unwrap();
        assert_eq!(batch.shape, [100, 1, 28, 28]);
        assert!(batch.labels.unwrap().iter().all(|&label| label < 10));
        println!("{}", data.describe());
    }
}
