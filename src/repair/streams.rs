//! The pruned head beside the original: what one wave reads, makes, and should make.

use super::{
    Stop,
    original::Original,
    rows::{self, Rows},
    sites::Wave,
};
use crate::{
    engine::{Engine, Session},
    error::{Error, Result, Site},
    features::{FeatureBatch, FeatureSet},
    graph::{self, Graph, Shapes, ValueId},
    onnx::{ModelProto, Tensor},
    prune::dense::Kind,
};

/// The pruned head, loaded.
pub(super) struct Streams<'w> {
    wave: &'w Wave,
    names: Vec<String>,
    /// Per site, where the original's values hold what it should make.
    wanted: Vec<usize>,
    pruned: Box<dyn Session>,
    /// What the wave reads, where it is a feature itself.
    feature: Option<usize>,
    /// Which numbers of the feature that is, where a row is a sample.
    chosen: Option<Vec<usize>>,
    /// Numbers per row of what the wave reads.
    pub(super) inputs: usize,
}

/// What a wave sees of one batch; rows of all sites are the same.
pub(super) struct Block {
    /// Number of rows, N.
    pub(super) rows: usize,
    /// What is read, `[N, inputs]`.
    pub(super) x: Vec<f32>,
    /// Per site, what it should make and what it makes, `[N, outputs]` both.
    pub(super) made: Vec<(Vec<f32>, Vec<f32>)>,
}

impl<'w> Streams<'w> {
    /// Loads what of the pruned head leads to the wave.
    ///
    /// # Errors
    /// [`Error::Engine`] when the engine cannot load it.
    pub(super) fn new(
        engine: &dyn Engine,
        features: &FeatureSet,
        pruned: &ModelProto,
        wave: &'w Wave,
        original: &Original<'_>,
    ) -> Result<Self> {
        let names = features.names().to_vec();
        let sites = wave.sites.iter();
        let mut shown: Vec<&str> = sites.map(|site| site.dense.value.as_str()).collect();
        let wanted = shown.iter().filter_map(|value| original.place(value));
        let wanted = wanted.collect();
        let input = wave.dense().input.as_str();
        let feature = names.iter().position(|name| name == input);
        if feature.is_none() {
            shown.push(input);
        }
        let is_vector = matches!(wave.dense().kind, Kind::Gemm | Kind::MatMul);
        let is_only = is_vector && names.len() == 1 && features.has_plain_rows();
        let chosen = feature.filter(|_| is_only);
        Ok(Self {
            wave,
            names,
            wanted,
            chosen: chosen.and_then(|feature| features.chosen(feature)),
            pruned: engine.load(&leading_to(pruned, &shown)?)?,
            feature,
            inputs: wave.inputs(),
        })
    }

    /// The numbers of the only feature that make up a row of what is read; nothing where it is not made
    /// up so, or of all.
    pub(super) fn reads(&self) -> Option<&[usize]> {
        self.chosen.as_deref()
    }

    /// Residuals per row: the outputs of all sites side by side.
    pub(super) fn residuals(&self) -> usize {
        let sites = self.wave.sites.iter();
        sites.map(|site| site.dense.outputs()).sum()
    }

    /// Runs one batch, for which `original` holds what the original makes.
    pub(super) fn run(&mut self, batch: &FeatureBatch, original: &[Tensor]) -> Result<Block, Stop> {
        let wanted = self.wanted.iter().filter_map(|&place| original.get(place));
        let wanted: Vec<&Tensor> = wanted.collect();
        let made = run(&mut *self.pruned, &self.names, batch)?;
        let kind = self.wave.dense().kind;
        let read = match self.feature {
            Some(feature) => batch.values.get(feature),
            None => made.last(),
        };
        let misfit = |what: &str| Stop::Refused(format!("{what} in a form that is not known"));
        let read = read.and_then(|value| rows::read(kind, value, self.inputs));
        let read = read.ok_or_else(|| misfit("it reads values"))?;
        let rows = real(read.count, batch);
        let mut block = Block {
            rows,
            x: leading(read, rows),
            made: Vec::with_capacity(self.wave.sites.len()),
        };
        for (site, (wanted, made)) in self.wave.sites.iter().zip(wanted.iter().zip(&made)) {
            let outputs = site.dense.outputs();
            let made = rows::made(kind, made, outputs);
            let wanted = match &site.kept {
                None => rows::made(kind, wanted, outputs),
                Some(kept) => {
                    let axis = rows::made_axis(kind, wanted);
                    let width = wanted.shape().get(axis).copied().unwrap_or(0);
                    let last = kept.last().copied().unwrap_or(0);
                    let all = rows::made(kind, wanted, width).filter(|_| last < width);
                    all.map(|all| all.select(kept))
                }
            };
            let pair = wanted.zip(made);
            let pair = pair.filter(|(wanted, made)| wanted.count == made.count);
            let (wanted, made) = pair.ok_or_else(|| misfit("it makes values"))?;
            if real(made.count, batch) != rows {
                return Err(misfit("it joins positions"));
            }
            block
                .made
                .push((leading(wanted, rows), leading(made, rows)));
        }
        self.check(&block)?;
        Ok(block)
    }

