//! The cache against extractions without it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    thread,
};

use super::{
    lock::Lock,
    testing::{BATCH, SAMPLES, World, all, contents, copy},
    *,
};
use crate::{
    data::{DataOptions, Dataset, InputShape},
    onnx::{NodeProto, Tensor},
};

#[test]
fn what_was_computed_is_not_computed_again() {
    let world = World::new(None);
    let indices = [4, 2, 17, 3, 3, 0];
    let expected = world.expected(&indices);
    world.engine.loads.store(0, Ordering::Relaxed);
    assert_eq!(
        all(&world.silent(&world.cache("cache"), &indices)),
        expected
    );
    assert_eq!(
        (world.computed(), world.engine.loads.load(Ordering::Relaxed)),
        (5, 1)
    );
    // another run
    assert_eq!(
        all(&world.silent(&world.cache("cache"), &indices)),
        expected
    );
    assert_eq!(
        (world.computed(), world.engine.loads.load(Ordering::Relaxed)),
        (0, 1)
    );
    // other samples share what they have in common
    let others = [0, 1, 2, 19];
    let expected = world.expected(&others);
    assert_eq!(all(&world.silent(&world.cache("cache"), &others)), expected);
    assert_eq!(world.computed(), 2);
    let found = &world.cache("cache").entries().unwrap()[0];
    assert_eq!((found.present, found.total), (7, SAMPLES));
}

#[test]
fn within_a_run_memory_does_the_same() {
    let world = World::new(None);
    let cache = Cache::open(&CacheChoice::Off).unwrap();
    world.silent(&cache, &[4, 2, 17]);
    assert_eq!(world.computed(), 3);
    let found = all(&world.silent(&cache, &[2, 1, 4]));
    assert_eq!(world.computed(), 1);
    assert_eq!(found, world.expected(&[2, 1, 4]));
    assert_eq!(found[0].labels, Some(vec![0, 1, 0]));
}

#[test]
fn a_fixed_batch_is_filled_up_and_only_real_rows_are_kept() {
    let world = World::new(Some(BATCH));
    let indices = [0, 5, 6, 7];
    let expected = world.expected(&indices);
    for computed in [6, 0] {
        let set = world.silent(&world.cache("cache"), &indices);
        assert_eq!(world.computed(), computed);
        assert_eq!(all(&set), expected);
    }
    assert_eq!(expected[1].rows, BATCH);
    assert_eq!(expected[1].samples, 1);
    let found = &world.cache("cache").entries().unwrap()[0];
    assert_eq!(found.present, 4);
}

#[test]
fn large_sets_are_read_from_the_file() {
    let world = World::new(None);
    let mut cache = world.cache("cache");
    cache.disk.as_mut().unwrap().sizes.most_loaded = 0;
    let indices = [9, 3, 4, 5, 1];
    assert_eq!(
        all(&world.silent(&cache, &indices)),
        world.expected(&indices)
    );
    assert_eq!(
        all(&world.silent(&cache, &indices)),
        world.expected(&indices)
    );
}

#[test]
fn an_interrupted_run_goes_on_where_it_stopped() {
    let world = World::new(None);
    let indices: Vec<usize> = (0..SAMPLES).collect();
    let expected = world.expected(&indices);
    world.silent(&world.cache("straight"), &indices);
    let straight = contents(&world.entry("straight"));
    let batches = SAMPLES.div_ceil(BATCH);
    world.computed();
    for stop in 0..batches {
        let name = format!("stopped-{stop}");
        let mut seen = 0;
        let stopped = world.extract(&world.careful_cache(&name), &indices, &mut |event| {
            if let Event::Rows(1..) = event {
                seen += 1;
                if seen > stop {
                    return Err(Error::Argument {
                        name: "test",
                        what: "stop".to_owned(),
                    });
                }
            }
            Ok(())
        });
        assert!(stopped.unwrap_err().to_string().contains("stop"));
        let done = SAMPLES.min((stop + 1) * BATCH);
        assert_eq!(world.cache(&name).entries().unwrap()[0].present, done);
        assert_eq!(world.computed(), done);
        let found = world.silent(&world.cache(&name), &indices);
        assert_eq!(world.computed(), SAMPLES - done);
        assert_eq!(all(&found), expected, "{stop}");
        assert!(contents(&world.entry(&name)) == straight, "{stop}");
    }
}

