use super::super::fixtures::{folder, gzip, idx, npy, npz, options, read_all, repository, tar};
use crate::Error;

/// A small file of every format, and the input it feeds.
fn files() -> Vec<(&'static str, Vec<u8>, Vec<usize>)> {
    let fixture = |path: &str| std::fs::read(repository(path)).unwrap();
    let web = fixture("tests/data/webdataset.tar");
    let record = [vec![3], vec![200; 3072]].concat();
    let cifar = tar(&[
        ("cifar-10-batches-bin/test_batch.bin", &record),
        ("cifar-10-batches-bin/batches.meta.txt", b"a\nb\nc\nd\n"),
    ]);
    let image = vec![3, 16, 16];
    vec![
        ("a.tar", web.clone(), image.clone()),
        ("a.tar.gz", gzip(&web), image.clone()),
        ("cifar.tar.gz#test", gzip(&cifar), vec![3, 32, 32]),
        ("cifar.tar#test", cifar, vec![3, 32, 32]),
        (
            "test_batch",
            fixture("tests/data/cifar-batch.pickle"),
            vec![3, 32, 32],
        ),
        (
            "a.pb",
            fixture("tests/data/model-zoo/test_data_set_0/input_0.pb"),
            vec![3, 2, 2],
        ),
        (
            "a.csv",
            b"path,label\na.png,1\nb/c.png,2\n".to_vec(),
            image.clone(),
        ),
        ("a.npy", npy("<f4", false, "2, 2", &[0; 16]), vec![2]),
        (
            "a.npz",
            npz(&[("x.npy", npy("|u1", false, "2, 2", &[0; 4]))]),
            vec![2],
        ),
        ("a.idx", idx(8, &[2, 2], &[0; 4]), vec![2]),
        (
            "a.parquet",
            fixture("tests/data/hugging-face.parquet"),
            image,
        ),
    ]
}

/// Half of the changes hit the first 600 bytes, where the structure of most formats is.
#[test]
fn changed_or_missing_bytes_of_any_format_are_errors_at_most() {
    let mut state = 11_u32;
    let mut draw = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below.max(1)
    };
    let mut wrong = vec![];
    for (name, whole, input) in files() {
        let place = name.split('#').next().unwrap();
        let folder = folder(&[]);
        for round in 0..120 {
            let mut changed = whole.clone();
            match round % 4 {
                0 => changed.truncate(draw(whole.len())),
                _ => {
                    for _ in 0..=round % 3 {
                        let reach = if draw(2) == 0 { 600 } else { whole.len() };
                        let at = draw(reach.min(whole.len()));
                        changed[at] = draw(256) as u8;
                    }
                }
            }
            std::fs::write(folder.path().join(place), &changed).unwrap();
            match read_all(&folder.path().join(name), &options(&input)) {
                Ok(_) | Err(Error::Data { .. } | Error::Io { .. }) => {}
                Err(other) => wrong.push(format!("{name}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
