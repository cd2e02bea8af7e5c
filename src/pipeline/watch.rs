//! What a run says while it works.

/// Listens to a run. All methods have a default that does nothing.
pub trait Watch: Sync {
    /// A stage begins; `total` is the number of steps, where it is known.
    fn stage(&self, _name: &str, _total: Option<u64>) {}

    /// So many steps of the stage are done.
    fn step(&self, _steps: u64) {}

    /// How the stage goes: loss and accuracy of a training run.
    fn status(&self, _text: &str) {}

    /// Something the user should know: a fallback, an assumption, a layer that stays whole.
    fn note(&self, _text: &str) {}

    /// Something only the curious want to know: which of several ways was taken, and why.
    fn detail(&self, _text: &str) {}

    /// Whether the run should end at the next batch, with nothing written.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watch for Silent {}

/// Passes nothing on but whether to stop: where notes were said before, or many runs would speak at
/// once.
pub(super) struct Quiet<'w>(pub(super) &'w dyn Watch);

impl Watch for Quiet<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
