//! Sums in files.
//!
//! Each number is stored as it is held, so that what is read back is what was written, bit for bit.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Collected, Joined, Layers, Sum, Way, merge};
use crate::{
    algebra::Covariance,
    error::{Error, Result},
    sensitivity::{
        Terms,
        moments::Moments,
        power_sums::PowerSums,
        redundancy::{Form, Observations, Saved},
    },
    shards::{
        Node,
        file::{Array, Reader, Writer},
    },
};

/// The text of a file: what it belongs to, and what its arrays are.
#[derive(Serialize, Deserialize)]
struct Text<M> {
    manifest: M,
    sums: About,
}

#[derive(Serialize, Deserialize)]
struct About {
    samples: u64,
    notes: Vec<String>,
    #[serde(default)]
    way: Option<Way>,
    nodes: Vec<NodeAbout>,
    apart: Vec<Vec<SumAbout>>,
}

#[derive(Serialize, Deserialize)]
struct NodeAbout {
    node: Node,
    layers: Vec<Vec<SumAbout>>,
}

/// A sum without its numbers.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum SumAbout {
    Powers(PowerSums),
    Moments { samples: u64 },
    Rows { seen: u64 },
    Covariance { seen: u64, count: u64 },
    Drawn { seen: u64 },
    Totals,
    Counts,
    Fixed,
    Elsewhere,
}

/// Numbers of a sum.
enum Column {
    F64(Vec<f64>),
    F32(Vec<f32>),
    U64(Vec<u64>),
}

