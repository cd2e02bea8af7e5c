//! The derivatives by what a dense layer reads, from those by what it makes: a product per group of
//! samples, without the units that take no part in it.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice, linalg::general_mat_mul};
use rayon::prelude::*;

use super::{
    Bad,
    groups::{Group, Patterns},
    last::{Below, Task, first_error, tasks},
    matrix::Matrix,
    passes::Rows,
};
use crate::{
    engine::{Engine, Session},
    error::Result,
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto},
    sensitivity::power_sums::PowerSums,
};

/// Neurons that one task looks at. 512 columns of a thousand rows are 2 MB.
const COLUMNS: usize = 512;

/// Neurons of one product in the engine.
const SLAB: usize = 8 * COLUMNS;

/// Rows from which a product in ONNX Runtime is worth the copies there and back. Measured with
/// 2048 units and 1000 rows: 195 GFLOP/s there, 118 here; with 80 rows they are alike.
const TALL: usize = 128;

/// Operator set of the product's graph.
const OPSET: i64 = 13;

/// A product in an engine.
pub(super) struct InEngine(Box<dyn Session>);

/// What is multiplied: per group, the rows that count of its samples, `[R, units]`.
pub(super) struct Factors<'f> {
    pub(super) weights: &'f Matrix,
    /// Rows of each sample K, and which of them count.
    pub(super) classes: usize,
    pub(super) counting: &'f Rows,
    pub(super) groups: &'f [Group],
    pub(super) rows: &'f [Array2<f32>],
    /// The place of the first sample among those of the batch.
    pub(super) first: usize,
}

impl InEngine {
    /// tract compiles for each shape anew, and here every group has its own; it is no faster either.
    pub(super) fn new(engine: &dyn Engine) -> Result<Option<Self>> {
        if engine.info().library.is_none() {
            return Ok(None);
        }
        let port = |name: &str| {
            let dims = [0, 1].map(|axis| Dim::Symbol(format!("{name}{axis}")));
            ValueInfoProto::tensor(name, DataType::Float, &dims)
        };
        let mut graph = GraphProto::new("product");
        graph.input = vec![port("a"), port("b")];
        graph.output = vec![port("c")];
        graph.node = vec![NodeProto::new("MatMul", &["a", "b"], &["c"])];
        let session = engine.load(&ModelProto::new(graph, OPSET))?;
        Ok(Some(Self(session)))
    }

    fn run(&mut self, a: &Tensor, b: &Tensor) -> Result<Vec<f32>> {
        let mut outputs = self.0.run(&[("a", a), ("b", b)])?;
        let product = outputs.pop().map(|product| product.to_f32().into_owned());
        Ok(product.unwrap_or_default())
    }
}