#[test]
fn a_killed_run_leaves_no_half_rows() {
    let world = World::new(None);
    let indices: Vec<usize> = (0..SAMPLES).collect();
    let expected = world.expected(&indices);
    // One block for all: at every batch, rows lie in the file that do not count.
    let mut copies = Vec::new();
    let cache = world.cache("whole");
    world
        .extract(&cache, &indices, &mut |event| {
            if let Event::Rows(1..) = event {
                let entry = world.entry("whole");
                let root = world.root(&format!("killed-{}", copies.len()));
                copy(&entry, &root.join(entry.file_name().unwrap()));
                copies.push(root);
            }
            Ok(())
        })
        .unwrap();
    world.computed();
    assert_eq!(copies.len(), SAMPLES.div_ceil(BATCH));
    for root in copies {
        let cache = Cache::open(&CacheChoice::At(root)).unwrap();
        assert_eq!(cache.entries().unwrap()[0].present, 0);
        assert_eq!(all(&world.silent(&cache, &indices)), expected);
        assert_eq!(world.computed(), SAMPLES);
    }
}

#[test]
fn broken_entries_are_made_anew_or_mended() {
    type Break = fn(&Path);
    struct Case {
        what: &'static str,
        make: Break,
        /// Rows that are computed again.
        computed: usize,
        note: &'static str,
    }
    fn edit(folder: &Path, from: &str, to: &str) {
        let path = folder.join(manifest::NAME);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
    fn cut(path: PathBuf) {
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    }
    /// One bit of a byte behind the header of 128 bytes.
    fn flip(path: PathBuf, at: usize) {
        let mut bytes = fs::read(&path).unwrap();
        bytes[128 + at] ^= 4;
        fs::write(path, bytes).unwrap();
    }
    let cases = [
        Case {
            what: "values cut short",
            make: |folder| cut(folder.join("0-soft.npy")),
            computed: 4,
            note: "0-soft.npy has 447 bytes instead of 448",
        },
        Case {
            what: "values gone",
            make: |folder| fs::remove_file(folder.join("0-soft.npy")).unwrap(),
            computed: 4,
            note: "0-soft.npy: ",
        },
        Case {
            what: "values of another type",
            make: |folder| {
                let path = folder.join("0-soft.npy");
                let bytes = fs::read(&path).unwrap();
                let at = bytes.windows(3).position(|part| part == b"<f4").unwrap();
                let other = [&bytes[..at], b"<i4", &bytes[at + 3..]].concat();
                fs::write(path, other).unwrap();
            },
            computed: 4,
            note: "0-soft.npy does not begin as it should",
        },
        Case {
            what: "a manifest that is no JSON",
            make: |folder| fs::write(folder.join(manifest::NAME), b"\xff{").unwrap(),
            computed: 4,
            note: "manifest.json: ",
        },
        Case {
            what: "a manifest cut short",
            make: |folder| cut(folder.join(manifest::NAME)),
            computed: 4,
            note: "manifest.json: ",
        },
        Case {
            what: "no manifest",
            make: |folder| fs::remove_file(folder.join(manifest::NAME)).unwrap(),
            computed: 4,
            note: "",
        },
        Case {
            what: "another schema",
            make: |folder| edit(folder, "features/v2", "features/v0"),
            computed: 4,
            note: "is of schema \"onnx-prune/features/v0\"",
        },
        Case {
            what: "the entry of another model",
            make: |folder| edit(folder, "\"key\": \"", "\"key\": \"0"),
            computed: 4,
            note: "is that of another entry",
        },
        Case {
            what: "a file outside",
            make: |folder| edit(folder, "0-soft.npy", "../0-soft.npy"),
            computed: 4,
            note: "impossible values",
        },
        Case {
            what: "more values than can be counted",
            make: |folder| edit(folder, "\"each\": 1", "\"each\": 9223372036854775807"),
            computed: 4,
            note: "impossible values",
        },
        Case {
            what: "values of another name",
            make: |folder| edit(folder, "\"name\": \"soft\"", "\"name\": \"hard\""),
            computed: 4,
            note: "describes other features",
        },
        Case {
            what: "sizes that name no place",
            make: |folder| {
                let path = folder.join(manifest::NAME);
                let text = fs::read_to_string(&path).unwrap();
                let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
                let value = &mut json["values"][0];
                value["file"] = serde_json::Value::Null;
                value["layout"]["kind"] = serde_json::json!({
                    "sizes": { "values": [1], "samples": [7] }
                });
                fs::write(path, json.to_string()).unwrap();
            },
            computed: 4,
            note: "impossible values",
        },
        Case {
            what: "no list of what is present",
            make: |folder| fs::remove_file(folder.join("present.npy")).unwrap(),
            computed: 4,
            note: "present.npy: ",
        },
        Case {
            what: "a garbled list",
            make: |folder| {
                let path = folder.join("present.npy");
                let mut bytes = fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() = 7;
                fs::write(path, bytes).unwrap();
            },
            computed: 4,
            note: "other than true and false",
        },
        Case {
            what: "a flipped bit in a row that is wanted",
            make: |folder| flip(folder.join("0-soft.npy"), 3 * 16 + 5),
            computed: 1,
            note: "1 rows have changed since they were written",
        },
        Case {
            what: "a flipped bit in a row that is not there",
            make: |folder| flip(folder.join("0-soft.npy"), 5 * 16),
            computed: 0,
            note: "",
        },
        Case {
            what: "no sums",
            make: |folder| fs::remove_file(folder.join("sums.npy")).unwrap(),
            computed: 4,
            note: "sums.npy: ",
        },
        Case {
            what: "the sum of one row changed",
            make: |folder| flip(folder.join("sums.npy"), 9 * 8),
            computed: 1,
            note: "1 rows have changed since they were written",
        },
        Case {
            what: "no labels",
            make: |folder| fs::remove_file(folder.join("labels.npy")).unwrap(),
            computed: 0,
            note: "labels.npy is written again",
        },
        Case {
            what: "labels cut short",
            make: |folder| cut(folder.join("labels.npy")),
            computed: 0,
            note: "labels.npy is written again",
        },
        Case {
            what: "what a write left that did not end",
            make: |folder| fs::write(folder.join("present.npy.new"), b"x").unwrap(),
            computed: 0,
            note: "",
        },
    ];
    let world = World::new(None);
    let indices = [1, 2, 3, 9];
    let expected = world.expected(&indices);
    for case in cases {
        let name = case.what;
        world.silent(&world.cache(name), &indices);
        world.computed();
        (case.make)(&world.entry(name));
        let (found, notes) = world.noted(&world.cache(name), &indices);
        assert_eq!(all(&found.unwrap()), expected, "{name}");
        assert_eq!(world.computed(), case.computed, "{name}");
        assert!(notes.contains(case.note), "{name}: {notes}");
        // and now it is whole
        assert_eq!(
            all(&world.silent(&world.cache(name), &indices)),
            expected,
            "{name}"
        );
        assert_eq!(world.computed(), 0, "{name}");
        let entry = &world.cache(name).entries().unwrap()[0];
        assert_eq!((entry.present, &entry.problem), (4, &None), "{name}");
        assert!(world.entry(name).join("labels.npy").exists(), "{name}");
    }
}

#[test]
fn what_is_not_of_the_cache_is_never_removed() {
    let world = World::new(None);
    world.silent(&world.cache("cache"), &[1, 2]);
    let entry = world.entry("cache");
    fs::remove_file(entry.join(manifest::NAME)).unwrap();
    fs::write(entry.join("thesis.txt"), "chapter 1").unwrap();
    fs::create_dir(world.root("cache").join("photos")).unwrap();
    let cache = world.cache("cache");
    let error = world.extract(&cache, &[1, 2], &mut |_| Ok(())).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("\"thesis.txt\", which is not of the cache"),
        "{text}"
    );
    assert!(text.contains(entry.to_str().unwrap()), "{text}");
    let before = fs::read_dir(&entry).unwrap().count();
    let cleared = cache.clear(None).unwrap();
    assert_eq!((cleared.removed, cleared.kept.len()), (0, 1), "{cleared:?}");
    assert_eq!(fs::read_dir(&entry).unwrap().count(), before);
    assert!(world.root("cache").join("photos").exists());
}

