//! Gives back what a cut took: the kept neurons take over what the dropped ones contributed.
//!
//! Sink by sink, from the features to the class scores: what the original computes there, z, is
//! regressed on what the pruned head, repaired so far, really delivers there, x:
//!
//! ```text
//! r = z - (W x + b)        over the samples `fit`
//! D = (cov(x) + l·d·I)^-1 cov(x, r)            W' = W + D^T,   b' = b + mean(r) - D^T mean(x)
//! ```
//!
//! with d the mean variance of the inputs, and l chosen from [`GRID`] on half of the samples
//! `check`, from the largest on until two in a row are no better. On the other half, which nothing
//! was chosen by, the error before and after is measured in the engine, with the weights rounded as
//! they will be stored; where it grew, the weights stay as they were cut. Labels are not looked at.
//! No sums but f64 ones.
//!
//! A row is one sample, or one position (pixel, token) of one. With more inputs than rows the same
//! D comes from the rows' products (`dual`), so that no matrix is larger than [`MOST`] squared.
//!
//! With [`Repair::Reweighted`] the last layer then goes on to the original's class probabilities
//! (`matching`).

pub mod certificate;
mod how;
mod kernels;
mod layer;
mod matching;
mod original;
mod pairs;
mod ridge;
mod rows;
mod sites;
mod streams;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use self::{
    original::Original,
    ridge::{Fit, Solution, Tuning},
    sites::Wave,
    streams::{ErrorSums, Streams},
};
use crate::{
    engine::Engine,
    error::{Error, Result},
    features::{self, FeatureSet},
    graph::{Graph, Shapes},
    head::Head,
    onnx::{ModelProto, TensorProto},
    prune::{Plan, dense},
};

pub use certificate::{Certificate, certificate};
pub use how::Repair;
pub use layer::{Form, LayerRepair};
pub use matching::Matching;
pub use original::Known;
pub use ridge::{GRID, MOST};

/// Samples per run of the heads, where a model leaves it open.
const BATCH: usize = 256;

/// What a repair works on.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What runs both heads.
    pub engine: &'a dyn Engine,
    /// The original.
    pub graph: &'a Graph<'a>,
    /// What is known of its values.
    pub shapes: &'a Shapes,
    /// Its head.
    pub head: &'a Head,
    /// The neurons that stay, one entry per layer of the head.
    pub plan: &'a Plan,
    /// The pruned head as a model, features to scores, after [`dense::with_biases`].
    pub head_model: &'a ModelProto,
    /// What enters the heads.
    pub features: &'a FeatureSet,
    /// Positions of the samples that are fitted.
    pub fit: &'a [usize],
    /// Positions of other samples: every second one chooses the ridge, the rest are measured.
    pub check: &'a [usize],
    /// What the original made of batches in earlier repairs of this head in this engine.
    pub known: &'a Known,
}

/// What a repair found.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// The initializers that change, for [`dense::set_weights`] on the head and the whole model.
    pub weights: BTreeMap<String, TensorProto>,
    /// One entry per sink of a cut layer, in the order of the graph; then one for the last layer,
    /// where it reads no cut layer and was matched.
    pub layers: Vec<LayerRepair>,
}

