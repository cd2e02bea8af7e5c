//! Prunes a classifier from Rust: `cargo run --release --example prune -- IN OUT [DATA]`.

use std::io::Write;

use onnx_prune::{
    pipeline::{self, PruneOptions, Silent},
    prune::{Budget, Keep},
    report,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("usage: prune IN OUT [DATA]".into());
    };
    let mut options = PruneOptions::new(input, output);
    options.source.data = arguments.next().map(Into::into);
    options.budget = Budget::uniform(Keep::Share(0.3));
    let found = pipeline::prune(&options, &Silent)?;
    writeln!(std::io::stdout(), "{}", report::pruned(&found))?;
    Ok(())
}