#[test]
fn clearing_leaves_nothing_but_what_is_in_use() {
    let world = World::new(None);
    world.silent(&world.cache("cache"), &[1, 2]);
    let cache = world.cache("cache");
    let entry = world.entry("cache");
    assert_eq!(cache.clear(Some(1)).unwrap(), Cleared::default());
    let lock = Lock::try_take(&entry).unwrap().unwrap();
    let cleared = cache.clear(None).unwrap();
    assert!(
        cleared.kept[0].contains("another run is using it"),
        "{cleared:?}"
    );
    drop(lock);
    let cleared = cache.clear(Some(0)).unwrap();
    assert_eq!((cleared.removed, cleared.kept.len()), (1, 0));
    assert!(cleared.bytes > 0);
    assert!(!entry.exists());
    assert_eq!(cache.entries().unwrap(), []);
    let nowhere = Cache::open(&CacheChoice::At(world.root("nowhere"))).unwrap();
    assert_eq!(nowhere.entries().unwrap(), []);
    assert_eq!(nowhere.clear(None).unwrap(), Cleared::default());
}

#[test]
fn without_room_features_are_kept_in_memory_if_they_are_not_too_many() {
    let world = World::new(None);
    let indices = [1, 2, 3, 9];
    let expected = world.expected(&indices);
    let mut cache = world.cache("cache");
    cache.disk.as_mut().unwrap().sizes.free = Some(100);
    let (found, notes) = world.noted(&cache, &indices);
    assert_eq!(all(&found.unwrap()), expected);
    assert!(notes.contains("kept in memory alone: up to"), "{notes}");
    world.computed();
    assert_eq!(all(&world.silent(&cache, &indices)), expected);
    assert_eq!(world.computed(), 0);
    assert_eq!(cache.entries().unwrap()[0].present, 0);
    let mut cache = world.cache("cache");
    cache.disk.as_mut().unwrap().sizes.free = Some(100);
    cache.sizes.most_in_memory = 4 * 16 - 1;
    let error = world.noted(&cache, &indices).0.unwrap_err().to_string();
    assert!(
        error.starts_with("--cache: 64 bytes of features are more than the 63 bytes"),
        "{error}"
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_only_where_it_was_named() {
    let world = World::new(None);
    let indices = [1, 2];
    // A file in the way stops root as well.
    fs::write(world.root("file"), "").unwrap();
    assert!(Cache::open(&CacheChoice::At(world.root("file"))).is_err());
    let mut cache = world.cache("file/below");
    let error = world.noted(&cache, &indices).0.unwrap_err().to_string();
    assert!(error.contains("below"), "{error}");
    cache.disk.as_mut().unwrap().asked = false;
    let (found, notes) = world.noted(&cache, &indices);
    assert_eq!(all(&found.unwrap()), world.expected(&indices));
    assert!(notes.contains("the cache cannot be used"), "{notes}");
}

#[test]
fn runs_side_by_side_compute_every_row_once() {
    let world = World::new(None);
    let indices: Vec<usize> = (0..SAMPLES).collect();
    let expected = world.expected(&indices);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cache = world.careful_cache("cache");
                assert_eq!(all(&world.silent(&cache, &indices)), expected);
            });
        }
    });
    assert_eq!(world.computed(), SAMPLES);
}

