use crate::data::fixtures::{failure, folder, npy, npz, options, read_all, repository};
use crate::data::{DataLimits, DataOptions, Dataset};

fn images() -> Vec<u8> {
    npy("|u1", false, "2, 3", &[0, 51, 102, 153, 204, 255])
}

fn labels() -> Vec<u8> {
    npy("|i1", false, "2,", &[4, 2])
}

#[test]
fn samples_and_labels_are_found_by_name() {
    let cases = [
        ("the usual names", vec!["images", "labels"]),
        ("the model's input name", vec!["pixel_values", "labels"]),
        ("the only other array", vec!["features", "y"]),
        ("Keras", vec!["x_test", "y_test"]),
    ];
    for (caption, names) in cases {
        let file = npz(&[
            (&format!("{}.npy", names[0]), images()),
            (&format!("{}.npy", names[1]), labels()),
        ]);
        let folder = folder(&[("a.npz", file)]);
        let batch = read_all(&folder.path().join("a.npz"), &options(&[3])).unwrap();
        assert_eq!(batch.values, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], "{caption}");
        assert_eq!(batch.labels, Some(vec![4, 2]), "{caption}");
    }
    let folder = folder(&[("a.npz", npz(&[("images.npy", images())]))]);
    assert_eq!(
        read_all(&folder.path().join("a.npz"), &options(&[3]))
            .unwrap()
            .labels,
        None
    );
}

#[test]
fn only_the_chosen_samples_stay() {
    let data: Vec<u8> = (0..200).collect();
    let folder = folder(&[(
        "a.npz",
        npz(&[("images.npy", npy("|u1", false, "100, 2", &data))]),
    )]);
    let path = folder.path().join("a.npz");
    let mut options = DataOptions {
        samples: Some(7),
        seed: 3,
        ..options(&[2])
    };
    options.limits.held_bytes = 14;
    let chosen = super::super::split::sample(100, Some(7), 3);
    let expected: Vec<f32> = chosen
        .iter()
        .flat_map(|&i| [2 * i, 2 * i + 1])
        .map(|v| v as f32 / 255.0)
        .collect();
    assert_eq!(read_all(&path, &options).unwrap().values, expected);
    options.limits.held_bytes = 13;
    assert!(
        Dataset::open(&path, &options)
            .err()
            .unwrap()
            .to_string()
            .contains("--samples")
    );
}

#[test]
fn broken_archives_are_refused() {
    let whole = npz(&[("images.npy", images()), ("labels.npy", labels())]);
    let tera = (1_u64 << 40).to_string();
    let cases = [
        ("cut", whole[..whole.len() - 30].to_vec(), "zip archive"),
        ("cut in front", whole[..40].to_vec(), "zip archive"),
        (
            "no samples",
            npz(&[("labels.npy", labels())]),
            "expected the samples under",
        ),
        (
            "two candidates",
            npz(&[("a.npy", images()), ("b.npy", images())]),
            "[\"a\", \"b\"]",
        ),
        (
            "not an array",
            npz(&[("images.npy", b"hello there".to_vec())]),
            "images.npy: does not start like",
        ),
        (
            "truncated member",
            npz(&[("images.npy", npy("|u1", false, "2, 3", &[0; 5]))]),
            "images.npy: is truncated",
        ),
        (
            "2^40 elements",
            npz(&[(
                "images.npy",
                npy("|u1", false, &format!("{tera}, 3"), &[0; 6]),
            )]),
            "3.0 TiB",
        ),
        (
            "objects",
            npz(&[("images.npy", npy("|O", false, "2, 3", &[0; 6]))]),
            "Python objects",
        ),
        (
            "label length",
            npz(&[
                ("images.npy", images()),
                ("labels.npy", npy("|i1", false, "3,", &[0; 3])),
            ]),
            "labels has 3 labels for 2 samples",
        ),
        (
            "negative label",
            npz(&[
                ("images.npy", images()),
                ("labels.npy", npy("|i1", false, "2,", &[0, 0x80])),
            ]),
            "label -128",
        ),
    ];
    for (caption, file, part) in cases {
        let message = failure("a.npz", file, &options(&[3]));
        assert!(message.contains(part), "{caption}: {message}");
    }
    // A changed byte inside the compressed data is found by the checksum or by the decompressor.
    let mut changed = npz(&[("images.npy", npy("|u1", false, "64, 3", &[7; 192]))]);
    let middle = changed.len() / 3;
    changed[middle] ^= 0x55;
    assert!(!failure("a.npz", changed, &options(&[3])).contains("no failure"));
}

#[test]
fn a_zip_bomb_is_stopped_by_what_it_declares_and_by_what_it_inflates_to() {
    let zeros = vec![0; 3 << 20];
    let bomb = npz(&[("images.npy", npy("|u1", false, "1048576, 3", &zeros))]);
    assert!(bomb.len() < 64 << 10, "{}", bomb.len());
    let mut options = options(&[3]);
    options.limits = DataLimits {
        inflated_bytes: 1 << 20,
        ..DataLimits::default()
    };
    let message = failure("a.npz", bomb.clone(), &options);
    assert!(
        message.contains("inflates to 3.0 MiB, the limit is 1.0 MiB"),
        "{message}"
    );
    options.limits = DataLimits {
        held_bytes: 1 << 20,
        ..DataLimits::default()
    };
    assert!(failure("a.npz", bomb, &options).contains("held in memory"));
    // The directory says 100 bytes, the member inflates to far more.
    let mut lying = npz(&[("images.npy", npy("|u1", false, "1048576, 3", &zeros))]);
    let size = u32::try_from(zeros.len() + 128).unwrap().to_le_bytes();
    let mut found = 0;
    for at in 0..lying.len() - 4 {
        if lying[at..at + 4] == size {
            lying[at..at + 4].copy_from_slice(&131_u32.to_le_bytes());
            found += 1;
        }
    }
    assert_eq!(found, 2, "local header and directory");
    let message = failure("a.npz", lying, &super::super::fixtures::options(&[3]));
    assert!(
        message.contains("larger than its declared uncompressed size"),
        "{message}"
    );
}

#[test]
fn the_repositorys_own_sample_is_read() {
    let path = repository("models/fashion-mnist.npz");
    let data = Dataset::open(&path, &options(&[1, 28, 28])).unwrap();
    assert_eq!(
        (data.len(), data.sample_shape()),
        (2000, [1, 28, 28].as_slice())
    );
    let labels = data.labels().unwrap();
    assert!((0..10).all(|class| labels.iter().filter(|&&label| label == class).count() == 200));
    let batch = data.read(&[0, 1999, 7]).unwrap();
    assert_eq!(batch.shape, [3, 1, 28, 28]);
    assert_eq!(batch.labels, Some(vec![labels[0], labels[1999], labels[7]]));
    assert!(batch.values.iter().all(|value| (0.0..=1.0).contains(value)));
    assert_eq!(data.fingerprint().unwrap().len(), 64);
    let text = data.describe();
    assert!(
        text.contains("uint8 [2000, 28, 28] as [1, 28, 28]; values / 255"),
        "{text}"
    );
}
