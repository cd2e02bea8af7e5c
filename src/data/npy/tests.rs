use crate::data::fixtures::{failure, folder, npy, options, read_all};
use crate::data::{DataLimits, Dataset, FloatArrays};

/// Two samples of three numbers, 1 to 6, in every element type.
#[test]
fn every_element_type_is_read() {
    fn bytes<const N: usize>(convert: impl Fn(u8) -> [u8; N]) -> Vec<u8> {
        (1..=6).flat_map(convert).collect()
    }
    let cases = [
        ("|u1", bytes(|v| [v])),
        ("|i1", bytes(|v| [v])),
        ("<u2", bytes(|v| u16::from(v).to_le_bytes())),
        ("<i2", bytes(|v| i16::from(v).to_le_bytes())),
        (">i2", bytes(|v| i16::from(v).to_be_bytes())),
        ("<u4", bytes(|v| u32::from(v).to_le_bytes())),
        ("<i4", bytes(|v| i32::from(v).to_le_bytes())),
        ("<u8", bytes(|v| u64::from(v).to_le_bytes())),
        ("<i8", bytes(|v| i64::from(v).to_le_bytes())),
        (
            "<f2",
            bytes(|v| half::f16::from_f32(f32::from(v)).to_le_bytes()),
        ),
        ("<f4", bytes(|v| f32::from(v).to_le_bytes())),
        (">f4", bytes(|v| f32::from(v).to_be_bytes())),
        ("<f8", bytes(|v| f64::from(v).to_le_bytes())),
    ];
    for (descr, data) in cases {
        let folder = folder(&[("a.npy", npy(descr, false, "2, 3", &data))]);
        let batch = read_all(&folder.path().join("a.npy"), &options(&[3])).unwrap();
        let scale = if descr == "|u1" { 255.0 } else { 1.0 };
        let expected: Vec<f32> = (1..=6).map(|v| v as f32 / scale).collect();
        assert_eq!(
            (batch.shape, batch.values),
            (vec![2, 3], expected),
            "{descr}"
        );
    }
    let folder = folder(&[("a.npy", npy("|b1", false, "2, 1", &[0, 7]))]);
    let batch = read_all(&folder.path().join("a.npy"), &options(&[1])).unwrap();
    assert_eq!(batch.values, [0.0, 1.0]);
}

#[test]
fn fortran_order_is_turned() {
    // numpy: np.arange(12, dtype="i1").reshape(2, 2, 3), saved with order="F".
    let stored = [0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11];
    let folder = folder(&[("a.npy", npy("|i1", true, "2, 2, 3", &stored))]);
    let path = folder.path().join("a.npy");
    let batch = read_all(&path, &options(&[2, 3])).unwrap();
    assert_eq!(batch.values, (0..12).map(|v| v as f32).collect::<Vec<_>>());
    let one = super::super::DataOptions {
        samples: Some(1),
        seed: 4,
        ..options(&[2, 3])
    };
    let chosen = read_all(&path, &one).unwrap().values;
    assert!(chosen[0] == 0.0 || chosen[0] == 6.0);
    assert_eq!(chosen[5] - chosen[0], 5.0);
    let mut small = options(&[2, 3]);
    small.limits = DataLimits {
        held_bytes: 11,
        ..DataLimits::default()
    };
    let error = Dataset::open(&path, &small).err().unwrap().to_string();
    assert!(error.contains("held in memory"), "{error}");
}

