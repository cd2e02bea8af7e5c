//! From flags to the library's options; what was not given keeps the library's default.

use onnx_prune::{
    Result,
    data::Overrides,
    engine::EngineOptions,
    features::CacheChoice,
    onnx::Overwrite,
    pipeline::{SourceOptions, TransferOptions},
    sensitivity::ScoreOptions,
};

use super::{
    args::{DataFlags, EngineFlags, PreprocessFlags, SampleFlags, ScoreFlags, TransferFlags},
    values::SampleCount,
};

impl ScoreFlags {
    /// All but `--of`, whose default depends on the data; `solves` where samples serve something
    /// besides scores.
    pub(super) fn to_options(&self, samples: &SampleFlags, solves: bool) -> Result<ScoreOptions> {
        self.check(samples, solves)?;
        let default = ScoreOptions::default();
        Ok(ScoreOptions {
            criterion: self.criterion.unwrap_or(default.criterion),
            norm: self.norm.unwrap_or(default.norm),
            over_classes: self.over_classes,
            scale: self.scale.unwrap_or(default.scale),
            row_tolerance: self.row_tolerance,
            probes: self.probes,
            ..default
        })
    }
}

impl EngineFlags {
    pub(super) fn to_options(&self) -> EngineOptions {
        EngineOptions {
            engine: self.engine.unwrap_or_default(),
            provider: self.provider.unwrap_or_default(),
            precision: self.precision,
            threads: self.threads,
            ort_library: self.ort_lib.clone(),
        }
    }
}

impl TransferFlags {
    pub(super) fn to_options(&self) -> Option<TransferOptions> {
        self.classes.map(|classes| TransferOptions {
            classes,
            score_with: self.score_with.unwrap_or_default(),
        })
    }
}

impl PreprocessFlags {
    pub(super) fn to_overrides(&self) -> Overrides {
        Overrides {
            preprocess: self.preprocess.clone(),
            resize: self.resize,
            crop: self.crop,
            interpolation: self.interpolation,
            rescale: self.rescale,
            mean: self.mean.clone(),
            std: self.std.clone(),
            layout: self.layout,
            channels: self.channels,
        }
    }
}

/// Where samples come from and what computes on them.
pub(super) fn source(
    data: &DataFlags,
    samples: &SampleFlags,
    engine: &EngineFlags,
) -> Result<SourceOptions> {
    data.check()?;
    samples.check(data)?;
    let default = SourceOptions::default();
    Ok(SourceOptions {
        data: data.data.clone(),
        overrides: data.preprocess.to_overrides(),
        on_bad_sample: data.on_bad_sample.unwrap_or(default.on_bad_sample),
        samples: match samples.samples {
            Some(SampleCount::AtMost(count)) => Some(count),
            Some(SampleCount::Auto) | None => default.samples,
        },
        until_stable: samples.samples == Some(SampleCount::Auto),
        seed: data.seed.unwrap_or(default.seed),
        engine: engine.to_options(),
        batch: samples.batch.unwrap_or_default(),
        cache: match (&samples.cache, samples.no_cache) {
            (Some(folder), _) => CacheChoice::At(folder.clone()),
            (None, true) => CacheChoice::Off,
            (None, false) => default.cache,
        },
        test: default.test,
    })
}

/// What `--force` means.
pub(super) fn overwrite(force: bool) -> Overwrite {
    if force {
        Overwrite::Replace
    } else {
        Overwrite::Refuse
    }
}
