//! Room on a disk: what is free, and what files take.

use std::path::Path;

/// Bytes that may still be written to the file system of `folder`; nothing where that cannot be
/// asked.
#[cfg(unix)]
pub(crate) fn free(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// Bytes that may still be written to the file system of `folder`; nothing where that cannot be
/// asked.
#[cfg(not(unix))]
pub(crate) fn free(_folder: &Path) -> Option<u64> {
    None
}

/// Bytes that files really take on the disk, holes left out where the system tells.
#[cfg(unix)]
pub(crate) fn taken(metadata: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    /// The unit of `st_blocks`, whatever the file system's blocks are.
    const BLOCK: u64 = 512;
    metadata.blocks() * BLOCK
}

/// Bytes that files really take on the disk, holes left out where the system tells.
#[cfg(not(unix))]
pub(crate) fn taken(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}