    fn check(&self, block: &Block) -> Result<()> {
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let site = |site: &super::sites::Site, value: &str| Error::Invalid {
            site: Site::value(value),
            what: format!(
                "is NaN or infinite for one of the samples; the weights or the data behind layer {:?} hold such numbers, or very large ones",
                site.layer
            ),
        };
        let first = &self.wave.sites[0];
        if !finite(&block.x) {
            return Err(site(first, &first.dense.input));
        }
        let bad = self.wave.sites.iter().zip(&block.made);
        let mut bad = bad.filter(|(_, (wanted, made))| !finite(wanted) || !finite(made));
        match bad.next() {
            Some((found, _)) => Err(site(found, &found.dense.value)),
            None => Ok(()),
        }
    }
}

impl Block {
    /// What is missing, `[N, outputs of all sites side by side]`.
    pub(super) fn residuals(&self) -> Vec<f32> {
        let widths = self
            .made
            .iter()
            .map(|(wanted, _)| wanted.len() / self.rows.max(1));
        let widths: Vec<usize> = widths.collect();
        let mut residuals = Vec::with_capacity(self.rows * widths.iter().sum::<usize>());
        for row in 0..self.rows {
            for ((wanted, made), &width) in self.made.iter().zip(&widths) {
                let part = row * width..(row + 1) * width;
                let pairs = wanted[part.clone()].iter().zip(&made[part]);
                residuals.extend(pairs.map(|(wanted, made)| wanted - made));
            }
        }
        residuals
    }
}

/// Sums for the error of each site of a wave.
pub(super) struct ErrorSums {
    sites: Vec<SiteSums>,
}

struct SiteSums {
    rows: f64,
    /// The first row, from which distances are taken so that a large mean costs no digits.
    origin: Vec<f64>,
    sums: Vec<f64>,
    squares: f64,
    differences: f64,
}

impl ErrorSums {
    pub(super) fn new(wave: &Wave) -> Self {
        let sites = wave.sites.iter().map(|site| SiteSums {
            rows: 0.0,
            origin: Vec::new(),
            sums: vec![0.0; site.dense.outputs()],
            squares: 0.0,
            differences: 0.0,
        });
        Self {
            sites: sites.collect(),
        }
    }

    pub(super) fn add(&mut self, block: &Block) {
        for (sums, (wanted, made)) in self.sites.iter_mut().zip(&block.made) {
            sums.add(wanted, made);
        }
    }

    /// Root mean square of the differences over the standard deviation of what is wanted.
    pub(super) fn relative(&self) -> Vec<f64> {
        self.sites.iter().map(SiteSums::relative).collect()
    }
}

impl SiteSums {
    fn add(&mut self, wanted: &[f32], made: &[f32]) {
        let width = self.sums.len().max(1);
        if self.origin.is_empty() {
            let first = wanted.iter().take(width);
            self.origin = first.map(|&value| f64::from(value)).collect();
        }
        for (wanted, made) in wanted.chunks_exact(width).zip(made.chunks_exact(width)) {
            self.rows += 1.0;
            for (column, (&wanted, &made)) in wanted.iter().zip(made).enumerate() {
                let distance = f64::from(wanted) - self.origin[column];
                self.sums[column] += distance;
                self.squares += distance * distance;
                self.differences += (f64::from(wanted) - f64::from(made)).powi(2);
            }
        }
    }

    /// In the value's own unit where the original does not vary.
    fn relative(&self) -> f64 {
        let rows = self.rows.max(1.0);
        let about = self.sums.iter().map(|sum| sum * sum / rows);
        let scatter = self.squares - about.sum::<f64>();
        if scatter > f64::EPSILON * self.squares {
            (self.differences / scatter).sqrt()
        } else {
            (self.differences / rows / self.sums.len().max(1) as f64).sqrt()
        }
    }
}

/// Rows of real samples; those of samples that only fill up a fixed batch are the last.
fn real(rows: usize, batch: &FeatureBatch) -> usize {
    rows / batch.rows.max(1) * batch.samples
}

fn leading(rows: Rows<'_>, count: usize) -> Vec<f32> {
    let mut values = rows.values.into_owned();
    values.truncate(count * rows.width);
    values
}

/// The part of a model that computes these values.
pub(super) fn leading_to(model: &ModelProto, names: &[&str]) -> Result<ModelProto> {
    let graph = Graph::new(model)?;
    let ids: Vec<ValueId> = names.iter().filter_map(|name| graph.value(name)).collect();
    if ids.len() < names.len() {
        return Err(Error::Argument {
            name: "head",
            what: format!("the head does not compute all of {names:?}"),
        });
    }
    let shown = graph::with_outputs(&graph, &Shapes::declared(&graph), &ids);
    let graph = Graph::new(&shown)?;
    let shapes = Shapes::declared(&graph);
    graph::extract(&graph, &shapes, &graph.inputs(), &graph.outputs())
}

pub(super) fn run(
    session: &mut dyn Session,
    names: &[String],
    batch: &FeatureBatch,
) -> Result<Vec<Tensor>> {
    let given = names.iter().map(String::as_str).zip(&batch.values);
    let given: Vec<(&str, &Tensor)> = given
        .filter(|(name, _)| session.inputs().iter().any(|port| port.name == *name))
        .collect();
    session.run(&given)
}
