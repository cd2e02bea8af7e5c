//! The study itself, model by model.

use std::path::Path;

use super::{
    ModelStudy, StudyOptions, StudyReport, best,
    choice::{ChoicePart, name_of},
    export, model,
    model::{ModelPart, Wishes},
    overlap,
    report::{Cell, CellPart, ChoiceReport, Engine, LevelTime},
    store::Store,
};
use crate::{
    error::Result,
    pipeline::{self, Watch},
};

/// Schema of [`StudyReport`].
const SCHEMA: &str = "onnx-prune/study/v1";

/// Runs what is missing of a study, and reports all of it.
///
/// # Errors
/// Every [`crate::Error`]. What was finished until then stays in the folder, and the next run goes
/// on from there.
pub fn study(options: &StudyOptions, watch: &dyn Watch) -> Result<StudyReport> {
    options.check()?;
    let store = Store::open(&options.output)?;
    let mut models = Vec::new();
    for (input, name) in options.models.iter().zip(names(options)) {
        models.push(one(input, name, options, &store, watch)?);
    }
    let exported = models.iter().filter_map(|model| model.exported.as_ref());
    let passed = exported.clone().all(|exported| exported.passed);
    Ok(StudyReport {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        seed: options.source.seed,
        keeps: options.levels(),
        max_drop: options.max_drop,
        training: options.training.clone(),
        models,
        passed,
    })
}

/// File names without the extension, or whole paths where these repeat.
fn names(options: &StudyOptions) -> Vec<String> {
    let short: Vec<String> = options
        .models
        .iter()
        .map(|path| model::short_name(path))
        .collect();
    let repeated = |name: &String| short.iter().filter(|other| *other == name).count() > 1;
    let names = options.models.iter().zip(&short);
    names
        .map(|(path, name)| match repeated(name) {
            true => path.display().to_string(),
            false => name.clone(),
        })
        .collect()
}

fn one(
    input: &Path,
    name: String,
    options: &StudyOptions,
    store: &Store,
    watch: &dyn Watch,
) -> Result<ModelStudy> {
    let wishes = pipeline::opened(input, &options.source, watch, |opened| {
        let wishes = Wishes::new(&opened, options)?;
        match wishes.is_missing_any(store)? {
            true => wishes.make(opened, store, watch)?,
            false => watch.note(&format!("{name}: nothing is missing, so nothing ran")),
        }
        Ok(wishes)
    })?;
    let mut model = gathered(input, name, &wishes, options, store)?;
    model.overlaps = overlap::overlaps(&model.choices, &options.levels());
    for choice in &mut model.choices {
        // The parts hold them; a report of megabytes helps nobody.
        choice
            .layers
            .iter_mut()
            .for_each(|layer| layer.ranking.clear());
    }
    model.winners = best::winners(&model, &options.levels());
    model.best = best::best(&model, options.max_drop);
    if options.export_best {
        exported(&mut model, &wishes, options, store, watch)?;
    }
    Ok(model)
}

/// Reads all parts of a model.
fn gathered(
    input: &Path,
    name: String,
    wishes: &Wishes<'_>,
    options: &StudyOptions,
    store: &Store,
) -> Result<ModelStudy> {
    let part: ModelPart = wishes.part(store, &wishes.model_name())?;
    let mut choices = Vec::new();
    for wanted in &wishes.choices {
        let found: ChoicePart = wishes.part(store, &wishes.choice_name(wanted))?;
        let mut choice = wanted.choice.clone();
        // Where the samples told nothing of redundancy, another scale was used.
        choice.scale = found.scale.or(choice.scale);
        choices.push(ChoiceReport {
            label: choice.label(),
            choice,
            of: found.of,
            samples: found.samples,
            notes: found.notes,
            layers: found.layers,
        });
    }
    let mut cells = Vec::new();
    for wish in &wishes.cells {
        cells.push(Cell {
            choice: wish.choice,
            repair: name_of(&wish.repair),
            epochs: options
                .training
                .as_ref()
                .map_or(0, |training| training.options.epochs),
            keep: wish.keep,
            part: wishes.part::<CellPart>(store, &wish.name)?,
        });
    }
    let times = match options.timed {
        Some(timed) => wishes.part::<Vec<LevelTime>>(store, &wishes.times_name(timed))?,
        None => Vec::new(),
    };
    let identity = &wishes.identity;
    Ok(ModelStudy {
        name,
        path: input.to_owned(),
        sha256: identity.sha256.clone(),
        bytes: identity.file.bytes,
        parameters: identity.file.parameters,
        engine: Engine {
            name: identity.engine.name.to_owned(),
            version: identity.engine.version.clone(),
            provider: identity.engine.provider.clone(),
        },
        data: identity.data.clone(),
        class_names: identity.class_names.clone(),
        classes: part.classes,
        layers: part.layers,
        calibration_samples: part.calibration_samples,
        samples: part.samples,
        samples_by_class: part.samples_by_class,
        original: part.original,
        notes: part.notes,
        choices,
        cells,
        overlaps: Vec::new(),
        winners: Vec::new(),
        best: None,
        exported: None,
        times,
    })
}

/// Writes the recommended model, unless it is there.
fn exported(
    model: &mut ModelStudy,
    wishes: &Wishes<'_>,
    options: &StudyOptions,
    store: &Store,
    watch: &dyn Watch,
) -> Result<()> {
    let Some(best) = &model.best else {
        watch.note(&format!(
            "{}: no cell loses at most {} points, so there is no best model",
            model.name, options.max_drop
        ));
        return Ok(());
    };
    let wish = &wishes.cells[best.cell];
    let name = wishes.export_name(wish);
    let known: Option<export::Exported> = store.read(&name)?;
    let known = known.filter(|known| options.output.join(&known.path).is_file());
    let found = match known {
        Some(known) => known,
        None => {
            let wanted = &wishes.choices[wish.choice];
            let input = (model.path.as_path(), model.name.as_str());
            let cell = (wish.keep, wish.repair);
            let made = export::export(options, input, wanted, cell, watch)?;
            store.write(&name, &made)?;
            made
        }
    };
    model.exported = Some(found);
    Ok(())
}