#[test]
fn headers_of_other_versions_and_writers_are_read() {
    // Version 2 has a longer length field; Python 2 wrote `2L`; spaces and key order are free.
    let header = b"{\"shape\":(2L , 3L),'fortran_order' : False,'descr':'<i2'}";
    let mut file = b"\x93NUMPY\x02\x00".to_vec();
    file.extend((header.len() as u32).to_le_bytes());
    file.extend(header);
    file.extend([1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
    let folder = folder(&[("a.npy", file)]);
    let batch = read_all(&folder.path().join("a.npy"), &options(&[3])).unwrap();
    assert_eq!(batch.values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn labels_beside_are_found() {
    let images = || npy("|u1", false, "2, 1", &[1, 2]);
    let labels = || {
        npy(
            "<i8",
            false,
            "2,",
            &[3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        )
    };
    let cases = [
        ("images.npy", "labels.npy"),
        ("train-images.npy", "train-labels.npy"),
        ("x_test.npy", "y_test.npy"),
        ("anything.npy", "labels.npy"),
    ];
    for (name, other) in cases {
        let folder = folder(&[(name, images()), (other, labels())]);
        let batch = read_all(&folder.path().join(name), &options(&[1])).unwrap();
        assert_eq!(batch.labels, Some(vec![3, 1]), "{name}");
    }
    let folder = folder(&[("images.npy", images())]);
    let data = Dataset::open(&folder.path().join("images.npy"), &options(&[1])).unwrap();
    assert!(data.labels().is_none());
    assert!(data.describe().contains("no labels"), "{}", data.describe());
}

#[test]
fn labels_that_are_none_are_refused() {
    let cases = [
        (npy("|u1", false, "3,", &[0; 3]), "3 labels for 2 samples"),
        (npy("|u1", false, "2, 2", &[0; 4]), "one number per sample"),
        (npy("|i1", false, "2,", &[0, 255]), "label -1 of sample 1"),
        (npy("<f4", false, "2,", &[0; 8]), "whole numbers"),
        (npy("|u1", false, "2,", &[0]), "truncated"),
    ];
    for (labels, part) in cases {
        let folder = folder(&[
            ("images.npy", npy("|u1", false, "2, 1", &[1, 2])),
            ("labels.npy", labels),
        ]);
        let error = Dataset::open(&folder.path().join("images.npy"), &options(&[1]))
            .err()
            .unwrap();
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[test]
fn broken_files_are_refused_before_anything_is_allocated() {
    let tera = (1_u64 << 40).to_string();
    let whole = npy("<f4", false, "2, 3", &[0; 24]);
    let cases = [
        ("empty", vec![], "truncated"),
        ("cut in the magic", whole[..5].to_vec(), "truncated"),
        ("cut in the header", whole[..60].to_vec(), "truncated"),
        (
            "cut in the data",
            whole[..whole.len() - 1].to_vec(),
            "is truncated: its header declares float32 [2, 3]",
        ),
        (
            "too long",
            [whole.as_slice(), &[0]].concat(),
            "has bytes left over",
        ),
        (
            "text",
            b"these are no numbers".to_vec(),
            "does not start like",
        ),
        (
            "2^40 elements",
            npy("|u1", false, &format!("{tera}, 3"), &[0; 3]),
            "3.0 TiB",
        ),
        (
            "overflow",
            npy("<f8", false, &format!("{tera}, {tera}"), &[]),
            "more than any file can hold",
        ),
        (
            "more digits than a size has",
            npy("|u1", false, "99999999999999999999,", &[]),
            "99999999999999999999",
        ),
        ("negative", npy("|u1", false, "-1, 3", &[]), "shape"),
        (
            "objects",
            npy("|O", false, "2, 3", &[0; 24]),
            "Python objects",
        ),
        ("text elements", npy("<U3", false, "2, 3", &[0; 24]), "<U3"),
        ("complex", npy("<c8", false, "2, 3", &[0; 24]), "<c8"),
        (
            "a single number",
            npy("<f4", false, "", &[0; 4]),
            "single number",
        ),
        (
            "no samples",
            npy("<f4", false, "0, 3", &[]),
            "holds no samples",
        ),
        (
            "empty samples",
            npy("<f4", false, "3, 0", &[]),
            "holds no samples",
        ),
        (
            "wrong shape",
            npy("<f4", false, "2, 4", &[0; 32]),
            "shape [4] (float32 [2, 4]), the model's input is [N, 3]",
        ),
        (
            "not a number",
            npy(
                "<f4",
                false,
                "1, 3",
                &[0, 0, 0, 0, 0, 0, 0xc0, 0x7f, 0, 0, 0, 0],
            ),
            "sample 0: holds NaN at element 1",
        ),
        (
            "infinite",
            npy(
                "<f4",
                false,
                "1, 3",
                &[0, 0, 0x80, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            "sample 0: holds inf at element 0",
        ),
        (
            "too large for f32",
            npy(
                "<f8",
                false,
                "1, 3",
                &[1e300_f64; 3].map(f64::to_le_bytes).concat(),
            ),
            "inf",
        ),
    ];
    for (caption, file, part) in cases {
        let message = failure("a.npy", file, &options(&[3]));
        assert!(message.contains(part), "{caption}: {message}");
    }
    let mut long = b"\x93NUMPY\x03\x00".to_vec();
    long.extend([0xff; 4]);
    assert!(failure("a.npy", long, &options(&[3])).contains("the limit is 65536"));
    let mut unknown = whole.clone();
    unknown[6] = 9;
    assert!(failure("a.npy", unknown, &options(&[3])).contains("version 9"));
    let records = String::from_utf8_lossy(&whole).replace("'<f4'", "[('a')");
    assert!(!failure("a.npy", records.into_bytes(), &options(&[3])).contains("no failure"));
}

#[test]
fn headers_cut_or_changed_anywhere_never_panic() {
    let whole = npy("<f4", false, "2, 3", &[0; 24]);
    for length in 0..whole.len() {
        assert!(
            !failure("a.npy", whole[..length].to_vec(), &options(&[3])).contains("no failure"),
            "{length}"
        );
    }
    for position in 0..whole.len() {
        for byte in [0, b'(', b'\'', b'9', 0xff] {
            let mut changed = whole.clone();
            changed[position] = byte;
            failure("a.npy", changed, &options(&[3]));
        }
    }
}

#[test]
fn float_arrays_are_left_alone_unless_a_flag_asks() {
    let file = npy("<f4", false, "1, 1", &0.75_f32.to_le_bytes());
    let folder = folder(&[("a.npy", file)]);
    let mut options = options(&[1]);
    options.preprocess.mean = vec![0.25];
    options.preprocess.std = vec![0.5];
    let value = |options: &_| {
        read_all(&folder.path().join("a.npy"), options)
            .unwrap()
            .values[0]
    };
    assert_eq!(value(&options), 0.75);
    let data = Dataset::open(&folder.path().join("a.npy"), &options).unwrap();
    assert!(
        data.describe().contains("float32 values taken as they are"),
        "{}",
        data.describe()
    );
    options.preprocess.float_arrays = FloatArrays::Normalised;
    assert_eq!(value(&options), 1.0);
    options.preprocess.rescale = Some(2.0);
    assert_eq!(value(&options), 2.5);
}
