//! What training a head did.

use super::{left_out::left_out, numbers::count, prune::new_layer, table};
use crate::{
    finetune::{Epoch, Stopped},
    pipeline::{FinetuneReport, TrainingReport},
};

/// One line per epoch, then the figures on held-out samples.
pub fn finetuned(report: &FinetuneReport) -> String {
    let mut blocks: Vec<String> = report.transfer.iter().map(new_layer).collect();
    blocks.extend(left_out(&report.data));
    blocks.push(epochs(&report.training));
    if let Some(accuracy) = &report.accuracy {
        blocks.push(format!(
            "accuracy on {} held-out samples: {:.2} % before, {:.2} % after ({:+.2})",
            count(accuracy.samples),
            accuracy.before,
            accuracy.after,
            accuracy.after - accuracy.before
        ));
    }
    blocks.push(format!(
        "agreement: the same top class as before on {:.2} % of {} samples",
        report.agreement.share,
        count(report.agreement.samples)
    ));
    blocks.push(if report.passed {
        format!("wrote {}", report.output.path.display())
    } else {
        "no epoch was completed, so nothing was written".to_owned()
    });
    blocks.join("\n\n")
}

/// The course of a training run, and how it ended.
pub(super) fn epochs(training: &TrainingReport) -> String {
    let header = [
        "epoch",
        "loss",
        "accuracy",
        "validation loss",
        "accuracy",
        "",
    ];
    let rows = training.history.iter();
    let rows = rows.map(|epoch| row(epoch, epoch.epoch == training.best));
    let ended = match &training.stopped {
        Stopped::Finished => String::new(),
        Stopped::Patience => "; ended early, since nothing got better".to_owned(),
        Stopped::NotFinite { epoch, step, what } => {
            format!("; ended at step {step} of epoch {epoch}, where {what} was no number")
        }
    };
    format!(
        "{}\n\ntrained on {} samples, {} steps of {}, {}{ended}",
        table::numbers(&header, rows.collect()),
        count(training.samples),
        count(usize::try_from(training.steps).unwrap_or(usize::MAX)),
        count(training.batch),
        match (training.training.distill, &training.teacher) {
            (true, Some(_)) => "towards the teacher's scores",
            (true, None) => "towards the original's scores",
            (false, _) => "towards labels",
        },
    )
}

fn row(epoch: &Epoch, is_best: bool) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
    let percent =
        |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2} %"));
    vec![
        if epoch.epoch == 0 {
            "start".to_owned()
        } else {
            epoch.epoch.to_string()
        },
        number(epoch.loss),
        percent(epoch.accuracy),
        number(epoch.validation_loss),
        percent(epoch.validation_accuracy),
        if is_best { "best" } else { "" }.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{finetune::Loss, pipeline::Training};

    #[test]
    fn a_run_reads_as_a_table() {
        let epoch = |epoch, loss: Option<f64>, validation| Epoch {
            epoch,
            loss,
            accuracy: loss.map(|_| 91.5),
            validation_loss: Some(validation),
            validation_accuracy: Some(90.0),
        };
        let training = TrainingReport {
            training: Training::default(),
            teacher: None,
            loss: Loss::CrossEntropy,
            samples: 54_000,
            validation_samples: 2_000,
            batch: 128,
            history: vec![epoch(0, None, 0.5), epoch(1, Some(0.25), 0.3)],
            best: 1,
            steps: 1234,
            stopped: Stopped::NotFinite {
                epoch: 2,
                step: 1234,
                what: "the loss".to_owned(),
            },
            notes: Vec::new(),
        };
        insta::assert_snapshot!(epochs(&training), @"
        epoch    loss  accuracy  validation loss  accuracy
        start                             0.5000   90.00 %
        1      0.2500   91.50 %           0.3000   90.00 %  best

        trained on 54,000 samples, 1,234 steps of 128, towards labels; ended at step 1234 of epoch 2, where the loss was no number
        ");
    }
}