type Columns = Vec<(&'static str, Column)>;

impl Collected {
    /// Writes everything to a file, with what it belongs to.
    ///
    /// # Errors
    /// [`Error::Io`] where that is not possible; there is no file then, or the one that was.
    pub fn save(&self, path: &Path, manifest: &impl Serialize) -> Result<()> {
        let about = |layers: &Layers| -> Vec<Vec<SumAbout>> {
            let layers = layers.iter();
            layers
                .map(|sums| sums.iter().map(SumAbout::from).collect())
                .collect()
        };
        let nodes = self.forest.nodes().map(|(node, joined)| NodeAbout {
            node,
            layers: about(&joined.0),
        });
        let text = Text {
            manifest,
            sums: About {
                samples: self.samples,
                notes: self.notes.clone(),
                way: self.way.clone(),
                nodes: nodes.collect(),
                apart: about(&self.apart),
            },
        };
        let text = serde_json::to_string(&text).map_err(|error| Error::Format {
            path: path.to_owned(),
            what: error.to_string(),
        })?;
        let mut arrays = Vec::new();
        self.each(|name, column| {
            arrays.push(column.array(name));
            Ok(())
        })?;
        let mut writer = Writer::create(path, &text, &arrays)?;
        let mut at = 0;
        self.each(|_, column| {
            writer.append(at, &column.bytes())?;
            at += 1;
            Ok(())
        })?;
        writer.finish()
    }

    /// Gives every column with its name to `take`, always in the same order, one at a time: sums may
    /// be large.
    fn each(&self, mut take: impl FnMut(String, Column) -> Result<()>) -> Result<()> {
        let nodes = self
            .forest
            .nodes()
            .map(|(node, joined)| (prefix(node), &joined.0));
        for (prefix, layers) in nodes.chain([(APART.to_owned(), &self.apart)]) {
            for (layer, sums) in layers.iter().enumerate() {
                for (at, sum) in sums.iter().enumerate() {
                    for (name, column) in columns(sum) {
                        take(format!("{prefix}.{layer}.{at}.{name}"), column)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the sums of a file belong to.
    ///
    /// # Errors
    /// [`Error::Format`] where it holds no sums.
    pub fn manifest<M: DeserializeOwned>(reader: &Reader) -> Result<M> {
        let text: Text<M> = parsed(reader)?;
        Ok(text.manifest)
    }

    /// Joins the sums of a file to these.
    ///
    /// The file must have been verified, hold no block that is here, and belong to the same terms.
    ///
    /// # Errors
    /// [`Error::Format`] where the sums are none of these terms; [`Error::Io`].
    pub fn join(&mut self, reader: &mut Reader, terms: &Terms) -> Result<()> {
        let Text { sums, .. } = parsed::<serde_json::Value>(reader)?;
        let mut file = Columned {
            names: named(reader),
            reader,
        };
        let widths: Vec<usize> = terms.layers.iter().map(|layer| layer.width).collect();
        for NodeAbout { node, layers } in sums.nodes {
            if !node.is_sound() {
                return Err(file.broken(format!("there is no {}", prefix(node))));
            }
            let layers = file.layers(&prefix(node), layers, &widths)?;
            self.forest.add(node, Joined(layers));
        }
        let apart = file.layers(APART, sums.apart, &widths)?;
        merge(&mut self.apart, apart);
        self.samples += sums.samples;
        match (&mut self.way, sums.way) {
            (Some(way), Some(more)) => way.used.extend(more.used),
            (way, more) => *way = way.take().or(more),
        }
        for note in sums.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        Ok(())
    }
}

const APART: &str = "apart";

fn prefix(node: Node) -> String {
    format!("node.{}.{}", node.level, node.index)
}

fn parsed<M: DeserializeOwned>(reader: &Reader) -> Result<Text<M>> {
    serde_json::from_str(reader.text()).map_err(|error| Error::Format {
        path: reader.path().to_owned(),
        what: format!("holds no sums: {error}"),
    })
}

impl From<&Sum> for SumAbout {
    fn from(sum: &Sum) -> Self {
        match sum {
            Sum::Powers(sums) => Self::Powers(sums.clone()),
            Sum::Moments(moments) => Self::Moments {
                samples: moments.samples(),
            },
            Sum::Observations(rows) => match rows.form() {
                (seen, Form::Rows) => Self::Rows { seen },
                (seen, Form::Covariance(count)) => Self::Covariance { seen, count },
                (seen, Form::Drawn) => Self::Drawn { seen },
            },
            Sum::Totals(_) => Self::Totals,
            Sum::Counts(_) => Self::Counts,
            Sum::Fixed(_) => Self::Fixed,
            Sum::Elsewhere => Self::Elsewhere,
        }
    }
}

fn columns(sum: &Sum) -> Columns {
    match sum {
        Sum::Powers(sums) => {
            let [powers, largest] = sums.columns().map(|column| Column::F64(column.to_vec()));
            vec![("sums", powers), ("largest", largest)]
        }
        Sum::Moments(moments) => {
            let names = ["means", "spreads", "smallest", "largest"].into_iter();
            names.zip(moments.columns().map(Column::F64)).collect()
        }
        Sum::Observations(rows) => match rows.clone().into_saved() {
            Saved::Rows(_, rows) => vec![("rows", Column::F32(rows))],
            Saved::Covariance(_, covariance) => {
                let mean = Column::F64(covariance.mean().to_vec());
                vec![
                    ("mean", mean),
                    ("scatter", Column::F64(covariance.packed())),
                ]
            }
            Saved::Drawn(_, rows, numbers) => {
                vec![
                    ("rows", Column::F32(rows)),
                    ("numbers", Column::U64(numbers)),
                ]
            }
        },
        Sum::Totals(totals) => vec![("totals", Column::F64(totals.clone()))],
        Sum::Counts(counts) => vec![("counts", Column::U64(counts.clone()))],
        Sum::Fixed(numbers) => vec![("numbers", Column::F64(numbers.clone()))],
        Sum::Elsewhere => Vec::new(),
    }
}

/// A file whose arrays are found by name.
struct Columned<'r> {
    reader: &'r mut Reader,
    names: BTreeMap<String, usize>,
}

fn named(reader: &Reader) -> BTreeMap<String, usize> {
    let names = reader.arrays().iter().map(|array| array.name.clone());
    names.zip(0..).collect()
}

impl Columned<'_> {
    fn layers(
        &mut self,
        prefix: &str,
        layers: Vec<Vec<SumAbout>>,
        widths: &[usize],
    ) -> Result<Layers> {
        // A criterion that needs no samples may hold nothing.
        if !layers.is_empty() && layers.len() != widths.len() {
            return Err(self.broken(format!("{} layers, not {}", layers.len(), widths.len())));
        }
        let mut found = Vec::with_capacity(layers.len());
        for (layer, (sums, &width)) in layers.into_iter().zip(widths).enumerate() {
            let sums = sums.into_iter().enumerate();
            let sums =
                sums.map(|(at, about)| self.sum(&format!("{prefix}.{layer}.{at}"), about, width));
            found.push(sums.collect::<Result<_>>()?);
        }
        Ok(found)
    }

    fn sum(&mut self, name: &str, about: SumAbout, width: usize) -> Result<Sum> {
        let misfit = |file: &Self| file.broken(format!("{name} does not fit {width} neurons"));
        let rows = |saved| Observations::from_saved(width, saved).map(Sum::Observations);
        let found = match about {
            SumAbout::Powers(sums) => {
                let columns = [self.f64(name, "sums")?, self.f64(name, "largest")?];
                sums.with_columns(width, columns).map(Sum::Powers)
            }
            SumAbout::Moments { samples } => {
                let columns = [
                    self.f64(name, "means")?,
                    self.f64(name, "spreads")?,
                    self.f64(name, "smallest")?,
                    self.f64(name, "largest")?,
                ];
                Moments::from_columns(samples, &columns).map(Sum::Moments)
            }
            SumAbout::Rows { seen } => rows(Saved::Rows(seen, self.f32(name, "rows")?)),
            SumAbout::Covariance { seen, count } => {
                let (mean, scatter) = (self.f64(name, "mean")?, self.f64(name, "scatter")?);
                let covariance = Covariance::from_packed(count, mean, &scatter);
                covariance.and_then(|found| rows(Saved::Covariance(seen, found)))
            }
            SumAbout::Drawn { seen } => {
                let (values, numbers) = (self.f32(name, "rows")?, self.u64(name, "numbers")?);
                rows(Saved::Drawn(seen, values, numbers))
            }
            SumAbout::Totals => Some(Sum::Totals(self.f64(name, "totals")?)),
            SumAbout::Counts => Some(Sum::Counts(self.u64(name, "counts")?)),
            SumAbout::Fixed => Some(Sum::Fixed(self.f64(name, "numbers")?)),
            SumAbout::Elsewhere => Some(Sum::Elsewhere),
        };
        found.ok_or_else(|| misfit(self))
    }

    fn f64(&mut self, name: &str, column: &str) -> Result<Vec<f64>> {
        let bytes = self.bytes(name, column, "F64")?;
        let (chunks, _) = bytes.as_chunks();
        Ok(chunks.iter().copied().map(f64::from_le_bytes).collect())
    }

    fn f32(&mut self, name: &str, column: &str) -> Result<Vec<f32>> {
        let bytes = self.bytes(name, column, "F32")?;
        let (chunks, _) = bytes.as_chunks();
        Ok(chunks.iter().copied().map(f32::from_le_bytes).collect())
    }

    fn u64(&mut self, name: &str, column: &str) -> Result<Vec<u64>> {
        let bytes = self.bytes(name, column, "U64")?;
        let (chunks, _) = bytes.as_chunks();
        Ok(chunks.iter().copied().map(u64::from_le_bytes).collect())
    }

    fn bytes(&mut self, name: &str, column: &str, dtype: &str) -> Result<Vec<u8>> {
        let name = format!("{name}.{column}");
        let place = self.names.get(&name).copied();
        let array = place.map(|place| &self.reader.arrays()[place]);
        let found = place.zip(array.filter(|array| array.dtype == dtype));
        let Some((place, array)) = found else {
            return Err(self.broken(format!("there is no array {name:?} of {dtype}")));
        };
        let length = usize::try_from(array.bytes).unwrap_or(usize::MAX);
        self.reader.read(place, 0, length)
    }

    fn broken(&self, what: String) -> Error {
        Error::Format {
            path: self.reader.path().to_owned(),
            what: format!("holds other sums than it says: {what}"),
        }
    }
}

impl Column {
    fn array(&self, name: String) -> Array {
        let (dtype, count, size) = match self {
            Self::F64(values) => ("F64", values.len(), size_of::<f64>()),
            Self::F32(values) => ("F32", values.len(), size_of::<f32>()),
            Self::U64(values) => ("U64", values.len(), size_of::<u64>()),
        };
        Array {
            name,
            dtype: dtype.to_owned(),
            shape: vec![count],
            bytes: (count * size) as u64,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::U64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}
