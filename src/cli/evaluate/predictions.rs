//! What a model says to each example, as arrays.

use std::path::Path;

use anyhow::{Context, Result};

use crate::{
    cli::model::Loaded,
    compute::{Device, read},
    data::{NpzValues, write_npz},
    evaluation::{Evaluation, ExampleResult},
    nn::Mode,
};

/// Writes what the model says to each example: for the natural images all of it, under the attacks its answer.
pub(super) fn predictions(
    path: &Path,
    evaluation: &Evaluation,
    loaded: &Loaded,
    at_once: usize,
    device: &Device,
) -> Result<()> {
    let (n, classes) = (loaded.dataset.len(), loaded.model.classes());
    let mut logits: Vec<f32> = Vec::with_capacity(n * classes);
    let positions: Vec<usize> = (0..n).collect();
    for part in positions.chunks(at_once) {
        let batch = loaded.dataset.batch(part, device);
        logits.extend(read(loaded.model.forward(batch.images, Mode::Eval))?);
    }
    let probabilities: Vec<f32> = logits.chunks(classes).flat_map(softmax).collect();
    let of = |value: fn(&ExampleResult) -> usize| -> Vec<i64> {
        evaluation
            .examples
            .iter()
            .map(|example| value(example) as i64)
            .collect()
    };
    let (index, label) = (of(|example| example.index), of(|example| example.label));
    let answers: Vec<(String, Vec<i64>)> = evaluation
        .attacks
        .iter()
        .enumerate()
        .map(|(place, attack)| {
            let answers = evaluation.examples.iter();
            let answers = answers.map(|example| example.attacks[place].prediction as i64);
            (
                format!("prediction {}", attack.name.replace('/', " ")),
                answers.collect(),
            )
        })
        .collect();
    let (rows, table) = ([n], [n, classes]);
    let mut arrays: Vec<(&str, &[usize], NpzValues)> = vec![
        ("index", &rows, NpzValues::I64(&index)),
        ("label", &rows, NpzValues::I64(&label)),
        ("logits", &table, NpzValues::F32(&logits)),
        ("probabilities", &table, NpzValues::F32(&probabilities)),
    ];
    arrays.extend(
        answers
            .iter()
            .map(|(name, values)| (name.as_str(), &rows[..], NpzValues::I64(values))),
    );
    write_npz(path, &arrays).with_context(|| format!("the predictions cannot be written: {}", path.display()))
}

/// exp(z_k − max z) / Σ exp(z_j − max z), in double precision.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|z| f64::from(z - highest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| (power / total) as f32).collect()
}
