//! Random scores, the same for the same seed: the floor that every criterion should beat.

use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, Uses, for_each_norm};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{Norm, Request, redundancy::OnRanked},
};

pub(super) const ENTRY: Entry = Entry {
    name: "random",
    about: "a random choice (--seed)",
    uses: Uses {
        samples: false,
        seed: true,
        ..SAMPLES_ONLY
    },
    build,
};

struct Random(Outcome);

fn build(request: Request<'_>, norms: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    let mut random = ChaCha8Rng::seed_from_u64(request.options.seed);
    let layers = request.head.layers.iter();
    let layers = layers.map(|layer| (0..layer.width()).map(|_| random.random()).collect());
    let layers = layers.collect();
    Ok(Box::new(Random(for_each_norm(norms.len(), layers))))
}

impl Measure for Random {
    fn add(&mut self, _: &FeatureBatch) -> Result<()> {
        Ok(())
    }

    fn wants_more(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, _: &mut OnRanked<'_>) -> Result<Outcome> {
        Ok(self.0)
    }
}
