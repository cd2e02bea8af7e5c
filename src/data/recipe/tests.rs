use crate::data::fixtures::{failure, folder, npy, options, read_all};
use crate::data::{Channels, DataOptions, Dataset, Layout, Preprocess};

fn read(file: Vec<u8>, options: &DataOptions) -> Vec<f32> {
    let folder = folder(&[("a.npy", file)]);
    let batch = read_all(&folder.path().join("a.npy"), options).unwrap();
    assert_eq!(batch.values.len(), batch.shape.iter().product::<usize>());
    batch
        .values
        .iter()
        .map(|value| (value * 255.0).round())
        .collect()
}

/// Two by two pixels whose three channels are 1, 2, 3, 4 and 10 and 20 times that.
const PLANAR: [u8; 12] = [1, 2, 3, 4, 10, 20, 30, 40, 20, 40, 60, 80];
const INTERLEAVED: [u8; 12] = [1, 10, 20, 2, 20, 40, 3, 30, 60, 4, 40, 80];

#[test]
fn arrays_of_bytes_take_the_models_layout() {
    let floats = |bytes: [u8; 12]| bytes.map(f32::from).to_vec();
    /// Caption, shape and bytes of the array, sizes of the model's input, values.
    type Case<'a> = (&'a str, &'a str, &'a [u8], &'a [usize], Vec<f32>);
    let cases: [Case; 8] = [
        ("same", "1, 3, 2, 2", &PLANAR, &[3, 2, 2], floats(PLANAR)),
        (
            "last to first",
            "1, 2, 2, 3",
            &INTERLEAVED,
            &[3, 2, 2],
            floats(PLANAR),
        ),
        (
            "first to last",
            "1, 3, 2, 2",
            &PLANAR,
            &[2, 2, 3],
            floats(INTERLEAVED),
        ),
        (
            "last to last",
            "1, 2, 2, 3",
            &INTERLEAVED,
            &[2, 2, 3],
            floats(INTERLEAVED),
        ),
        (
            "plane to one channel",
            "1, 2, 2",
            &[1, 2, 3, 4],
            &[1, 2, 2],
            vec![1.0, 2.0, 3.0, 4.0],
        ),
        (
            "plane to three, last",
            "1, 2, 2",
            &[7, 8, 9, 1],
            &[2, 2, 3],
            vec![7.0, 7.0, 7.0, 8.0, 8.0, 8.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0],
        ),
        (
            "plane to a vector",
            "1, 2, 2",
            &[1, 2, 3, 4],
            &[4],
            vec![1.0, 2.0, 3.0, 4.0],
        ),
        (
            "colour to one channel",
            "1, 1, 1, 3",
            &[255, 0, 0],
            &[1, 1, 1],
            vec![76.0],
        ),
    ];
    for (caption, shape, bytes, dims, expected) in cases {
        assert_eq!(
            read(npy("|u1", false, shape, bytes), &options(dims)),
            expected,
            "{caption}"
        );
    }
}

#[test]
fn arrays_of_floats_take_the_models_layout() {
    let file = |shape: &str, bytes: &[u8]| {
        let values: Vec<u8> = bytes
            .iter()
            .flat_map(|&b| (f32::from(b) / 255.0).to_le_bytes())
            .collect();
        npy("<f4", false, shape, &values)
    };
    let floats = |bytes: [u8; 12]| bytes.map(f32::from).to_vec();
    assert_eq!(
        read(file("1, 2, 2, 3", &INTERLEAVED), &options(&[3, 2, 2])),
        floats(PLANAR)
    );
    assert_eq!(
        read(file("1, 3, 2, 2", &PLANAR), &options(&[2, 2, 3])),
        floats(INTERLEAVED)
    );
    assert_eq!(
        read(file("1, 1, 2", &[7, 8]), &options(&[3, 1, 2])),
        [7.0, 8.0, 7.0, 8.0, 7.0, 8.0]
    );
    assert_eq!(
        read(file("1, 1, 1, 3", &[255, 0, 0]), &options(&[1, 1, 1])),
        [76.0]
    );
    // `--channels` is a flag, so it also holds for floats.
    let with = |channels| {
        let mut options = options(&[3, 2, 2]);
        options.preprocess.channels = Some(channels);
        read(file("1, 3, 2, 2", &PLANAR), &options)
    };
    assert_eq!(with(Channels::Rgb), floats(PLANAR));
    assert_eq!(with(Channels::Bgr)[..4], [20.0, 40.0, 60.0, 80.0]);
    // 0.299 * 1 + 0.587 * 10 + 0.114 * 20 = 8.4
    assert_eq!(with(Channels::Grey)[..5], [8.0, 17.0, 25.0, 34.0, 8.0]);
}

#[test]
fn axes_of_size_one_stand_where_the_model_wants_them() {
    let cases: [(&str, &[usize], &[usize]); 4] = [
        ("1, 2, 1", &[1, 2], &[1, 1, 2]),
        ("1, 2, 1", &[2, 1], &[1, 2, 1]),
        ("1, 2", &[1, 1, 2, 1], &[1, 1, 1, 2, 1]),
        ("1, 1, 2", &[2], &[1, 2]),
    ];
    for (stored, dims, expected) in cases {
        let folder = folder(&[("a.npy", npy("|u1", false, stored, &[1, 2]))]);
        let batch = read_all(&folder.path().join("a.npy"), &options(dims)).unwrap();
        assert_eq!(batch.shape, expected, "{stored}");
    }
}

