use super::*;
use crate::{
    engine::testing,
    features::testing::{self as models, Dense},
    onnx::Tensor,
};

const CLASSES: usize = 3;

/// Features with a class that a line tells, spread over `width` values.
fn labelled(count: usize, width: usize) -> (Vec<f32>, Vec<usize>) {
    let values = models::Numbers(11).take(count * width);
    let rows = values.chunks_exact(width);
    let labels = rows.map(|row| {
        let score = row[0] + 0.5 * row[1];
        usize::from(score > -0.3) + usize::from(score > 0.4)
    });
    let labels = labels.collect();
    (values, labels)
}

struct Setting {
    widths: Vec<usize>,
    ending: &'static str,
    values: Vec<f32>,
    labels: Option<Vec<usize>>,
    check: usize,
}

impl Setting {
    fn new(widths: &[usize], ending: &'static str, count: usize) -> Self {
        let (values, labels) = labelled(count, widths[0]);
        Self {
            widths: widths.to_vec(),
            ending,
            values,
            labels: Some(labels),
            check: count / 5,
        }
    }

    /// The report, and the accuracy of the model with its new layer on all samples.
    fn run(&self) -> Result<(FitReport, f64)> {
        let model = Dense::random(&self.widths, self.ending, 5).model();
        let graph = Graph::new(&model)?;
        let width = self.widths[0];
        let count = self.values.len() / width;
        let engine = &testing::engines()[1];
        let shape = [count, width];
        let sample = models::batch(&[2, width], 2, 1);
        let (shapes, head) = models::opened(&**engine, &graph, &sample);
        let last = LastLayer::of(&graph, &shapes, &head.scores)?;
        let input = Tensor::f32(shape, self.values.clone())?;
        let names = head.features.iter().map(|&id| graph.name(id).to_owned());
        let features =
            FeatureSet::from_memory(names.collect(), vec![input.clone()], self.labels.clone())?;
        let positions: Vec<usize> = (0..count).collect();
        let (check, fit) = positions.split_at(self.check);
        let mut read = 0;
        let fitted = fit_with(
            &Request {
                engine: &**engine,
                graph: &graph,
                shapes: &shapes,
                head: &head,
                last: &last,
                features: &features,
                fit,
                check,
                classes: CLASSES,
                source: Path::new("data"),
            },
            &mut read,
        )?;
        assert_eq!(read, count);
        let (changed, _) = last.replaced(&fitted.weights)?;
        let name = graph.name(head.scores.output);
        assert_eq!(changed.graph.as_ref().unwrap().output[0].name(), name);
        let scores = engine.load(&changed)?.run(&[("x", &input)])?.remove(0);
        let labels = self.labels.as_deref().unwrap_or_default();
        let scores = scores.to_f32();
        let right = scores.chunks_exact(CLASSES).zip(labels);
        let right = right.filter(|(row, label)| top(row.iter().map(|&s| f64::from(s))) == **label);
        Ok((fitted.report, right.count() as f64 / count as f64))
    }
}

fn fit_with(request: &Request<'_>, read: &mut usize) -> Result<Fitted> {
    fit(request, &mut |samples| {
        *read += samples;
        Ok(())
    })
}

#[test]
fn the_new_layer_tells_the_classes_of_the_data_apart() {
    let cases = [
        // on the features themselves, and behind a hidden layer
        (Setting::new(&[6, 4], "", 400), Form::Primal, 0.7),
        (Setting::new(&[6, 24, 4], "Softmax", 400), Form::Primal, 0.7),
        (Setting::new(&[6, 24, 4], "Sigmoid", 400), Form::Primal, 0.7),
        (
            Setting::new(&[6, 24, 4], "LogSoftmax", 400),
            Form::Primal,
            0.7,
        ),
        // fewer samples than the last layer reads values
        (Setting::new(&[6, 64, 4], "", 50), Form::Dual, 0.8),
    ];
    for (setting, form, least) in cases {
        let (report, accuracy) = setting.run().unwrap();
        let what = format!(
            "{:?} {}: {accuracy} {report:?}",
            setting.widths, setting.ending
        );
        assert_eq!(report.form, form, "{what}");
        assert!(accuracy >= least, "{what}");
        let choice = report.choice.unwrap();
        // Better than telling nothing.
        let sigmoid = setting.ending == "Sigmoid";
        let nothing = if sigmoid {
            3.0 * 2.0_f64.ln()
        } else {
            3.0_f64.ln()
        };
        assert!(choice.cross_entropy < 0.8 * nothing, "{what}");
        assert_eq!(choice.samples, setting.check, "{what}");
    }
}

#[test]
fn without_samples_to_choose_on_the_usual_ridge_is_taken() {
    let mut setting = Setting::new(&[6, 4], "", 100);
    setting.check = 0;
    let (report, accuracy) = setting.run().unwrap();
    assert_eq!((report.choice, report.ridge), (None, USUAL_RIDGE));
    assert!(accuracy > 0.7, "{accuracy}");
}

#[test]
fn samples_that_no_layer_can_be_fitted_to_are_refused() {
    let setting = || Setting::new(&[6, 4], "", 100);
    let with_labels = |labels: Option<Vec<usize>>| Setting {
        labels,
        ..setting()
    };
    let with_values = |values: Vec<f32>| Setting {
        values,
        ..setting()
    };
    let mut infinite = setting().values;
    infinite[77] = f32::INFINITY;
    let cases = [
        (with_labels(None), "data: has no labels"),
        (with_labels(Some(vec![3; 100])), "the label 3"),
        (with_labels(Some([0, 1].repeat(50))), "none of class 2"),
        (
            Setting {
                values: vec![0.5; 6],
                labels: Some(vec![0]),
                check: 0,
                ..setting()
            },
            "too few",
        ),
        (
            with_values(vec![0.25; 600]),
            "all samples give the last layer the same values",
        ),
        (with_values(infinite), "is NaN or infinite"),
    ];
    for (setting, words) in cases {
        let error = setting.run().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
