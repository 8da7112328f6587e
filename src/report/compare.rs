//! Two evaluations side by side, and what of their difference is more than chance.

use crate::evaluation::{Evaluation, Interval, Standing};

/// One figure of two evaluations.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The attack, or `worst-case`.
    pub name: String,
    /// The first evaluation's figure.
    pub first: Standing,
    /// The second evaluation's figure.
    pub second: Standing,
    /// Second minus first, in `[−1, 1]`.
    pub value: f64,
    /// The 95 % interval of the difference.
    pub interval: Interval,
}

impl Difference {
    /// `second − first` with the interval `d − √((p₂−l₂)² + (u₁−p₁)²)` to `d + √((u₂−p₂)² + (p₁−l₁)²)`, where `l` and
    /// `u` are the ends of each figure's own interval.
    ///
    /// It takes the two figures as independent. Those of two models on the same images go up and down together, so that
    /// the interval is rather too wide than too narrow.
    ///
    /// # Source
    /// Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
    pub fn between(name: &str, first: Standing, second: Standing) -> Self {
        let value = second.accuracy - first.accuracy;
        let down = (second.accuracy - second.interval.low).hypot(first.interval.high - first.accuracy);
        let up = (second.interval.high - second.accuracy).hypot(first.accuracy - first.interval.low);
        let interval = Interval {
            low: (value - down).max(-1.0),
            high: (value + up).min(1.0),
        };
        Self {
            name: name.to_string(),
            first,
            second,
            value,
            interval,
        }
    }

    /// Whether the difference is larger than its interval: 0 is not in it.
    pub fn is_clear(&self) -> bool {
        self.interval.low > 0.0 || self.interval.high < 0.0
    }
}

/// Why two evaluations cannot be set side by side; `None` where they can.
pub fn mismatch(first: &Evaluation, second: &Evaluation) -> Option<String> {
    let differ = |what: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display| {
        let (a, b) = (a.to_string(), b.to_string());
        (a != b).then(|| format!("{what} differs: {a} and {b}"))
    };
    let settings = |evaluation: &Evaluation| {
        let attacks = evaluation.attacks.iter().map(|attack| {
            let (name, method, restarts) = (&attack.name, &attack.method, attack.restarts);
            format!("{name} {method:?}, {restarts} starts")
        });
        attacks.collect::<Vec<_>>().join("; ")
    };
    differ("the data", &first.dataset.fingerprint, &second.dataset.fingerprint)
        .or_else(|| differ("N", &first.n, &second.n))
        .or_else(|| differ("the norm", &first.norm, &second.norm))
        .or_else(|| differ("ε", &first.epsilon, &second.epsilon))
        .or_else(|| (settings(first) != settings(second)).then(|| "the attacks differ in their settings".to_string()))
}

/// Every figure of two evaluations that fit together, `worst-case` last; empty where they do not ([`mismatch`]).
pub fn differences(first: &Evaluation, second: &Evaluation) -> Vec<Difference> {
    if mismatch(first, second).is_some() {
        return Vec::new();
    }
    let attacks = first.attacks.iter().zip(&second.attacks);
    attacks
        .map(|(a, b)| Difference::between(&a.name, a.standing, b.standing))
        .chain([Difference::between("worst-case", first.worst_case, second.worst_case)])
        .collect()
}

/// Says in a few sentences which differences are larger than their intervals, whichever way they fall.
pub fn verdict(first: (&str, &Evaluation), second: (&str, &Evaluation)) -> Vec<String> {
    let ((first_name, first), (second_name, second)) = (first, second);
    if let Some(mismatch) = mismatch(first, second) {
        return vec![format!(
            "{first_name} and {second_name} cannot be compared: {mismatch}."
        )];
    }
    let differences = differences(first, second);
    let mut sentences = Vec::new();
    for (ahead, sign) in [(first_name, -1.0), (second_name, 1.0)] {
        let clear = differences
            .iter()
            .filter(|difference| difference.is_clear() && difference.value * sign > 0.0);
        let figures: Vec<String> = clear
            .map(|difference| format!("{} by {}", spoken(&difference.name), points(difference.value.abs())))
            .collect();
        if !figures.is_empty() {
            sentences.push(format!(
                "{ahead} is ahead by more than the 95 % interval of the difference: {}.",
                and(&figures)
            ));
        }
    }
    let unclear: Vec<&Difference> = differences.iter().filter(|difference| !difference.is_clear()).collect();
    if unclear.len() == differences.len() {
        let largest = differences
            .iter()
            .max_by(|a, b| a.value.abs().total_cmp(&b.value.abs()));
        let largest = largest.map(|largest| {
            let ahead = if largest.value < 0.0 { first_name } else { second_name };
            format!(
                " The largest is {} for {ahead} {}.",
                points(largest.value.abs()),
                spoken(&largest.name)
            )
        });
        sentences.push(format!(
            "No difference between {first_name} and {second_name} is larger than its 95 % interval: {} images cannot tell them apart.{}",
            first.n,
            largest.unwrap_or_default()
        ));
    } else if !unclear.is_empty() {
        let names: Vec<String> = unclear.iter().map(|difference| spoken(&difference.name)).collect();
        sentences.push(format!("The differences {} are within their intervals.", and(&names)));
    }
    sentences.push("This is one seed of each: another seed moves the figures too.".to_string());
    sentences
}

fn spoken(name: &str) -> String {
    match name {
        "natural" => "on natural images".into(),
        "worst-case" => "in the worst case".into(),
        attack => format!("under {attack}"),
    }
}

fn points(share: f64) -> String {
    format!("{:.1} points", 100.0 * share)
}

/// A difference of shares in percentage points, with its sign.
pub fn signed(share: f64) -> String {
    let tenths = (1000.0 * share).round() / 10.0;
    if tenths < 0.0 {
        format!("−{:.1}", -tenths)
    } else {
        format!("+{:.1}", tenths.abs())
    }
}

fn and(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [only] => only.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(correct: usize, n: usize) -> Standing {
        Standing {
            accuracy: correct as f64 / n as f64,
            correct,
            interval: Interval::wilson(correct, n),
        }
    }

    #[test]
    fn intervals_of_differences_agree_with_newcombe() {
        // Newcombe 1998, Table II, examples (a), (c) and (e), method 10.
        for ((a, m), (b, n), low, high) in [
            ((56, 70), (48, 80), 0.0524, 0.3339),
            ((5, 56), (0, 29), -0.0381, 0.1926),
            ((10, 10), (0, 20), 0.6791, 1.0),
        ] {
            let difference = Difference::between("pgd-20", standing(b, n), standing(a, m));
            assert!(
                (difference.interval.low - low).abs() < 1e-4,
                "{a}/{m}: {:?}",
                difference.interval
            );
            assert!(
                (difference.interval.high - high).abs() < 1e-4,
                "{a}/{m}: {:?}",
                difference.interval
            );
        }
    }

    #[test]
    fn only_differences_beyond_their_interval_are_clear() {
        assert!(!Difference::between("fgsm", standing(150, 300), standing(160, 300)).is_clear());
        assert!(Difference::between("fgsm", standing(150, 300), standing(190, 300)).is_clear());
        assert!(Difference::between("fgsm", standing(190, 300), standing(150, 300)).is_clear());
        assert!(!Difference::between("fgsm", standing(300, 300), standing(300, 300)).is_clear());
    }

    #[test]
    fn signs_are_said() {
        assert_eq!(signed(0.043), "+4.3");
        assert_eq!(signed(-0.0432), "−4.3");
        assert_eq!(signed(-0.0001), "+0.0");
    }
}
