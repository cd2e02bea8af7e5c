use super::*;

#[test]
fn flags_replace_single_fields() {
    let overrides = Overrides {
        preprocess: Some("imagenet".to_owned()),
        crop: Some("96".parse().unwrap()),
        mean: Some(vec![0.5]),
        ..Overrides::default()
    };
    let found = Preprocess::find(&overrides, None, None).unwrap();
    assert_eq!(found.source, "preset imagenet, then --crop --mean");
    assert_eq!(
        (found.resize, found.std.len()),
        (Some(Resize::CropShare(0.875)), 3)
    );
    assert_eq!(
        (found.crop, found.mean),
        (Some(Size::square(96)), vec![0.5])
    );
    assert_eq!(found.float_arrays, FloatArrays::Normalised);
}

#[test]
fn the_most_explicit_source_wins() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.onnx");
    let stored = Preprocess::preset("mnist").unwrap().to_json();
    let config =
        r#"{"input_size": [3, 8, 8], "crop_pct": 1.0, "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let named = Overrides {
        preprocess: Some("cifar10".to_owned()),
        ..Overrides::default()
    };
    let none = Overrides::default();
    let mean = |overrides, model, stored| Preprocess::find(overrides, model, stored).unwrap().mean;
    assert_eq!(
        mean(&named, Some(&*model), Some(&*stored)),
        [0.4914, 0.4822, 0.4465]
    );
    assert_eq!(mean(&none, Some(&*model), Some(&*stored)), [0.1307]);
    assert_eq!(mean(&none, Some(&*model), None), [0.1, 0.2, 0.3]);
    assert_eq!(mean(&none, None, None), [0.0; 0]);
    let file = Overrides {
        preprocess: Some(folder.path().join("config.json").display().to_string()),
        ..Overrides::default()
    };
    assert_eq!(mean(&file, None, None), [0.1, 0.2, 0.3]);
}

#[test]
fn numbers_that_cannot_be_meant_are_refused() {
    let base = Overrides::default;
    let cases = [
        (
            Overrides {
                preprocess: Some("imagenette".to_owned()),
                ..base()
            },
            "imagenette",
        ),
        (
            Overrides {
                mean: Some(vec![f32::NAN]),
                ..base()
            },
            "--mean",
        ),
        (
            Overrides {
                mean: Some(vec![123.675]),
                ..base()
            },
            "--rescale 1",
        ),
        (
            Overrides {
                std: Some(vec![0.0]),
                ..base()
            },
            "--std",
        ),
        (
            Overrides {
                std: Some(vec![1.0; 2]),
                mean: Some(vec![0.5; 3]),
                ..base()
            },
            "2 values",
        ),
        (
            Overrides {
                rescale: Some(-1.0),
                ..base()
            },
            "--rescale",
        ),
    ];
    for (overrides, part) in cases {
        let error = Preprocess::find(&overrides, None, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(Preprocess::from_json("{\"unknown\": 1}").is_err());
    assert!(Preprocess::from_json("{\"std\": [0]}").is_err());
}

#[test]
fn json_brings_everything_back() {
    let full = Preprocess {
        source: "the model's metadata".to_owned(),
        channels: Some(Channels::Bgr),
        resize: Some(Resize::CropShare(0.9)),
        crop: Some(Size {
            height: 5,
            width: 6,
        }),
        centring: Centring::Down,
        interpolation: Interpolation::Bicubic,
        rescale: Some(0.5),
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229],
        layout: Some(Layout::Nhwc),
        float_arrays: FloatArrays::Normalised,
    };
    assert!(
        full.to_json().contains("\"mean\":[0.485,0.456,0.406]"),
        "{}",
        full.to_json()
    );
    assert_eq!(Preprocess::from_json(&full.to_json()).unwrap(), full);
    assert_eq!(
        full.describe(),
        "resize to 5x6 / 0.9, crop 5x6, bicubic; values * 0.5, - [0.485, 0.456, 0.406], / [0.229], bgr, nhwc (from the model's metadata)"
    );
}
