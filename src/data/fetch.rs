//! Data sets at addresses: fetched first, then opened like any other.
//!
//! One file, several by braces in its name, or a table with the images it lists. Labels that would lie in a file beside
//! an array are not looked for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{list, shards};
use crate::error::{Error, Result};
use crate::remote::{self, Fetched};

/// Fetches what `address` means; returns where it lies now.
pub(super) fn fetch(address: &Path) -> Result<(Fetched, PathBuf)> {
    let mut fetched = Fetched::new()?;
    let mut files = vec![];
    for file in shards::expand(address)? {
        let name = remote::file_name(&file)?;
        files.push((file, name));
    }
    let names: BTreeSet<&PathBuf> = files.iter().map(|(_, name)| name).collect();
    if names.len() < files.len() {
        return Err(Error::Data {
            path: address.to_owned(),
            what: "means several files of one name; put the braces into the name".to_owned(),
        });
    }
    fetched.fetch(&files)?;
    // Braces stay: the files they mean lie in the folder now.
    let place = fetched.folder().join(remote::file_name(address)?);
    if list::accepts(&place) {
        let images = list::paths(&place).map_err(|error| fetched.readdressed(error, address))?;
        let beside = |image: PathBuf| (remote::beside(address, &image.to_string_lossy()), image);
        let images: Vec<(PathBuf, PathBuf)> = images.into_iter().map(beside).collect();
        // What is not there is a bad sample, and may be left out.
        fetched.fetch_what_is_there(&images)?;
    }
    Ok((fetched, place))
}
