//! Rankings against the definition: judge all anew, take the cheapest away, repeat.

use ndarray::Array2;

use super::{
    Cost, Observations, RIDGE, Redundancy, Worth, greedy::Carried, greedy::Residual, members,
    observations::Found,
};
use crate::algebra::testing::random;

/// Values `[rows, width]` that share much: each is a mixture of a few sources, and some noise.
fn shared(rows: usize, width: usize, seed: u64) -> Array2<f64> {
    let sources = width.div_ceil(3);
    let mixed = random(rows, sources, seed).dot(&random(sources, width, seed + 1));
    mixed + random(rows, width, seed + 2) * 0.2 + 3.0
}

fn floats(values: &Array2<f64>) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn importance(width: usize) -> Vec<f64> {
    random(1, width, 77)
        .iter()
        .map(|value| value.abs() + 0.1)
        .collect()
}

/// The q = 2 norm of sensitivity times residual.
fn euclidean(importance: &[f64]) -> impl Fn(&[usize], &Residual, Carried<'_>) -> f64 + Sync {
    |neurons, residual, _| {
        let terms = neurons.iter().enumerate();
        let terms = terms.map(|(k, &neuron)| (importance[neuron] * residual.deviation(k)).powi(2));
        terms.sum::<f64>().sqrt()
    }
}

fn ranked(
    form: Form,
    units: Vec<Vec<usize>>,
    carried: Option<Array2<f64>>,
    cost: &Cost<'_>,
) -> Worth {
    let prepared = form.prepared(units, carried).unwrap();
    let (mut ranked, count) = (0, prepared.units.len());
    let worth = prepared.rank(cost, &mut |count| {
        ranked += count;
        Ok(())
    });
    assert_eq!(ranked, count);
    worth.unwrap()
}

/// A way to what redundancy is judged by.
struct Form {
    name: &'static str,
    found: Found,
    is_held: bool,
}

impl Form {
    fn prepared(self, units: Vec<Vec<usize>>, carried: Option<Array2<f64>>) -> Option<Redundancy> {
        Redundancy::of("features", self.found, units, carried, self.is_held).unwrap()
    }
}

fn whole(values: &Array2<f64>) -> Form {
    let mut rows = Observations::whole(values.ncols());
    rows.add(&floats(values), 1);
    Form {
        name: "covariance",
        found: rows.finish(),
        is_held: true,
    }
}

/// All ways, whatever they cost.
fn forms(values: &Array2<f64>) -> [Form; 3] {
    let rows = || Observations::as_they_are(values.ncols(), floats(values)).finish();
    let form = |name, is_held| Form {
        name,
        found: rows(),
        is_held,
    };
    [whole(values), form("rows", true), form("dual", false)]
}

/// The definition, with a matrix inverted by elimination at every step; `(unit, cost)` as they go.
fn slow(
    values: &Array2<f64>,
    units: &[Vec<usize>],
    cost: impl Fn(&[usize], &Array2<f64>) -> f64,
) -> Vec<(usize, f64)> {
    let values = values.mapv(|value| f64::from(value as f32));
    let mean = values.mean_axis(ndarray::Axis(0)).unwrap();
    let centred = &values - &mean;
    let mut covariance = centred.t().dot(&centred) / values.nrows() as f64;
    let ridge = covariance.diag().mean().unwrap() * RIDGE;
    covariance.diag_mut().map_inplace(|value| *value += ridge);
    let mut left: Vec<usize> = (0..units.len()).collect();
    let mut dropped = Vec::new();
    while !left.is_empty() {
        let neurons: Vec<usize> = left.iter().flat_map(|&unit| units[unit].clone()).collect();
        let among = Array2::from_shape_fn((neurons.len(), neurons.len()), |(a, b)| {
            covariance[[neurons[a], neurons[b]]]
        });
        let inverse = inverted(&among);
        let at = |neuron: &usize| neurons.iter().position(|other| other == neuron).unwrap();
        let costs = left.iter().map(|&unit| {
            let places: Vec<usize> = units[unit].iter().map(at).collect();
            let block = Array2::from_shape_fn((places.len(), places.len()), |(a, b)| {
                inverse[[places[a], places[b]]]
            });
            (unit, cost(&units[unit], &inverted(&block)))
        });
        let (unit, cost) = costs.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        dropped.push((unit, cost));
        left.retain(|&other| other != unit);
    }
    dropped
}

