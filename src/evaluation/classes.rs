//! An evaluation class by class: where it stands, and what its images are taken for.

use super::Evaluation;

/// One class of an evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassResult {
    /// The class.
    pub class: usize,
    /// Its examples.
    pub n: usize,
    /// Of these, the ones that stand under each attack, in the order of [`Evaluation::attacks`].
    pub standing: Vec<usize>,
    /// Of these, the ones that withstood every attack.
    pub worst_case: usize,
    /// What its examples are taken for under each attack: how many for each class.
    pub answers: Vec<Vec<usize>>,
}

impl ClassResult {
    /// The wrong class that its examples are most often taken for under an attack, the first of equals; none where none is wrong.
    pub fn taken_for(&self, attack: usize) -> Option<(usize, usize)> {
        let answers = self.answers.get(attack)?.iter().copied().enumerate();
        let wrong = answers.filter(|(class, count)| *class != self.class && *count > 0);
        wrong.reduce(|most, next| if next.1 > most.1 { next } else { most })
    }
}

impl Evaluation {
    /// Each of so many classes; a row of `answers` of each is the confusion table under an attack.
    pub fn by_class(&self, classes: usize) -> Vec<ClassResult> {
        let empty = |class| ClassResult {
            class,
            n: 0,
            standing: vec![0; self.attacks.len()],
            worst_case: 0,
            answers: vec![vec![0; classes]; self.attacks.len()],
        };
        let mut found: Vec<ClassResult> = (0..classes).map(empty).collect();
        for example in &self.examples {
            let Some(class) = found.get_mut(example.label) else {
                continue;
            };
            class.n += 1;
            class.worst_case += usize::from(example.robust);
            for (attack, outcome) in example.attacks.iter().enumerate() {
                class.standing[attack] += usize::from(outcome.robust);
                if let Some(count) = class.answers[attack].get_mut(outcome.prediction) {
                    *count += 1;
                }
            }
        }
        found
    }
}