/// Why a sink stays as it was cut, or the run ends.
enum Stop {
    Refused(String),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Repairs a pruned head.
///
/// `progress` is told how many samples went through the heads, of [`samples`] in all; an error
/// from it ends the run.
///
/// # Errors
/// [`Error::Engine`] when a head cannot run; [`Error::Invalid`] naming the layer where a value is
/// NaN or infinite. A sink that cannot be repaired is no error: see [`LayerRepair::note`].
pub fn repair(
    request: Request<'_>,
    how: Repair,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Repaired> {
    let mut repaired = Repaired::default();
    if how == Repair::None {
        return Ok(repaired);
    }
    let selected = features::selected(request.head_model, request.features)?;
    let (head_model, read) = match &selected {
        None => (request.head_model, request.features),
        Some((model, features)) => (model, features),
    };
    let request = Request {
        head_model,
        ..request
    };
    let (waves, misfits) = sites::waves(request)?;
    repaired.layers = misfits;
    if waves.is_empty() {
        return Ok(repaired);
    }
    let mut model = request.head_model.clone();
    let last = last(request, how)?;
    let shown = waves.iter().chain(last.iter().flatten());
    let mut original = Original::new(request, shown)?;
    for wave in &waves {
        let mut work = Work {
            request,
            read,
            how,
            original: &mut original,
            model: &model,
            wave,
            progress,
        };
        let (layers, weights) = match work.run() {
            Ok(done) => done,
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Refused(why)) => {
                let sites = wave.sites.iter();
                let refused = sites.map(|site| site.refused(wave, why.clone()));
                (refused.collect(), BTreeMap::new())
            }
        };
        dense::set_weights(&mut model, &weights)?;
        repaired.weights.extend(weights);
        repaired.layers.extend(layers);
    }
    match last {
        None => {}
        Some(Err(why)) => {
            repaired.say_at_the_end(&format!("its probabilities are not matched: {why}"))
        }
        Some(Ok(wave)) => {
            let mut work = Work {
                request,
                read,
                how,
                original: &mut original,
                model: &model,
                wave: &wave,
                progress,
            };
            let done = work.matched();
            repaired.match_last(&wave, done)?;
        }
    }
    Ok(repaired)
}

/// The last layer, where it is to be matched; why it cannot be, otherwise.
fn last(request: Request<'_>, how: Repair) -> Result<Option<Result<Wave, String>>> {
    match how {
        Repair::Reweighted => sites::last(request).map(Some),
        Repair::None | Repair::Mean | Repair::LeastSquares => Ok(None),
    }
}

impl Repaired {
    /// Takes up what came of the last layer.
    fn match_last(
        &mut self,
        wave: &Wave,
        done: Result<(Matching, matching::New), Stop>,
    ) -> Result<()> {
        let site = &wave.sites[0];
        let known = self.layers.iter().position(|layer| layer.node == site.node);
        let place = known.unwrap_or(self.layers.len());
        if known.is_none() {
            self.layers.push(site.untouched(wave));
        }
        let layer = &mut self.layers[place];
        match done {
            Ok((matching, new)) => {
                self.weights.extend(new.into_iter().flatten());
                layer.matching = Some(matching);
                Ok(())
            }
            Err(Stop::Refused(why)) => {
                layer.say(&format!("its probabilities are not matched: {why}"));
                Ok(())
            }
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn say_at_the_end(&mut self, sentence: &str) {
        if let Some(layer) = self.layers.last_mut() {
            layer.say(sentence);
        }
    }
}

/// How many samples a repair will send through the heads.
///
/// # Errors
/// As [`repair`].
pub fn samples(request: Request<'_>, how: Repair) -> Result<usize> {
    let (waves, _) = sites::waves(request)?;
    let each = match how {
        Repair::None => 0,
        Repair::Mean => request.fit.len() + 2 * request.check.len(),
        Repair::LeastSquares | Repair::Reweighted => {
            let (tune, report) = halves(request.check);
            // One more tells how many positions a sample has.
            1 + request.fit.len() + tune.len() + 2 * report.len()
        }
    };
    let matched = match last(request, how)? {
        Some(Ok(_)) if !waves.is_empty() => each - 1,
        _ => 0,
    };
    Ok(waves.len() * each + matched)
}

/// Every second position chooses, the others are measured.
fn halves(check: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let odd = |start| check.iter().skip(start).step_by(2).copied().collect();
    (odd(1), odd(0))
}

/// The repair of one wave.
struct Work<'w, 'a> {
    request: Request<'a>,
    /// The features as the pruned head reads them.
    read: &'w FeatureSet,
    how: Repair,
    original: &'w mut Original<'a>,
    /// The pruned head, repaired so far.
    model: &'w ModelProto,
    wave: &'w Wave,
    progress: &'w mut dyn FnMut(usize) -> Result<()>,
}

type Done = (Vec<LayerRepair>, BTreeMap<String, TensorProto>);

impl Work<'_, '_> {
    fn run(&mut self) -> Result<Done, Stop> {
        let (tune, report) = match self.how {
            Repair::LeastSquares | Repair::Reweighted => halves(self.request.check),
            Repair::None | Repair::Mean => (Vec::new(), self.request.check.to_vec()),
        };
        self.enough(tune.len(), report.len())?;
        let mut streams = Streams::new(
            self.request.engine,
            self.read,
            self.model,
            self.wave,
            self.original,
        )?;
        let solution = match self.how {
            Repair::None | Repair::Mean => self.mean(&mut streams)?,
            Repair::LeastSquares | Repair::Reweighted => self.least_squares(&mut streams, &tune)?,
        };
        let before = self.errors(&mut streams, &report)?;
        let mut weights = Vec::with_capacity(self.wave.sites.len());
        for (index, site) in self.wave.sites.iter().enumerate() {
            weights.push(write::applied(self.model, &site.dense, solution.of(index))?);
        }
        let mut changed = self.model.clone();
        for new in weights.iter().flatten() {
            dense::set_weights(&mut changed, new)?;
        }
        let mut streams = Streams::new(
            self.request.engine,
            self.read,
            &changed,
            self.wave,
            self.original,
        )?;
        let after = self.errors(&mut streams, &report)?;
        Ok(self.judged(&solution, weights, &before, &after))
    }

    fn enough(&self, tune: usize, report: usize) -> Result<(), Stop> {
        let enough = |have: usize, need: usize, what: &str| match have < need {
            true => Err(Stop::Refused(format!(
                "{have} samples are too few to {what}"
            ))),
            false => Ok(()),
        };
        enough(self.request.fit.len(), 2, "fit")?;
        let need = 1 + usize::from(self.how.solves());
        enough(tune + report, need, "check the result on")
    }

    fn mean(&mut self, streams: &mut Streams) -> Result<Solution, Stop> {
        let fit = self.request.fit;
        let mut sums = ridge::Means::new(streams.residuals());
        self.each(streams, fit, |block| sums.add(&block.residuals()))?;
        sums.solution(self.wave)
    }

    fn least_squares(&mut self, streams: &mut Streams, tune: &[usize]) -> Result<Solution, Stop> {
        let first = tune.get(..1);
        let first = first.ok_or_else(|| Stop::Refused("there are no samples".to_owned()))?;
        let mut positions = 0;
        self.each(streams, first, |block| positions = block.rows)?;
        let inputs = streams.inputs;
        let mut tuning = Tuning::new(inputs, streams.residuals());
        let tuned = spread(tune, (ridge::MOST_TUNED / positions.max(1)).max(1));
        self.each(streams, &tuned, |block| {
            tuning.add(&block.x, &block.residuals())
        })?;
        (self.progress)(tune.len() - tuned.len())?;
        let all = self.request.fit;
        let rows = all.len() * positions;
        let mut fit = Fit::new(inputs, streams.residuals(), rows);
        let chosen = spread(all, fit.most_rows() / positions.max(1));
        self.each(streams, &chosen, |block| {
            fit.add(&block.x, &block.residuals())
        })?;
        (self.progress)(all.len() - chosen.len())?;
        let kernel = streams.reads().and_then(|inputs| {
            let kernels = self.request.known.kernels.get()?;
            kernels.of(inputs, &chosen, &tuned)
        });
        let mut solution = fit.solve(&tuning, self.wave, kernel)?;
        if chosen.len() < all.len() {
            solution.say(format!(
                "fitted on {} of {} samples: {inputs} inputs and {rows} rows are too many for one solve",
                chosen.len(),
                all.len()
            ));
        }
        Ok(solution)
    }

    fn errors(&mut self, streams: &mut Streams, report: &[usize]) -> Result<Vec<f64>, Stop> {
        let mut sums = ErrorSums::new(self.wave);
        self.each(streams, report, |block| sums.add(block))?;
        Ok(sums.relative())
    }

    /// Runs the samples at `positions`, batch by batch.
    fn each(
        &mut self,
        streams: &mut Streams<'_>,
        positions: &[usize],
        mut take: impl FnMut(&streams::Block),
    ) -> Result<(), Stop> {
        for part in positions.chunks(self.read.fixed_batch().unwrap_or(BATCH)) {
            let batch = self.read.read(part)?;
            let wanted = self.original.values(part)?;
            take(&streams.run(&batch, &wanted)?);
            (self.progress)(batch.samples)?;
        }
        Ok(())
    }

    /// Keeps what made the error smaller on samples that nothing was chosen by.
    fn judged(
        &self,
        solution: &Solution,
        weights: Vec<Option<BTreeMap<String, TensorProto>>>,
        before: &[f64],
        after: &[f64],
    ) -> Done {
        let (mut layers, mut kept) = (Vec::new(), BTreeMap::new());
        for (index, (site, new)) in self.wave.sites.iter().zip(weights).enumerate() {
            let part = solution.of(index);
            let (before, after) = (before[index], after[index]);
            let holds = after <= before;
            let applied = holds && new.is_some();
            let note = match (&new, holds) {
                (None, _) => Some("refused: the new weights do not fit their type".to_owned()),
                (_, false) => Some(format!(
                    "refused: on samples that were not fitted the error grows from {before:.3} to {after:.3}"
                )),
                _ => solution.note.clone(),
            };
            layers.push(LayerRepair {
                form: Some(solution.form),
                lambda: part.lambda,
                rows: solution.rows,
                error_before: Some(before),
                error_after: Some(after),
                applied,
                note,
                ..site.untouched(self.wave)
            });
            kept.extend(new.filter(|_| applied).into_iter().flatten());
        }
        (layers, kept)
    }
}

/// At most `most` entries, at least one, evenly spread.
fn spread(positions: &[usize], most: usize) -> Vec<usize> {
    let most = most.max(1);
    if positions.len() <= most {
        return positions.to_vec();
    }
    (0..most)
        .map(|at| positions[at * positions.len() / most])
        .collect()
}
