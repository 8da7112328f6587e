//! Two evaluations side by side, and what of their difference is more than chance.

use crate::evaluation::{Evaluation, ExampleResult, Interval, Standing};

/// What the figure over all attacks is called.
const WORST_CASE: &str = "worst-case";

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
    /// Whether the interval knows of each image how it fared with both.
    pub paired: bool,
}

impl Difference {
    /// What two evaluations of the same images say under one attack, or in the `worst-case`: [`Self::paired`] where both
    /// kept each image's fate, else [`Self::independent`]. `None` where one of them lacks the attack.
    pub fn under(name: &str, first: &Evaluation, second: &Evaluation) -> Option<Self> {
        let (a, b) = (standing(first, name)?, standing(second, name)?);
        let pairs = fates(first, name).zip(fates(second, name));
        let pairs = pairs.filter(|(a, b)| a.iter().map(|(index, _)| index).eq(b.iter().map(|(index, _)| index)));
        Some(match pairs {
            Some((a, b)) => Self::paired(name, a.iter().zip(&b).map(|((_, a), (_, b))| (*a, *b))),
            None => Self::independent(name, a, b),
        })
    }

    /// `second − first` of shares of different images, with the interval `d − √((p₂−l₂)² + (u₁−p₁)²)` to
    /// `d + √((u₂−p₂)² + (p₁−l₁)²)`, where `l` and `u` are the ends of each figure's own interval.
    ///
    /// Of the same images it is rather too wide than too narrow, as their fates with two models go together.
    ///
    /// # Source
    /// Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
    pub fn independent(name: &str, first: Standing, second: Standing) -> Self {
        Self::correlated(name, first, second, 0.0)
    }

    /// `second − first` of the same images, each with its fate in the first and in the second: as
    /// [`Self::independent`] with `−2φ` times the product of the two parts under each root. With `a` images right in
    /// both, `b` and `c` in one only and `d` in none of n, φ = `(ad − bc) / √((a+b)(c+d)(a+c)(b+d))`, from whose
    /// numerator, where it is positive, n/2 is taken, down to 0 at most; φ = 0 where the root is 0.
    ///
    /// # Source
    /// Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired
    /// data", method 10.
    pub fn paired(name: &str, pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = [[0_usize; 2]; 2];
        for (first, second) in pairs {
            counts[usize::from(first)][usize::from(second)] += 1;
        }
        let [[neither, only_second], [only_first, both]] = counts;
        let (first, second) = (both + only_first, both + only_second);
        let n = first + only_second + neither;
        let product = |counts: [usize; 2]| counts[0] as f64 * counts[1] as f64;
        let covaries = product([both, neither]) - product([only_first, only_second]);
        let scale = product([first, n - first]) * product([second, n - second]);
        let correlation = match covaries {
            _ if scale == 0.0 => 0.0,
            positive if positive > 0.0 => (positive - n as f64 / 2.0).max(0.0) / scale.sqrt(),
            negative => negative / scale.sqrt(),
        };
        let (first, second) = (Standing::of(first, n), Standing::of(second, n));
        Self {
            paired: true,
            ..Self::correlated(name, first, second, correlation)
        }
    }

    fn correlated(name: &str, first: Standing, second: Standing, correlation: f64) -> Self {
        let value = second.accuracy - first.accuracy;
        let add = |a: f64, b: f64| (a * a + b * b - 2.0 * correlation * a * b).max(0.0).sqrt();
        let down = add(
            second.accuracy - second.interval.low,
            first.interval.high - first.accuracy,
        );
        let up = add(
            second.interval.high - second.accuracy,
            first.accuracy - first.interval.low,
        );
        let interval = Interval {
            low: (value - down).max(-1.0),
            high: (value + up).min(1.0),
        };
        Self {
            paired: false,
            name: name.to_string(),
            first,
            second,
            value,
            interval,
        }
    }

