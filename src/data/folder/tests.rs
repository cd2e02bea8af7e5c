use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage, RgbaImage};

use crate::data::fixtures::{declared_png, folder, options, read_all};
use crate::data::{Channels, DataLimits, DataOptions, Dataset, Resize};

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(vec![]);
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// One colour, `width` x `height`.
fn plain(width: u32, height: u32, colour: [u8; 3]) -> RgbImage {
    RgbImage::from_pixel(width, height, image::Rgb(colour))
}

fn png(colour: [u8; 3]) -> Vec<u8> {
    encoded(plain(2, 2, colour), ImageFormat::Png)
}

#[test]
fn class_folders_are_labels_in_the_order_of_their_names() {
    let files = [
        ("b/1.png", png([10, 20, 30])),
        ("a/deeper/2.PNG", png([40, 50, 60])),
        ("a/1.png", png([70, 80, 90])),
        ("a/notes.txt", b"no image".to_vec()),
        (".hidden/1.png", vec![]),
        ("empty/Thumbs.db", vec![]),
    ];
    let folder = folder(&files);
    let data = Dataset::open(folder.path(), &options(&[3, 2, 2])).unwrap();
    assert_eq!(data.class_names().unwrap(), ["a", "b", "empty"]);
    assert_eq!(data.labels().unwrap(), [0, 0, 1]);
    let batch = data.read(&[2, 0]).unwrap();
    assert_eq!(
        (batch.shape, batch.labels),
        (vec![2, 3, 2, 2], Some(vec![1, 0]))
    );
    let first: Vec<f32> = batch.values[..12].iter().map(|v| v * 255.0).collect();
    assert_eq!(
        first,
        [
            10.0, 10.0, 10.0, 10.0, 20.0, 20.0, 20.0, 20.0, 30.0, 30.0, 30.0, 30.0
        ]
    );
    let text = data.describe();
    for part in [
        "3 images in 3 class folders",
        "2 other files ignored",
        "1 class folders are empty: empty",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn every_format_is_decoded_in_a_flat_folder_or_alone() {
    let cases = [
        ("a.png", ImageFormat::Png, 0.0),
        ("a.bmp", ImageFormat::Bmp, 0.0),
        ("a.gif", ImageFormat::Gif, 0.0),
        ("a.tiff", ImageFormat::Tiff, 0.0),
        ("a.webp", ImageFormat::WebP, 0.0),
        ("a.JPG", ImageFormat::Jpeg, 3.0),
    ];
    for (name, format, tolerance) in cases {
        let folder = folder(&[(name, encoded(plain(16, 16, [200, 100, 50]), format))]);
        for path in [folder.path().to_owned(), folder.path().join(name)] {
            let batch = read_all(&path, &options(&[3, 16, 16])).unwrap();
            assert_eq!(batch.labels, None);
            for (plane, expected) in batch.values.chunks(256).zip([200.0, 100.0, 50.0]) {
                let worst = plane
                    .iter()
                    .map(|v| (v * 255.0 - expected).abs())
                    .fold(0.0, f32::max);
                assert!(worst <= tolerance + 1e-4, "{name}: {worst}");
            }
        }
    }
}

#[test]
fn grey_feeds_colour_colour_feeds_grey_and_alpha_is_dropped() {
    let grey = encoded(
        GrayImage::from_pixel(1, 1, image::Luma([51])),
        ImageFormat::Png,
    );
    let red = encoded(plain(1, 1, [255, 0, 0]), ImageFormat::Png);
    let clear = encoded(
        RgbaImage::from_pixel(1, 1, image::Rgba([255, 102, 0, 0])),
        ImageFormat::Png,
    );
    type Case<'a> = (&'a Vec<u8>, &'a [usize], Option<Channels>, &'a [f32]);
    let cases: [Case; 7] = [
        (&grey, &[3, 1, 1], None, &[51.0, 51.0, 51.0]),
        (&grey, &[1, 1, 1], None, &[51.0]),
        (&red, &[1, 1, 1], None, &[76.0]),
        (&red, &[3, 1, 1], Some(Channels::Bgr), &[0.0, 0.0, 255.0]),
        (&red, &[3, 1, 1], Some(Channels::Grey), &[76.0, 76.0, 76.0]),
        (&clear, &[3, 1, 1], None, &[255.0, 102.0, 0.0]),
        (&red, &[1], None, &[76.0]),
    ];
    for (file, dims, channels, expected) in cases {
        let folder = folder(&[("a.png", file.clone())]);
        let mut options = options(dims);
        options.preprocess.channels = channels;
        let batch = read_all(folder.path(), &options).unwrap();
        let values: Vec<f32> = batch.values.iter().map(|v| v * 255.0).collect();
        assert_eq!(values, expected, "{dims:?} {channels:?}");
    }
}

#[test]
fn what_holds_no_usable_images_is_refused() {
    let image = || png([1, 2, 3]);
    let jpeg = encoded(plain(64, 64, [9, 9, 9]), ImageFormat::Jpeg);
    let half_png = png([1, 2, 3])[..30].to_vec();
    /// Caption, files, parts of the message.
    type Case = (
        &'static str,
        Vec<(&'static str, Vec<u8>)>,
        Vec<&'static str>,
    );
    let cases: Vec<Case> = vec![
        ("empty", vec![], vec!["holds no images (jpg, "]),
        (
            "other files alone",
            vec![("a.txt", vec![])],
            vec!["only 1 other files"],
        ),
        (
            "both kinds",
            vec![("a.png", image()), ("b/c.png", image())],
            vec!["holds both images (1) and folders of images (1)"],
        ),
        (
            "text",
            vec![("a/a.png", b"no".to_vec()), ("a/b.png", image())],
            vec!["1 of 2 images cannot be used", "a/a.png: "],
        ),
        ("no bytes", vec![("a.png", vec![])], vec!["1 of 1 images"]),
        (
            "truncated header",
            vec![("a.png", half_png)],
            vec!["1 of 1 images", "a.png"],
        ),
        (
            "jpeg without end",
            vec![("a.jpg", jpeg[..20].to_vec())],
            vec!["1 of 1 images"],
        ),
    ];
    for (caption, files, parts) in cases {
        let folder = folder(&files);
        let error = Dataset::open(folder.path(), &options(&[3, 2, 2]))
            .err()
            .unwrap();
        assert!(matches!(error, crate::Error::Data { .. }), "{caption}");
        for part in parts {
            assert!(error.to_string().contains(part), "{caption}: {error}");
        }
    }
    let missing = Dataset::open(
        std::path::Path::new("/nowhere/at/all"),
        &options(&[3, 2, 2]),
    );
    assert!(matches!(missing, Err(crate::Error::Io { .. })));
}

#[test]
fn images_that_break_off_are_found_when_they_are_read() {
    let noisy = RgbImage::from_fn(64, 64, |x, y| {
        image::Rgb([(x * 7 + y * 13) as u8, (x * y) as u8, (x ^ y) as u8])
    });
    let whole = encoded(noisy, ImageFormat::Png);
    let files: Vec<(String, Vec<u8>)> = (0..14)
        .map(|i| {
            let length = if i < 12 { whole.len() / 2 } else { whole.len() };
            (format!("{i:02}.png"), whole[..length].to_vec())
        })
        .collect();
    let files: Vec<(&str, Vec<u8>)> = files
        .iter()
        .map(|(name, file)| (name.as_str(), file.clone()))
        .collect();
    let folder = folder(&files);
    let data = Dataset::open(folder.path(), &options(&[3, 64, 64])).unwrap();
    let error = data
        .read(&(0..14).collect::<Vec<_>>())
        .unwrap_err()
        .to_string();
    for part in [
        "12 of 14 samples cannot be used",
        "00.png: ",
        "09.png: ",
        "and 2 more",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("10.png"), "{error}");
    assert!(data.read(&[12, 13]).is_ok());
    let mut batches = data.batches(&(0..14).collect::<Vec<_>>(), 7);
    assert!(batches.next().unwrap().is_err());
    assert!(batches.next().is_none());
}

#[test]
fn sizes_are_bounded() {
    let folder = folder(&[("a.png", encoded(plain(40, 30, [1, 2, 3]), ImageFormat::Png))]);
    let mut small = options(&[3, 2, 2]);
    small.limits = DataLimits {
        image_pixels: 1199,
        ..DataLimits::default()
    };
    let error = Dataset::open(folder.path(), &small)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("40 x 30 pixels, the limit is 1199"),
        "{error}"
    );
    // A line of pixels resized by its shorter edge would be 16384 times as long.
    let line = super::super::fixtures::folder(&[(
        "a.png",
        encoded(plain(30_000, 1, [1, 2, 3]), ImageFormat::Png),
    )]);
    let mut options = options(&[3, 2, 2]);
    options.preprocess.resize = Some(Resize::ShorterEdge(16_384));
    options.preprocess.crop = Some("2".parse().unwrap());
    let error = read_all(line.path(), &options).unwrap_err().to_string();
    assert!(
        error.contains("would be resized to 16384x491520000"),
        "{error}"
    );
}

#[test]
fn other_sizes_are_scaled_or_refused_with_both_shapes() {
    let folder = folder(&[
        ("a.png", png([1, 2, 3])),
        ("b.png", encoded(plain(3, 2, [1, 2, 3]), ImageFormat::Png)),
    ]);
    assert_eq!(
        read_all(folder.path(), &options(&[3, 8, 8])).unwrap().shape,
        [2, 3, 8, 8]
    );
    let mut cropped = options(&[3, 8, 8]);
    cropped.preprocess.crop = Some("4x6".parse().unwrap());
    let error = read_all(folder.path(), &cropped).unwrap_err().to_string();
    assert!(
        error.contains("[3, 4, 6]") && error.contains("[N, 3, 8, 8]"),
        "{error}"
    );
    // The model leaves its size open, and so do the flags: all images must then have one size.
    let error = read_all(folder.path(), &options(&[3, 0, 0]))
        .unwrap_err()
        .to_string();
    assert!(
        error
            .contains("b.png: comes out with 2x3 pixels, the first sample with 2x2; give a --crop"),
        "{error}"
    );
    let error = read_all(folder.path(), &options(&[4, 4, 4, 4]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the model's input [N, 4, 4, 4, 4] takes none"),
        "{error}"
    );
}

#[test]
fn the_fingerprint_follows_names_and_sizes_not_the_choice() {
    let files = [
        ("a/1.png", png([1, 2, 3])),
        ("b/1.png", png([1, 2, 3])),
        ("b/2.png", png([1, 2, 3])),
    ];
    let print = |files: &[(&str, Vec<u8>)], samples| {
        let folder = folder(files);
        let options = DataOptions {
            samples,
            ..options(&[3, 2, 2])
        };
        Dataset::open(folder.path(), &options)
            .unwrap()
            .fingerprint()
            .unwrap()
    };
    let all = print(&files, None);
    assert_eq!(all, print(&files, Some(1)));
    assert_ne!(all, print(&files[..2], None));
    let renamed = [
        files[0].clone(),
        files[1].clone(),
        ("b/3.png", files[2].1.clone()),
    ];
    assert_ne!(all, print(&renamed, None));
}

#[test]
fn images_from_one_pixel_to_four_hundred_million() {
    let smallest = folder(&[(
        "a.png",
        encoded(plain(1, 1, [51, 102, 204]), ImageFormat::Png),
    )]);
    let batch = read_all(smallest.path(), &options(&[3, 224, 224])).unwrap();
    assert_eq!(batch.values.len(), 3 * 224 * 224);
    for (plane, expected) in batch.values.chunks(224 * 224).zip([0.2, 0.4, 0.8]) {
        assert!(plane.iter().all(|value| *value == expected), "{expected}");
    }
    let cases = [
        (
            20_000,
            20_000,
            "has 20000 x 20000 pixels, the limit is 178956970 in all",
        ),
        (u32::MAX >> 1, u32::MAX >> 1, "a.png: Memory limit exceeded"),
        (0, 7, "1 of 1 images"),
        (3000, 3000, "1 of 1 samples"),
    ];
    for (width, height, part) in cases {
        let huge = folder(&[("a.png", declared_png(width, height))]);
        let error = read_all(huge.path(), &options(&[3, 2, 2])).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}