/// Gauss-Jordan with pivots.
fn inverted(matrix: &Array2<f64>) -> Array2<f64> {
    let count = matrix.nrows();
    let (mut a, mut inverse) = (matrix.clone(), Array2::<f64>::eye(count));
    for column in 0..count {
        let larger = |&x: &usize, &y: &usize| a[[x, column]].abs().total_cmp(&a[[y, column]].abs());
        let pivot = (column..count).max_by(larger).unwrap();
        for other in 0..count {
            a.swap([column, other], [pivot, other]);
            inverse.swap([column, other], [pivot, other]);
        }
        let scale = a[[column, column]];
        a.row_mut(column).mapv_inplace(|value| value / scale);
        inverse.row_mut(column).mapv_inplace(|value| value / scale);
        for row in (0..count).filter(|&row| row != column) {
            let factor = a[[row, column]];
            let (from, of) = (a.row(column).to_owned(), inverse.row(column).to_owned());
            a.row_mut(row).scaled_add(-factor, &from);
            inverse.row_mut(row).scaled_add(-factor, &of);
        }
    }
    inverse
}

/// The order in which units go, by their first neurons.
fn order(worth: &Worth, units: &[Vec<usize>]) -> Vec<usize> {
    let places = worth.ranking.iter().rev();
    let found =
        places.filter_map(|neuron| units.iter().position(|unit| unit.last() == Some(neuron)));
    found.collect()
}

fn assert_follows(worth: &Worth, units: &[Vec<usize>], expected: &[(usize, f64)], what: &str) {
    let expected_order: Vec<usize> = expected.iter().map(|(unit, _)| *unit).collect();
    assert_eq!(order(worth, units), expected_order, "{what}");
    let mut dearest = 0.0_f64;
    for (unit, cost) in expected {
        dearest = dearest.max(*cost);
        for &neuron in &units[*unit] {
            let error = (worth.values[neuron] - dearest).abs();
            assert!(
                error <= 1e-5 * dearest,
                "{what}: {neuron}: {} is not {dearest}",
                worth.values[neuron]
            );
        }
    }
}

#[test]
fn six_neurons_go_by_the_literal_definition() {
    for seed in 0..20 {
        let values = shared(40, 6, seed);
        let importance = importance(6);
        let units = members(None, 6);
        let expected = slow(&values, &units, |neurons, residual| {
            importance[neurons[0]] * residual[[0, 0]].sqrt()
        });
        for form in forms(&values) {
            let name = form.name;
            let worth = ranked(form, units.clone(), None, &euclidean(&importance));
            assert_follows(&worth, &units, &expected, name);
        }
    }
}

