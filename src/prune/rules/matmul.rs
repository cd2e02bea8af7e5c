//! Dense layers: Gemm and MatMul with constant weights contract over one axis and make another.

use super::{Arrival, Coupling, Port, Role, Rule, Stop};

pub(super) const RULES: &[(&str, Rule)] = &[("Gemm", gemm), ("MatMul", matmul)];

/// `y = A' B' + C`: the neurons are A's second axis after transposition, or B's.
fn gemm(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let node = arrival.graph.node(arrival.node);
    let transposed = |name| node.int(name).unwrap_or(0) != 0;
    let weight = arrival.constant(1).ok_or("has weights that are computed")?;
    let (inner, outer) = if transposed("transB") { (1, 0) } else { (0, 1) };
    match arrival.port {
        Port::Input(0) => {
            let contracted = usize::from(!transposed("transA"));
            if arrival.axis != contracted {
                return Err("does not contract over the neurons".to_owned());
            }
            sink(arrival, 1, inner, &weight.dims)
        }
        Port::Output(0) if arrival.axis == 1 => {
            let mut coupling = source(arrival, 1, outer, &weight.dims)?;
            bias(arrival, &mut coupling, 2)?;
            Ok(coupling)
        }
        Port::Input(_) | Port::Output(_) => {
            Err("is reached at an axis it does not make".to_owned())
        }
    }
}

/// `y = A B` with B constant: the neurons are A's last axis, or B's last axis.
fn matmul(arrival: &Arrival<'_>) -> Result<Coupling, Stop> {
    let weight = arrival.constant(1).ok_or("has weights that are computed")?;
    let rank = weight.dims.len();
    if rank < 2 {
        return Err("has weights that are a vector".to_owned());
    }
    let last = arrival.rank(arrival.port)?.saturating_sub(1);
    if arrival.axis != last {
        return Err("does not contract over the neurons".to_owned());
    }
    match arrival.port {
        Port::Input(0) => sink(arrival, 1, rank - 2, &weight.dims),
        Port::Output(0) => source(arrival, 1, rank - 1, &weight.dims),
        Port::Input(_) | Port::Output(_) => Err("reads the neurons as weights".to_owned()),
    }
}

pub(super) fn sink(
    arrival: &Arrival<'_>,
    input: usize,
    axis: usize,
    dims: &[i64],
) -> Result<Coupling, Stop> {
    weights(arrival, Role::Sink, input, axis, dims)
}

pub(super) fn source(
    arrival: &Arrival<'_>,
    input: usize,
    axis: usize,
    dims: &[i64],
) -> Result<Coupling, Stop> {
    weights(arrival, Role::Source, input, axis, dims)
}

fn weights(
    arrival: &Arrival<'_>,
    role: Role,
    input: usize,
    axis: usize,
    dims: &[i64],
) -> Result<Coupling, Stop> {
    let size = dims.get(axis).copied().unwrap_or(0);
    if usize::try_from(size) != Ok(arrival.width()) {
        return Err(format!(
            "has weights for {size} neurons where {} arrive",
            arrival.width()
        ));
    }
    let mut coupling = Coupling::new(role);
    coupling.cuts.push((input, axis, arrival.map.clone()));
    Ok(coupling)
}

/// A bias that is broadcast over the batch: its last axis is the neurons', or has size 1.
pub(super) fn bias(
    arrival: &Arrival<'_>,
    coupling: &mut Coupling,
    input: usize,
) -> Result<(), Stop> {
    if arrival.value(Port::Input(input)).is_none() {
        return Ok(());
    }
    let tensor = arrival
        .constant(input)
        .ok_or("has a bias that is computed")?;
    let last = tensor.dims.len().checked_sub(1);
    if let Some(axis) = last
        && tensor.dims[axis] != 1
    {
        coupling.cuts.push((input, axis, arrival.map.clone()));
    }
    Ok(())
}
