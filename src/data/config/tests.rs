use super::*;
use crate::data::geometry::Centring;

fn parsed(text: &str) -> Preprocess {
    parse(&serde_json::from_str(text).unwrap())
        .unwrap()
        .unwrap()
}

/// What [`Preprocess::describe`] says of a configuration, without the source.
fn described(text: &str) -> String {
    let text = parsed(text).describe();
    text.split(" (from").next().unwrap().to_owned()
}

#[test]
fn files_of_real_models_are_read_as_their_libraries_do() {
    let cases = [
        // google/vit-base-patch16-224
        (
            r#"{"do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
                "image_processor_type": "ViTImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 2,
                "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224}}"#,
            "resize 224x224, bilinear; values / 255, - [0.5, 0.5, 0.5], / [0.5, 0.5, 0.5]",
        ),
        // an early file of the same model: size is a number, and for ViT that is both edges
        (
            r#"{"do_normalize": true, "do_resize": true, "feature_extractor_type": "ViTFeatureExtractor",
                "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": 224}"#,
            "resize 224x224, bilinear; values / 255, - [0.5, 0.5, 0.5], / [0.5, 0.5, 0.5]",
        ),
        // microsoft/resnet-50: ConvNeXt's processor below 384
        (
            r#"{"crop_pct": 0.875, "do_normalize": true, "do_resize": true, "feature_extractor_type": "ConvNextFeatureExtractor",
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": 224}"#,
            "resize 256, crop 224x224, bicubic; values / 255, - [0.485, 0.456, 0.406], / [0.229, 0.224, 0.225]",
        ),
        // ConvNeXt at 384
        (
            r#"{"image_processor_type": "ConvNextImageProcessorFast", "image_mean": 0.5, "image_std": 0.5, "resample": 3,
                "size": {"shortest_edge": 384}}"#,
            "resize 384x384, bicubic; values / 255, - [0.5], / [0.5]",
        ),
        // google/mobilenet_v2_1.0_224
        (
            r#"{"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "image_mean": [0.5, 0.5, 0.5],
                "image_processor_type": "MobileNetV2ImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": {"shortest_edge": 256}}"#,
            "resize 256, crop 224x224, bilinear; values / 255, - [0.5, 0.5, 0.5], / [0.5, 0.5, 0.5]",
        ),
        // all fields from the class; nested as transformers 5 writes it
        (
            r#"{"image_processor": {"image_processor_type": "LevitImageProcessor"}}"#,
            "resize 256, crop 224x224, bicubic; values / 255, - [0.485, 0.456, 0.406], / [0.229, 0.224, 0.225]",
        ),
        // PoolFormer: int(224 / 0.9)
        (
            r#"{"image_processor_type": "PoolFormerImageProcessor", "size": {"shortest_edge": 224}}"#,
            "resize 248, crop 224x224, bicubic; values / 255, - [0.485, 0.456, 0.406], / [0.229, 0.224, 0.225]",
        ),
        // nothing but scaling
        (
            r#"{"do_resize": false, "do_normalize": false, "do_rescale": true, "rescale_factor": 0.5}"#,
            "not resized; values * 0.5",
        ),
        // timm/resnet50.a1_in1k
        (
            r#"{"architecture": "resnet50", "pretrained_cfg": {"input_size": [3, 224, 224], "test_input_size": [3, 288, 288],
                "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center",
                "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}"#,
            "resize 235, crop 224x224, bicubic; values / 255, - [0.485, 0.456, 0.406], / [0.229, 0.224, 0.225]",
        ),
        // timm, squash
        (
            r#"{"input_size": [3, 384, 384], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "squash", "mean": [0.5], "std": [0.5]}"#,
            "resize 384x384, crop 384x384, bicubic; values / 255, - [0.5], / [0.5]",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(described(text), expected, "{text}");
    }
    let efficientnet =
        r#"{"image_processor_type": "EfficientNetImageProcessor", "image_std": [0.5, 0.5, 0.25]}"#;
    assert_eq!(parsed(efficientnet).std, [0.25, 0.25, 0.0625]);
    assert_eq!(parsed(efficientnet).centring, Centring::Down);
}

#[test]
fn what_cannot_be_known_is_refused_by_name() {
    let cases = [
        (
            r#"{"image_processor_type": "NewImageProcessor", "image_mean": [0.5], "image_std": [0.5], "resample": 2}"#,
            "\"size\"",
        ),
        (
            r#"{"do_normalize": true, "size": 224, "resample": 3}"#,
            "\"image_mean\"",
        ),
        (r#"{"do_normalize": true, "size": 224}"#, "\"resample\""),
        (
            r#"{"do_normalize": true, "size": {"longest_edge": 224}, "resample": 3}"#,
            "longest_edge",
        ),
        (r#"{"do_normalize": true, "size": -3, "resample": 3}"#, "-3"),
        (
            r#"{"do_normalize": true, "size": 3, "resample": 9}"#,
            "resample",
        ),
        (
            r#"{"image_mean": ["a"], "image_std": [1], "size": 3, "resample": 2}"#,
            "image_mean",
        ),
        (r#"{"input_size": [3, 224], "mean": [0.5]}"#, "input_size"),
        (
            r#"{"input_size": [3, 224, 224], "crop_pct": 0, "mean": [0.5]}"#,
            "crop_pct",
        ),
        (
            r#"{"input_size": [3, 224, 224], "interpolation": "random", "mean": [0.5]}"#,
            "random",
        ),
        (
            r#"{"image_processor_type": "EfficientNetImageProcessor", "rescale_offset": true}"#,
            "rescale_offset",
        ),
        (
            r#"{"float_arrays": "as-they-are", "resize": "huge"}"#,
            "huge",
        ),
        (r#"[1]"#, "object"),
    ];
    for (text, part) in cases {
        let problem = parse(&serde_json::from_str(text).unwrap())
            .unwrap_err()
            .text();
        assert!(problem.contains(part), "{text}: {problem}");
    }
}

#[test]
fn the_nearest_file_that_speaks_of_images_wins() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("onnx");
    std::fs::create_dir(&inner).unwrap();
    let model = inner.join("model.onnx");
    assert_eq!(beside(&model).unwrap(), None);
    // A language model's config says nothing about images.
    std::fs::write(inner.join("config.json"), r#"{"hidden_size": 3}"#).unwrap();
    assert_eq!(beside(&model).unwrap(), None);
    std::fs::write(inner.join("config.json"), "# not JSON").unwrap();
    assert_eq!(beside(&model).unwrap(), None);
    let mean = |mean: f32| {
        format!(r#"{{"image_processor_type": "ViTImageProcessor", "image_mean": [{mean}]}}"#)
    };
    std::fs::write(folder.path().join("preprocessor_config.json"), mean(0.25)).unwrap();
    assert_eq!(beside(&model).unwrap().unwrap().mean, [0.25]);
    std::fs::write(inner.join("preprocessor_config.json"), mean(0.5)).unwrap();
    std::fs::write(inner.join("processor_config.json"), mean(0.75)).unwrap();
    let found = beside(&model).unwrap().unwrap();
    assert_eq!(found.mean, [0.75]);
    assert!(
        found.source.ends_with("processor_config.json"),
        "{}",
        found.source
    );
    std::fs::write(inner.join("processor_config.json"), "{").unwrap();
    assert!(matches!(beside(&model), Err(Error::Data { .. })));
}
