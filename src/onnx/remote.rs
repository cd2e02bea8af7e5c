//! Models at addresses: fetched with their external data, then read like any other.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    external,
    model::{Limits, Model},
};
use crate::{
    error::Result,
    remote::{self, Fetched},
};

/// Reads the model at `address`, by which it is called from then on.
pub(super) fn load(address: &Path, limits: &Limits) -> Result<Model> {
    let mut fetched = Fetched::new()?;
    let name = remote::file_name(address)?;
    fetched.fetch(&[(address.to_owned(), name.clone())])?;
    let copy = fetched.folder().join(name);
    let read = fetch_external(&mut fetched, address, &copy, limits)
        .and_then(|()| Model::load_file(&copy, limits));
    let mut model = read.map_err(|error| fetched.readdressed(error, address))?;
    model.came_from(address, Arc::new(fetched));
    Ok(model)
}

/// Fetches the files that the model names, each once; what is no name below its folder is left to the reader to refuse.
fn fetch_external(
    fetched: &mut Fetched,
    address: &Path,
    copy: &Path,
    limits: &Limits,
) -> Result<()> {
    let mut proto = Model::messages(copy, limits)?;
    let names: BTreeSet<String> = external::locations(&mut proto).collect();
    let files = names.into_iter().map(|name| {
        let name = PathBuf::from(name);
        (remote::beside(address, &name.to_string_lossy()), name)
    });
    fetched.fetch(&files.collect::<Vec<_>>())
}
