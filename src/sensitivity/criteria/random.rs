//! Random scores, the same for the same seed: the floor that every criterion should beat.

use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{Entry, Measure, Outcome, SAMPLES_ONLY, Uses, for_each_norm};
use crate::{
    error::Result,
    features::FeatureBatch,
    sensitivity::{Norm, Request, redundancy::OnRanked, sums::Layers, terms::Terms},
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
    conclude,
};

struct Random;

fn build(_: Request<'_>, _: &[(Norm, Norm)]) -> Result<Box<dyn Measure>> {
    Ok(Box::new(Random))
}

impl Measure for Random {
    fn add(&mut self, _: &FeatureBatch) -> Result<()> {
        Ok(())
    }

    fn wants_more(&self) -> bool {
        false
    }

    fn take(&mut self) -> Result<Layers> {
        Ok(Layers::new())
    }
}

fn conclude(terms: &Terms, _: Layers, _: &mut OnRanked<'_>) -> Result<Outcome> {
    let mut random = ChaCha8Rng::seed_from_u64(terms.seed);
    let layers = terms.layers.iter();
    let layers = layers.map(|layer| (0..layer.width).map(|_| random.random()).collect());
    Ok(for_each_norm(terms, layers.collect()))
}
