//! A curve that stays fluid with 100,000 points: drawn from means of its extremes, never from all of it.

/// Points of one level that make one of the next.
const STEP: usize = 2;

/// A growing curve, its x never falling.
#[derive(Debug, Clone, Default)]
pub struct Series {
    points: Vec<[f64; 2]>,
    /// Level k holds, for each whole group of `STEP^(k+1)` points, the lowest and the highest in the order they came.
    levels: Vec<Vec<[[f64; 2]; 2]>>,
}

impl Series {
    /// Adds a point; one that is not a number is left out, and one that was read from the run's folder already.
    pub fn push(&mut self, x: f64, y: f64) {
        let known = self.points.last().is_some_and(|last| x <= last[0]);
        if known || !(x.is_finite() && y.is_finite()) {
            return;
        }
        self.points.push([x, y]);
        let mut made = self.points.len();
        let mut level = 0;
        while made.is_multiple_of(STEP) {
            let pair = match level {
                0 => extremes(self.points[self.points.len() - STEP..].iter().copied()),
                _ => {
                    let below = &self.levels[level - 1];
                    extremes(below[below.len() - STEP..].iter().flatten().copied())
                }
            };
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(pair);
            made /= STEP;
            level += 1;
        }
    }

    /// All points.
    pub fn points(&self) -> &[[f64; 2]] {
        &self.points
    }

    /// At most some four points for each of `pixels` columns of `low..=high`, every extreme among them.
    pub fn visible(&self, low: f64, high: f64, pixels: usize) -> Vec<[f64; 2]> {
        let begin = self.points.partition_point(|point| point[0] < low).saturating_sub(1);
        let end = (self.points.partition_point(|point| point[0] <= high) + 1).min(self.points.len());
        let budget = 4 * pixels.max(16);
        if end - begin <= budget {
            return self.points[begin..end].to_vec();
        }
        let mut level = 0;
        let mut group = STEP;
        while 2 * (end - begin) / group > budget && level + 1 < self.levels.len() {
            level += 1;
            group *= STEP;
        }
        let pairs = &self.levels[level];
        let (first, last) = (begin / group, (end / group).min(pairs.len()));
        let mut shown: Vec<[f64; 2]> = pairs[first..last].iter().flatten().copied().collect();
        shown.extend_from_slice(&self.points[(last * group).max(begin)..end]);
        shown
    }

    /// The exponential moving average with weight `smoothing` on the past, in `[0, 1)`, corrected for its start.
    pub fn smoothed(&self, smoothing: f64) -> Series {
        let mut smooth = Series::default();
        let (mut sum, mut weight) = (0.0, 0.0);
        for [x, y] in &self.points {
            sum = smoothing * sum + (1.0 - smoothing) * y;
            weight = smoothing * weight + (1.0 - smoothing);
            smooth.push(*x, sum / weight);
        }
        smooth
    }
}

/// The lowest and the highest of some points, in the order of their x.
fn extremes(points: impl Iterator<Item = [f64; 2]> + Clone) -> [[f64; 2]; 2] {
    let by_height = |a: &[f64; 2], b: &[f64; 2]| a[1].total_cmp(&b[1]);
    let low = points.clone().min_by(by_height).unwrap_or_default();
    let high = points.max_by(by_height).unwrap_or_default();
    if low[0] <= high[0] { [low, high] } else { [high, low] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_is_drawn_from_few_points_and_keeps_every_extreme() {
        let mut series = Series::default();
        for step in 0..100_000 {
            let spike = match step {
                34_567 => 50.0,
                71_003 => -50.0,
                _ => 0.0,
            };
            series.push(f64::from(step), (f64::from(step) / 900.0).sin() + spike);
        }
        let shown = series.visible(0.0, 100_000.0, 800);
        assert!(shown.len() < 4_000, "{} points", shown.len());
        assert!(shown.iter().any(|point| point[1] > 49.0), "the peak is lost");
        assert!(shown.iter().any(|point| point[1] < -49.0), "the trough is lost");
        assert!(shown.is_sorted_by(|a, b| a[0] <= b[0]), "the curve runs backwards");
        assert_eq!(shown.last().unwrap()[0], 99_999.0, "the newest point is missing");
        let near = series.visible(34_500.0, 34_600.0, 800);
        assert!(
            near.len() >= 100 && near.len() < 110,
            "every point shows where there is room"
        );
    }

    #[test]
    fn smoothing_starts_at_the_first_value_and_follows() {
        let mut series = Series::default();
        for step in 0..200 {
            series.push(f64::from(step), if step < 100 { 1.0 } else { 3.0 });
        }
        let smooth = series.smoothed(0.9);
        assert_eq!(smooth.points()[0][1], 1.0);
        assert!((smooth.points()[99][1] - 1.0).abs() < 1e-9);
        assert!((smooth.points().last().unwrap()[1] - 3.0).abs() < 1e-3);
    }
}
