//! Hugging Face image sets in Parquet files; read with the feature `parquet`, recognised without it.

use std::path::Path;

#[cfg(feature = "parquet")]
mod images;
#[cfg(any(feature = "parquet", test))]
mod pages;
#[cfg(feature = "parquet")]
mod schema;

#[cfg(feature = "parquet")]
pub(super) use images::open;

use super::readers::magic;
use super::shards;

pub(super) fn accepts(path: &Path) -> bool {
    match path.is_file() {
        true => magic::<4>(path) == b"PAR1",
        false => shards::any(path, is_shard),
    }
}

fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "parquet")
}

/// Says where a program that reads Parquet comes from.
#[cfg(not(feature = "parquet"))]
pub(super) fn open(
    path: &Path,
    _options: &super::dataset::DataOptions,
) -> crate::Result<super::readers::Opened> {
    Err(crate::Error::Data {
        path: path.to_owned(),
        what: "is in Parquet, which this build cannot read; build one that can with `cargo install onnx-prune --features parquet`".to_owned(),
    })
}

#[cfg(all(test, not(feature = "parquet")))]
mod tests {
    use super::super::fixtures::{failure, options, repository};

    #[test]
    fn a_build_without_the_feature_says_how_to_get_it() {
        let file = std::fs::read(repository("tests/data/hugging-face.parquet")).unwrap();
        let message = failure("a.parquet", file, &options(&[3, 16, 16]));
        assert!(message.contains("--features parquet"), "{message}");
    }
}
