//! Dense linear algebra in f64: sums of products that merge, Cholesky factors and solves.
