//! Batches read ahead by one thread while the caller works on the last one.
//!
//! The channel holds nothing: the thread waits with a finished batch until the caller takes it, so that two
//! batches exist at a time.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::dataset::{Batch, Dataset};
use crate::error::{Error, Result};

/// Iterator made by [`Dataset::batches`]. Ends after the first error.
pub struct Batches {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
    /// Batches still to come; the thread ending before that is an error, not an end.
    left: usize,
    dataset: Dataset,
}

impl Batches {
    pub(super) fn new(dataset: Dataset, indices: &[usize], batch: usize) -> Self {
        let batch = batch.max(1);
        let left = indices.len().div_ceil(batch);
        let (sender, receiver) = sync_channel(0);
        let (indices, source) = (indices.to_vec(), dataset.clone());
        let thread = Builder::new()
            .name("onnx-prune-data".to_owned())
            .spawn(move || {
                for part in indices.chunks(batch) {
                    let read = source.read(part);
                    let failed = read.is_err();
                    // An error means that the caller is gone.
                    if sender.send(read).is_err() || failed {
                        return;
                    }
                }
            });
        Self {
            receiver: Some(receiver),
            thread: thread.ok(),
            left,
            dataset,
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let received = self.receiver.as_ref()?.recv();
        let batch = received.unwrap_or_else(|_| {
            Err(Error::Data {
                path: self.dataset.path().to_owned(),
                what: "the thread that reads the samples could not be started, or stopped"
                    .to_owned(),
            })
        });
        self.left = if batch.is_ok() { self.left - 1 } else { 0 };
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Fewer if one of them fails.
        (self.left.min(1), Some(self.left))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Closing the channel first lets a waiting thread see that nobody listens any more.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
