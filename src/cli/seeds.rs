//! Several runs of one recipe: each one's figures, their mean and their standard deviation.

use super::terminal::table;
use crate::wording::percent;

/// What one run reached: accuracies in `0..=1` by attack.
pub struct Sample {
    /// The run's name.
    pub name: String,
    /// Attack and accuracy, in the order in which they stand in a table.
    pub accuracy: Vec<(String, f64)>,
}

/// Mean and sample standard deviation, `√(Σ(x − x̄)²/(n − 1))`; no deviation for fewer than two values.
pub fn mean_and_deviation(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

/// Each attack that all samples have, with its values.
pub fn columns(samples: &[Sample]) -> Vec<(&str, Vec<f64>)> {
    let Some(first) = samples.first() else {
        return Vec::new();
    };
    let of = |sample: &Sample, attack: &str| {
        sample
            .accuracy
            .iter()
            .find(|(name, _)| name == attack)
            .map(|(_, value)| *value)
    };
    let names = first.accuracy.iter().map(|(name, _)| name.as_str());
    names
        .filter_map(|name| {
            let values: Option<Vec<f64>> = samples.iter().map(|sample| of(sample, name)).collect();
            Some((name, values?))
        })
        .collect()
}

/// A row for each run, and `mean ± standard deviation` below them.
pub fn summary(samples: &[Sample]) -> String {
    let columns = columns(samples);
    let names = columns.iter().map(|(name, _)| (*name).to_string());
    let mut rows = vec![[String::new()].into_iter().chain(names).collect::<Vec<_>>()];
    for (place, sample) in samples.iter().enumerate() {
        let values = columns.iter().map(|(_, values)| percent(values[place]));
        rows.push([sample.name.clone()].into_iter().chain(values).collect());
    }
    let means = columns.iter().map(|(_, values)| match mean_and_deviation(values) {
        (mean, Some(deviation)) => format!("{} ± {:.1}", percent(mean), deviation * 100.0),
        (mean, None) => percent(mean),
    });
    rows.push(
        [format!("mean ± standard deviation, {} runs", samples.len())]
            .into_iter()
            .chain(means)
            .collect(),
    );
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, natural: f64, pgd: f64) -> Sample {
        Sample {
            name: name.into(),
            accuracy: vec![("natural".into(), natural), ("pgd-20".into(), pgd)],
        }
    }

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        // numpy.std([0.7, 0.72, 0.77], ddof=1)
        let (mean, deviation) = mean_and_deviation(&[0.7, 0.72, 0.77]);
        assert!((mean - 0.73).abs() < 1e-12);
        assert!((deviation.unwrap() - 0.036_055_512_754_639_9).abs() < 1e-12);
        assert_eq!(mean_and_deviation(&[0.5]), (0.5, None));
    }

    #[test]
    fn a_table_has_each_run_and_their_mean() {
        let text = summary(&[sample("a-seed-1", 0.9, 0.5), sample("a-seed-2", 0.8, 0.6)]);
        assert!(text.contains("a-seed-1") && text.contains("90.0 %"), "{text}");
        assert!(text.contains("85.0 % ± 7.1") && text.contains("55.0 % ± 7.1"), "{text}");
    }

    #[test]
    fn an_attack_that_one_run_lacks_has_no_mean() {
        let short = Sample {
            name: "b".into(),
            accuracy: vec![("natural".into(), 0.5)],
        };
        let both = [sample("a", 0.9, 0.5), short];
        assert_eq!(columns(&both).len(), 1);
    }
}