impl Factors<'_> {
    /// Adds the derivatives to `sums` and fills the rows below.
    pub(super) fn add(
        &self,
        sums: &mut [PowerSums],
        below: Option<Below<'_>>,
        engine: Option<&mut InEngine>,
    ) -> Result<Result<(), Bad>> {
        let tall = self.rows.iter().all(|rows| rows.nrows() >= TALL);
        let mut tasks = tasks(self.weights.inputs(), COLUMNS, sums, below);
        match engine.filter(|_| tall) {
            Some(engine) => self.in_engine(&mut tasks, engine),
            None => Ok(self.here(&mut tasks)),
        }
    }

    fn here(&self, tasks: &mut [Task<'_>]) -> Result<(), Bad> {
        let done = tasks.par_iter_mut().map(|task| {
            let width = task.columns.len();
            for (group, rows) in self.groups.iter().zip(self.rows) {
                let part = self.weights_of(group, &task.columns);
                let mut products = Array2::zeros((rows.nrows(), width));
                general_mat_mul(1.0, rows, &part, 0.0, &mut products);
                self.take(task, group, &products)?;
            }
            Ok(())
        });
        first_error(done.collect())
    }

    fn in_engine(&self, tasks: &mut [Task<'_>], engine: &mut InEngine) -> Result<Result<(), Bad>> {
        for (group, rows) in self.groups.iter().zip(self.rows) {
            let (units, shape) = (group.units.len(), [rows.nrows(), group.units.len()]);
            let left = Tensor::f32(shape, rows.iter().copied().collect())?;
            for tasks in tasks.chunks_mut(SLAB / COLUMNS) {
                let start = tasks[0].columns.start;
                let width = tasks.iter().map(|task| task.columns.len()).sum();
                let mut part = vec![0.0; units * width];
                let targets = part.par_chunks_mut(width).zip(&group.units);
                targets.for_each(|(target, &unit)| {
                    self.weights.read(unit, start..start + width, target);
                });
                let products = engine.run(&left, &Tensor::f32([units, width], part)?)?;
                let products = ArrayView2::from_shape((rows.nrows(), width), &products)
                    .expect("a product has as many rows and columns as its factors");
                let done = tasks.par_iter_mut().map(|task| {
                    let from = task.columns.start - start;
                    let mut part = products.view();
                    let columns = from..from + task.columns.len();
                    part.slice_axis_inplace(Axis(1), Slice::from(columns));
                    self.take(task, group, &part.to_owned())
                });
                if let Err(bad) = first_error(done.collect()) {
                    return Ok(Err(bad));
                }
            }
        }
        Ok(Ok(()))
    }

    fn take(&self, task: &mut Task<'_>, group: &Group, products: &Array2<f32>) -> Result<(), Bad> {
        let mut products = products.as_slice().unwrap_or_default();
        for &sample in &group.samples {
            let counting = self.counting.of(self.first + sample);
            let (rows, rest) = products.split_at(counting.len() * task.columns.len());
            products = rest;
            task.take(counting, rows, self.first + sample, sample * self.classes)?;
        }
        Ok(())
    }

    /// Fills the rows below where they are not 0, without the derivatives of other neurons;
    /// `patterns` are those of the slopes below.
    pub(super) fn pass_on(&self, patterns: &Patterns, below: Below<'_>) {
        let Below { slopes, rows } = below;
        let groups = self.groups.par_iter();
        let active: Vec<Vec<usize>> = groups.map(|group| patterns.any(&group.samples)).collect();
        let targets: Vec<_> = rows.axis_chunks_iter_mut(Axis(1), COLUMNS).collect();
        let targets = targets.into_par_iter().enumerate();
        targets.for_each(|(block, mut target)| {
            let start = block * COLUMNS;
            let columns = start..start + target.ncols();
            for ((group, rows), active) in self.groups.iter().zip(self.rows).zip(&active) {
                let active = within(active, &columns);
                let part = self.weights_of(group, &columns);
                let places: Vec<usize> = active.iter().map(|unit| unit - start).collect();
                let part = part.select(Axis(1), &places);
                let mut products = Array2::zeros((rows.nrows(), active.len()));
                general_mat_mul(1.0, rows, &part, 0.0, &mut products);
                let slopes = &slopes[self.first * self.weights.inputs()..];
                self.spread(group, &products, (slopes, active, start), target.view_mut());
            }
        });
    }

    /// Puts products of the `active` units at their places, times their slopes.
    fn spread(
        &self,
        group: &Group,
        products: &Array2<f32>,
        (slopes, active, start): (&[f32], &[usize], usize),
        mut target: ArrayViewMut2<'_, f32>,
    ) {
        let width = self.weights.inputs();
        let mut products = products.rows().into_iter();
        for &sample in &group.samples {
            let slopes = &slopes[sample * width..(sample + 1) * width];
            let counting = self.counting.of(self.first + sample).iter();
            for (&class, row) in counting.zip(&mut products) {
                let mut target = target.row_mut(sample * self.classes + class);
                for (&unit, value) in active.iter().zip(row) {
                    target[unit - start] = value * slopes[unit];
                }
            }
        }
    }

    fn weights_of(&self, group: &Group, columns: &Range<usize>) -> Array2<f32> {
        let mut part = Array2::zeros((group.units.len(), columns.len()));
        let units = group.units.iter().copied();
        self.weights.gather(units, columns.clone(), part.view_mut());
        part
    }
}

/// Those of `units` that are in `columns`.
fn within<'u>(units: &'u [usize], columns: &Range<usize>) -> &'u [usize] {
    let start = units.partition_point(|&unit| unit < columns.start);
    let end = units.partition_point(|&unit| unit < columns.end);
    &units[start..end]
}