#[test]
fn costs_side_by_side_rank_as_each_by_itself() {
    let values = shared(60, 130, 7);
    let importance = importance(130);
    let even = vec![1.0; 130];
    let costs = [euclidean(&importance), euclidean(&even)];
    for (of_all, of_one) in forms(&values).into_iter().zip(forms(&values)) {
        let units = members(None, 130);
        let alone = of_one.prepared(units.clone(), None).unwrap();
        let alone = costs
            .each_ref()
            .map(|cost| alone.clone().rank(cost, &mut |_| Ok(())).unwrap());
        let mut ranked = 0;
        let prepared = of_all.prepared(units, None).unwrap();
        let costs = costs.each_ref().map(|cost| cost as &Cost<'_>);
        let found = prepared.rank_by(&costs, &mut |count| {
            ranked += count;
            Ok(())
        });
        assert_eq!(found.unwrap(), alone);
        assert_eq!(ranked, 2 * 130);
    }
}

#[test]
fn blocks_go_one_by_one_as_long_as_that_is_cheap() {
    // Blocks of two, of four candidates: the choice within them is that of the definition.
    let width = 125;
    for rows in [300, 60] {
        let values = shared(rows, width, 5);
        let importance = importance(width);
        let units = members(None, width);
        let expected = slow(&values, &units, |neurons, residual| {
            importance[neurons[0]] * residual[[0, 0]].sqrt()
        });
        for form in forms(&values) {
            let name = form.name;
            let worth = ranked(form, units.clone(), None, &euclidean(&importance));
            assert_follows(&worth, &units, &expected, name);
        }
    }
}

#[test]
fn units_go_whole_by_what_the_others_cannot_reproduce_of_them() {
    // Places of four channels, apart; then one unit of another size.
    let units: Vec<usize> = (0..24)
        .map(|neuron| if neuron < 3 { 4 } else { neuron % 4 })
        .collect();
    let units = members(Some(&units), 24);
    for seed in 0..5 {
        let values = shared(200, 24, seed);
        let importance = importance(24);
        let expected = slow(&values, &units, |neurons, residual| {
            let terms = neurons.iter().enumerate();
            let terms = terms.map(|(k, &neuron)| importance[neuron].powi(2) * residual[[k, k]]);
            terms.sum::<f64>().sqrt()
        });
        for form in forms(&values) {
            let name = form.name;
            let worth = ranked(form, units.clone(), None, &euclidean(&importance));
            assert_follows(&worth, &units, &expected, name);
        }
    }
}

#[test]
fn of_two_copies_one_goes_first_and_the_other_stays_long() {
    // 240 neurons, so that blocks of four are taken: the copies are never in one.
    let mut values = random(1000, 240, 1);
    let copied = values.column(17).to_owned();
    values.column_mut(200).assign(&copied);
    let units = members(None, 240);
    let importance = vec![1.0; 240];
    for form in forms(&values) {
        let worth = ranked(form, units.clone(), None, &euclidean(&importance));
        let order = order(&worth, &units);
        // Which one is up to rounding.
        let copies = order.iter().enumerate();
        let copies = copies.filter(|(_, unit)| [17, 200].contains(*unit));
        let places: Vec<usize> = copies.map(|(place, _)| place).collect();
        assert!(places[0] == 0 && places[1] > 20, "{places:?}");
    }
}

#[test]
fn a_neuron_that_never_varies_goes_first_and_costs_nothing() {
    let mut values = shared(100, 8, 3);
    values.column_mut(2).fill(5.0);
    values.column_mut(6).fill(0.1);
    let mut importance = importance(8);
    importance[2] = 1e9;
    for form in forms(&values) {
        let worth = ranked(form, members(None, 8), None, &euclidean(&importance));
        assert_eq!(worth.ranking[6..], [2, 6]);
        assert_eq!((worth.values[2], worth.values[6]), (0.0, 0.0));
    }
    // With a unit that lives, it stays or goes with it.
    let units = members(Some(&[0, 1, 0, 2, 3, 4, 1, 5]), 8);
    for form in forms(&values) {
        let worth = ranked(form, units.clone(), None, &euclidean(&importance));
        assert_eq!(worth.values[0], worth.values[2]);
        assert_eq!(worth.values[1], worth.values[6]);
        assert!(worth.values[2] > 0.0);
    }
}

#[test]
fn values_fall_along_a_ranking_of_everyone() {
    let values = shared(300, 130, 8);
    for form in forms(&values) {
        let worth = ranked(form, members(None, 130), None, &euclidean(&importance(130)));
        let falls = worth
            .ranking
            .windows(2)
            .all(|pair| worth.values[pair[0]] >= worth.values[pair[1]]);
        assert!(falls);
        let mut all = worth.ranking.clone();
        all.sort_unstable();
        assert_eq!(all, (0..130).collect::<Vec<_>>());
    }
}

#[test]
fn nothing_varies_in_one_row() {
    for form in forms(&shared(1, 5, 1)) {
        assert!(form.prepared(members(None, 5), None).is_none());
    }
}

/// Optimal brain surgery by its definition: the error of the best refit without the neurons, from
/// the weights of all, in the metric of the ridged covariance.
#[test]
fn carried_weights_are_those_of_the_best_refit() {
    let (width, outputs) = (7, 3);
    let values = shared(60, width, 4);
    let weights = random(width, outputs, 9);
    let units = members(None, width);
    let squares: &Cost<'_> = &|neurons, residual, carried| {
        let sum: f64 = carried(0).iter().map(|weight| weight * weight).sum();
        assert_eq!(neurons.len(), 1);
        sum * residual.covariance(0, 0)
    };
    let worth = ranked(
        whole(&values),
        units.clone(),
        Some(weights.clone()),
        squares,
    );
    // E(S) = tr(W_R^T (G_RR - G_RS G_SS^-1 G_SR) W_R); each step pays the rise of E.
    let exact = values.mapv(|value| f64::from(value as f32));
    let centred = &exact - &exact.mean_axis(ndarray::Axis(0)).unwrap();
    let mut covariance = centred.t().dot(&centred) / 60.0;
    let ridge = covariance.diag().mean().unwrap() * RIDGE;
    covariance.diag_mut().map_inplace(|value| *value += ridge);
    let pick = |rows: &[usize], columns: &[usize]| {
        Array2::from_shape_fn((rows.len(), columns.len()), |(a, b)| {
            covariance[[rows[a], columns[b]]]
        })
    };
    let error = |kept: &[usize]| -> f64 {
        let gone: Vec<usize> = (0..width).filter(|neuron| !kept.contains(neuron)).collect();
        let across = pick(kept, &gone);
        let rest = pick(&gone, &gone) - across.t().dot(&inverted(&pick(kept, kept))).dot(&across);
        let lost = weights.select(ndarray::Axis(0), &gone);
        lost.t().dot(&rest).dot(&lost).diag().sum()
    };
    let mut kept: Vec<usize> = (0..width).collect();
    let mut dearest = 0.0_f64;
    for &neuron in worth.ranking.iter().rev().take(width - 1) {
        let without = |gone: usize| -> Vec<usize> {
            kept.iter()
                .copied()
                .filter(|&other| other != gone)
                .collect()
        };
        let rise = |gone: usize| error(&without(gone)) - error(&kept);
        let cheapest = kept
            .iter()
            .map(|&gone| rise(gone))
            .fold(f64::INFINITY, f64::min);
        assert!((rise(neuron) - cheapest).abs() < 1e-9, "{neuron}");
        dearest = dearest.max(cheapest);
        assert!((worth.values[neuron] - dearest).abs() < 1e-7 * dearest.max(1.0));
        kept = without(neuron);
    }
}