#[test]
fn keys_tell_models_data_and_preprocessing_apart() {
    let mut world = World::new(None);
    world.silent(&world.cache("cache"), &[1]);
    // The head alone is another one: the same features.
    let graph = world.model.graph.as_mut().unwrap();
    let doubled = Tensor::f32([2], vec![7.0, 8.0]).unwrap().to_proto("b1");
    let bias = graph
        .initializer
        .iter_mut()
        .find(|tensor| tensor.name() == "b1");
    *bias.unwrap() = doubled;
    world.silent(&world.cache("cache"), &[1]);
    assert_eq!(world.cache("cache").entries().unwrap().len(), 1);
    // Another trunk.
    let graph = world.model.graph.as_mut().unwrap();
    graph.node[0] = NodeProto::new("LogSoftmax", &["x"], &["soft"]);
    world.silent(&world.cache("cache"), &[1]);
    assert_eq!(world.cache("cache").entries().unwrap().len(), 2);
    // Another engine.
    world.engine.info.version = "0.0.1".to_owned();
    world.silent(&world.cache("cache"), &[1]);
    assert_eq!(world.cache("cache").entries().unwrap().len(), 3);
    // Other data.
    let other = World::new(None);
    let path = other.folder.path().join("data.npy");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() = 0;
    fs::write(&path, bytes).unwrap();
    let input = InputShape::from_dims(&[None, Some(4)], None).unwrap();
    world.dataset = Dataset::open(&path, &DataOptions::new(input, "x")).unwrap();
    world.silent(&world.cache("cache"), &[1]);
    assert_eq!(world.cache("cache").entries().unwrap().len(), 4);
}