    /// Whether the difference is larger than its interval: 0 is not in it, to the tenth of a point that is shown.
    pub fn is_clear(&self) -> bool {
        const TENTH: f64 = 0.001;
        self.interval.low >= TENTH / 2.0 || self.interval.high <= -TENTH / 2.0
    }
}

/// In percentage points with the interval in brackets: `+6.0 (+1.9 to +10.2)`.
impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = (signed(self.interval.low), signed(self.interval.high));
        write!(f, "{} ({low} to {high})", signed(self.value))
    }
}

/// The figure under an attack, or in the worst case.
fn standing(evaluation: &Evaluation, name: &str) -> Option<Standing> {
    if name == WORST_CASE {
        return Some(evaluation.worst_case);
    }
    Some(evaluation.attack(name)?.standing)
}

/// Each image's index and whether it is classified correctly under an attack, where the evaluation kept that.
fn fates(evaluation: &Evaluation, name: &str) -> Option<Vec<(usize, bool)>> {
    if evaluation.examples.len() != evaluation.n {
        return None;
    }
    let place = evaluation.attacks.iter().position(|attack| attack.name == name);
    let fate = |example: &ExampleResult| {
        let robust = match name {
            WORST_CASE => example.robust,
            _ => example.attacks.get(place?)?.robust,
        };
        Some((example.index, robust))
    };
    evaluation.examples.iter().map(fate).collect()
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
    let names = first.attacks.iter().map(|attack| attack.name.as_str());
    names
        .chain([WORST_CASE])
        .filter_map(|name| Difference::under(name, first, second))
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
        WORST_CASE => "in the worst case".into(),
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
            let difference = Difference::independent("pgd-20", standing(b, n), standing(a, m));
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
    fn paired_intervals_agree_with_published_ones() {
        let pairs = |[both, first, second, neither]: [usize; 4]| {
            let repeated = |pair, count| std::iter::repeat_n(pair, count);
            repeated((true, true), both)
                .chain(repeated((false, true), second))
                .chain(repeated((true, false), first))
                .chain(repeated((false, false), neither))
        };
        for (counts, low, high, digits) in [
            // Altman, Machin, Bryant, Gardner: Statistics with Confidence, 2nd edition, page 52.
            ([14, 0, 5, 22], 0.011, 0.226, 1e-3),
            // Fagerland, Lydersen, Laake: Statistical Analysis of Contingency Tables, chapter 8 (Cavo 2012, Bentur 2009).
            ([59, 16, 6, 80], -0.1186, -0.0046, 1e-4),
            ([1, 7, 1, 12], -0.507, -0.026, 1e-3),
        ] {
            let found = Difference::paired("pgd-20", pairs(counts)).interval;
            assert!((found.low - low).abs() < digits, "{counts:?}: {found:?}");
            assert!((found.high - high).abs() < digits, "{counts:?}: {found:?}");
        }
        // What goes together is told apart with fewer images; what does not is as if of different images.
        let together = Difference::paired("pgd-20", pairs([240, 9, 18, 33]));
        let apart = Difference::independent("pgd-20", together.first, together.second);
        assert!(together.interval.half_width() < 0.7 * apart.interval.half_width());
        let none = Difference::paired("pgd-20", pairs([300, 0, 0, 0]));
        let as_none = Difference::independent("pgd-20", none.first, none.second);
        assert_eq!(none.interval, as_none.interval);
    }

    #[test]
    fn only_differences_beyond_their_interval_are_clear() {
        assert!(!Difference::independent("fgsm", standing(150, 300), standing(160, 300)).is_clear());
        assert!(Difference::independent("fgsm", standing(150, 300), standing(190, 300)).is_clear());
        assert!(Difference::independent("fgsm", standing(190, 300), standing(150, 300)).is_clear());
        assert!(!Difference::independent("fgsm", standing(300, 300), standing(300, 300)).is_clear());
    }

    #[test]
    fn signs_are_said() {
        assert_eq!(signed(0.043), "+4.3");
        assert_eq!(signed(-0.0432), "−4.3");
        assert_eq!(signed(-0.0001), "+0.0");
    }
}