/// Phi_i^2 = w_i^T M w_i with the curvature M x G: the residual score is the root of what optimal
/// brain surgery pays for w_i, here by its own formula over the whole curvature.
#[test]
fn with_p_and_q_2_the_first_score_is_the_surgery_under_a_kronecker_curvature() {
    let (width, outputs) = (5, 3);
    let values = shared(50, width, 2);
    let weights = random(width, outputs, 3);
    let square = random(outputs + 2, outputs, 4);
    let metric = square.t().dot(&square);
    let sensitivity: Vec<f64> = weights
        .rows()
        .into_iter()
        .map(|w| w.dot(&metric.dot(&w)).sqrt())
        .collect();
    let worth = ranked(
        whole(&values),
        members(None, width),
        None,
        &euclidean(&sensitivity),
    );
    let exact = values.mapv(|value| f64::from(value as f32));
    let centred = &exact - &exact.mean_axis(ndarray::Axis(0)).unwrap();
    let mut covariance = centred.t().dot(&centred) / 50.0;
    let ridge = covariance.diag().mean().unwrap() * RIDGE;
    covariance.diag_mut().map_inplace(|value| *value += ridge);
    // The curvature of all weights w_ij: Q = G x M; removing w_i costs w_i^T ((Q^-1)_ii)^-1 w_i.
    let size = width * outputs;
    let curvature = Array2::from_shape_fn((size, size), |(a, b)| {
        covariance[[a / outputs, b / outputs]] * metric[[a % outputs, b % outputs]]
    });
    let inverse = inverted(&curvature);
    let cost = |neuron: usize| {
        let block = Array2::from_shape_fn((outputs, outputs), |(a, b)| {
            inverse[[neuron * outputs + a, neuron * outputs + b]]
        });
        let weights = weights.row(neuron);
        weights.dot(&inverted(&block).dot(&weights))
    };
    let cheapest = (0..width)
        .min_by(|&a, &b| cost(a).total_cmp(&cost(b)))
        .unwrap();
    assert_eq!(worth.ranking[width - 1], cheapest);
    let found = worth.values[cheapest].powi(2);
    assert!((found - cost(cheapest)).abs() < 1e-9 * found);
}
