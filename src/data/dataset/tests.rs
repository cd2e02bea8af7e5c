use crate::data::fixtures::{folder, npy, options};

use super::*;

fn ramp(samples: usize) -> (tempfile::TempDir, PathBuf) {
    let data: Vec<u8> = (0..samples * 2).map(|value| value as u8).collect();
    let folder = folder(&[("a.npy", npy("|u1", false, &format!("{samples}, 2"), &data))]);
    let path = folder.path().join("a.npy");
    (folder, path)
}

#[test]
fn batches_cover_the_indices_in_order() {
    let (_folder, path) = ramp(10);
    let data = Dataset::open(&path, &options(&[2])).unwrap();
    let indices = [9, 0, 3, 3, 5];
    let together = data.read(&indices).unwrap().values;
    for size in [0, 1, 2, 5, 100] {
        let batches: Vec<Batch> = data.batches(&indices, size).map(Result::unwrap).collect();
        assert_eq!(batches.len(), indices.len().div_ceil(size.max(1)));
        assert_eq!(
            batches
                .iter()
                .flat_map(|batch| batch.values.clone())
                .collect::<Vec<_>>(),
            together
        );
    }
    assert_eq!(data.batches(&[], 3).count(), 0);
    // Dropping the iterator early ends its thread.
    drop(data.batches(&indices, 1));
}

#[test]
fn an_index_out_of_range_is_an_error() {
    let (_folder, path) = ramp(3);
    let data = Dataset::open(&path, &options(&[2])).unwrap();
    assert!(
        data.read(&[3])
            .unwrap_err()
            .to_string()
            .contains("has no sample 3, only 3")
    );
    assert_eq!(data.read(&[]).unwrap().shape, [0, 2]);
}

#[test]
fn values_do_not_depend_on_the_number_of_threads() {
    let options = DataOptions {
        samples: Some(9),
        seed: 5,
        ..options(&[3, 33, 20])
    };
    let data = Dataset::synthetic(&options).unwrap();
    let indices: Vec<usize> = (0..9).collect();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| data.read(&indices).unwrap())
    };
    assert_eq!(with(1), with(4));
}

#[test]
fn samples_are_chosen_by_seed_and_said_aloud() {
    let (_folder, path) = ramp(100);
    let open = |samples, seed| {
        Dataset::open(
            &path,
            &DataOptions {
                samples,
                seed,
                ..options(&[2])
            },
        )
    };
    let values = |samples, seed| {
        let data = open(samples, seed).unwrap();
        data.read(&(0..data.len()).collect::<Vec<_>>())
            .unwrap()
            .values
    };
    assert_eq!(values(Some(5), 1), values(Some(5), 1));
    assert_ne!(values(Some(5), 1), values(Some(5), 2));
    assert!(
        open(Some(5), 1)
            .unwrap()
            .describe()
            .contains("5 of 100 samples (seed 1)")
    );
    assert!(
        open(Some(500), 1)
            .unwrap()
            .describe()
            .contains("all 100 samples")
    );
    assert!(matches!(
        open(Some(0), 1),
        Err(Error::Argument {
            name: "--samples",
            ..
        })
    ));
}

#[test]
fn a_file_that_shrinks_after_opening_is_an_error() {
    let (_folder, path) = ramp(10);
    let data = Dataset::open(&path, &options(&[2])).unwrap();
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(140)
        .unwrap();
    let error = data.read(&[0, 9]).unwrap_err().to_string();
    assert!(
        error.contains("4 of 10 samples cannot be used") && error.contains("sample 9"),
        "{error}"
    );
}

#[test]
fn unknown_files_are_refused_with_the_list_of_kinds() {
    let folder = folder(&[("a.txt", b"1,2,3".to_vec())]);
    let error = Dataset::open(&folder.path().join("a.txt"), &options(&[2]))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("an .npz archive") && error.contains("a folder of images"),
        "{error}"
    );
}

#[test]
fn the_fingerprint_is_of_the_content() {
    let (_first, path) = ramp(10);
    let (_second, copy) = ramp(10);
    let (_third, other) = ramp(11);
    let print = |path: &Path| {
        Dataset::open(path, &options(&[2]))
            .unwrap()
            .fingerprint()
            .unwrap()
    };
    assert_eq!(print(&path), print(&copy));
    assert_ne!(print(&path), print(&other));
}