#[test]
fn flags_that_do_not_go_with_the_model_are_refused_or_said_aloud() {
    let vector = || npy("|u1", false, "1, 2", &[1, 2]);
    let mut asked = options(&[2]);
    asked.preprocess.channels = Some(Channels::Grey);
    assert!(failure("a.npy", vector(), &asked).contains("grey channels are asked for"));
    asked = options(&[2]);
    asked.preprocess.layout = Some(Layout::Nchw);
    assert!(failure("a.npy", vector(), &asked).contains("--layout"));
    asked = options(&[3, 2, 2]);
    asked.preprocess.layout = Some(Layout::Nhwc);
    assert!(
        failure("a.npy", vector(), &asked)
            .contains("does not go with the model's input [N, 3, 2, 2]")
    );
    let mut sized = options(&[1, 1, 2]);
    sized.preprocess = Preprocess::preset("imagenet-bicubic").unwrap();
    sized.preprocess.mean = vec![];
    sized.preprocess.std = vec![];
    for descr in ["|u1", "|i1"] {
        let folder = folder(&[("a.npy", npy(descr, false, "1, 1, 2", &[1, 2]))]);
        let data = Dataset::open(&folder.path().join("a.npy"), &sized).unwrap();
        assert!(
            data.describe().contains("neither resized nor cut"),
            "{}",
            data.describe()
        );
    }
}

#[test]
fn bytes_are_normalised_as_torchvision_does() {
    // torchvision: ToTensor, then Normalize, on one pixel (124, 116, 104).
    let mut options = options(&[3, 1, 1]);
    options.preprocess = Preprocess::preset("imagenet").unwrap();
    let folder = folder(&[("a.npy", npy("|u1", false, "1, 1, 1, 3", &[124, 116, 104]))]);
    let values = read_all(&folder.path().join("a.npy"), &options)
        .unwrap()
        .values;
    let expected: Vec<f32> = [
        (124.0_f32, 0.485_f32, 0.229_f32),
        (116.0, 0.456, 0.224),
        (104.0, 0.406, 0.225),
    ]
    .map(|(byte, mean, std)| (byte / 255.0 - mean) / std)
    .to_vec();
    assert_eq!(values, expected);
    options.preprocess = Preprocess::preset("keras-caffe").unwrap();
    let values = read_all(&folder.path().join("a.npy"), &options)
        .unwrap()
        .values;
    assert_eq!(values, [104.0 - 103.939, 116.0 - 116.779, 124.0 - 123.68]);
}

#[test]
fn arrays_of_the_models_size_are_not_resized_and_others_only_when_asked() {
    let ramp: Vec<u8> = (0..16).collect();
    let mut resized = options(&[1, 4, 4]);
    resized.preprocess.resize = Some("8".parse().unwrap());
    resized.preprocess.crop = Some("4".parse().unwrap());
    let expected: Vec<f32> = (0..16).map(|v| v as f32).collect();
    assert_eq!(
        read(npy("|u1", false, "1, 4, 4", &ramp), &resized),
        expected
    );
    resized = options(&[1, 2, 2]);
    let message = failure("a.npy", npy("|u1", false, "1, 4, 4", &ramp), &resized);
    assert!(
        message.contains("shape [4, 4] (uint8 [1, 4, 4]), the model's input is [N, 1, 2, 2]"),
        "{message}"
    );
    resized.preprocess.resize = Some("2".parse().unwrap());
    assert_eq!(read(npy("|u1", false, "1, 4, 4", &ramp), &resized).len(), 4);
    // Floats are never resized.
    let floats = npy("<f4", false, "1, 4, 4", &[0; 64]);
    assert!(failure("a.npy", floats, &resized).contains("the model's input is"));
}

#[test]
fn normalisation_of_another_channel_count_is_refused() {
    let mut options = options(&[1, 2, 2]);
    options.preprocess = Preprocess::preset("cifar10").unwrap();
    let message = failure("a.npy", npy("|u1", false, "1, 2, 2", &[0; 4]), &options);
    assert!(
        message.contains("mean has 3 values, the model's input takes 1 channels"),
        "{message}"
    );
    options.preprocess = Preprocess {
        channels: Some(Channels::Rgb),
        ..Preprocess::default()
    };
    let message = failure("a.npy", npy("|u1", false, "1, 2, 2", &[0; 4]), &options);
    assert!(message.contains("the model takes one channel"), "{message}");
}

#[test]
fn synthetic_samples_have_the_models_shape_and_go_through_the_preprocessing() {
    for (dims, shape) in [
        (vec![3, 8, 9], vec![5, 3, 8, 9]),
        (vec![8, 9, 1], vec![5, 8, 9, 1]),
        (vec![0, 0, 0], vec![5, 3, 224, 224]),
        (vec![7], vec![5, 7]),
        (vec![7, 0, 2, 2], vec![5, 7, 1, 2, 2]),
    ] {
        let data = Dataset::synthetic(&DataOptions {
            samples: Some(5),
            ..options(&dims)
        })
        .unwrap();
        let batch = data.read(&[0, 1, 2, 3, 4]).unwrap();
        assert_eq!(batch.shape, shape);
        assert!(data.describe().contains("synthetic"), "{}", data.describe());
    }
    let mut options = options(&[3, 8, 8]);
    options.preprocess = Preprocess::preset("imagenet").unwrap();
    let values = Dataset::synthetic(&options)
        .unwrap()
        .read(&[0])
        .unwrap()
        .values;
    assert!(values.iter().any(|value| *value < -1.0) && values.iter().any(|value| *value > 1.0));
}
