//! Rows that only this run remembers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    data::readable_bytes,
    error::{Error, Result},
    features::{
        Extraction, FeatureSet,
        extract::{Event, Listener, Run},
        layout::Layout,
        rows::Rows,
        set::Place,
    },
};

/// Most bytes of features that are held in memory, as for data sets.
pub(super) const MOST_BYTES: u64 = 4 << 30;

/// Features of one model and data set.
#[derive(Debug, Default)]
pub(super) struct Memory {
    layouts: Option<Arc<[Layout]>>,
    /// One per extraction.
    parts: Vec<Arc<Rows>>,
    /// By position in the data set.
    places: BTreeMap<usize, Place>,
    held_bytes: u64,
}

impl Memory {
    /// The rows of the wanted samples, computing those that are missing. No more than `most_bytes`
    /// are held.
    pub(super) fn features(
        &mut self,
        extraction: Extraction<'_>,
        most_bytes: u64,
        on: &mut Listener<'_>,
    ) -> Result<FeatureSet> {
        let Extraction {
            indices,
            dataset,
            input,
            ..
        } = extraction;
        let wanted: BTreeSet<usize> = indices.iter().copied().collect();
        let missing = wanted.into_iter();
        let missing: Vec<usize> = missing.filter(|at| !self.places.contains_key(at)).collect();
        if !missing.is_empty() {
            self.add(extraction, &missing, most_bytes, on)?;
        }
        let layouts = self.layouts.clone().unwrap_or_default();
        let places = indices.iter().map(|index| self.places[index]);
        let labels = dataset.labels();
        Ok(FeatureSet::new(
            layouts,
            self.parts.clone(),
            places.collect(),
            labels.map(|labels| indices.iter().map(|&index| labels[index]).collect()),
            input.fixed_batch(),
        ))
    }

    fn add(
        &mut self,
        extraction: Extraction<'_>,
        missing: &[usize],
        most_bytes: u64,
        on: &mut Listener<'_>,
    ) -> Result<()> {
        let run = Run::new(extraction, on)?;
        on(Event::Begin(missing.len()))?;
        let held = self.held_bytes;
        let mut added = 0;
        let open = |layouts: Arc<[Layout]>| {
            let row: usize = layouts.iter().map(Layout::row_bytes).sum();
            added = (row as u64).saturating_mul(missing.len() as u64);
            check(held.saturating_add(added), most_bytes)?;
            let rows = layouts.iter().map(|layout| layout.row_bytes());
            let values = rows.map(|row| Vec::with_capacity(row * missing.len()));
            let values: Vec<Vec<u8>> = values.collect();
            Ok(Some((layouts, values)))
        };
        let known = self.layouts.clone();
        let found = run.over(missing, known, open, |(_, held), samples, rows| {
            for (held, rows) in held.iter_mut().zip(rows) {
                held.extend(rows);
            }
            on(Event::Rows(samples.len()))
        })?;
        let Some((layouts, values)) = found else {
            return Ok(());
        };
        let part = self.parts.len();
        self.parts.push(Arc::new(Rows::held(&layouts, values)));
        let places = missing.iter().enumerate();
        self.places
            .extend(places.map(|(row, &index)| (index, Place { part, row })));
        self.layouts = Some(layouts);
        self.held_bytes += added;
        Ok(())
    }
}

fn check(bytes: u64, most: u64) -> Result<()> {
    if bytes <= most {
        return Ok(());
    }
    Err(Error::Argument {
        name: "--cache",
        what: format!(
            "{} of features are more than the {} that are held in memory; name a folder with room for \
             them (and leave out --no-cache), or use fewer --samples",
            readable_bytes(bytes),
            readable_bytes(most)
        ),
    })
}
