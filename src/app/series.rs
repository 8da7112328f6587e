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

    /// The point whose x lies nearest to `x`; none of an empty curve.
    pub fn nearest(&self, x: f64) -> Option<[f64; 2]> {
        let after = self.points.partition_point(|point| point[0] < x);
        let around = self.points[after.saturating_sub(1)..].iter().take(2);
        around
            .min_by(|a, b| (a[0] - x).abs().total_cmp(&(b[0] - x).abs()))
            .copied()
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
        let mut shown = Vec::new();
        let mut done = begin / group * group;
        // What is left of a whole group comes from the finer levels.
        for pairs in self.levels[..=level].iter().rev() {
            let last = (end / group).min(pairs.len());
            shown.extend(pairs[done / group..last].iter().flatten());
            done = last * group;
            group /= STEP;
        }
        shown.extend_from_slice(&self.points[done.max(begin)..end]);
        // The end of the curve shows, extreme or not.
        let newest = self.points[end - 1];
        if shown.last() != Some(&newest) {
            shown.push(newest);
        }
        shown
    }

    /// As [`Series::visible`], with a few points of what lies on either side, so that a plot still knows how far the
    /// curve goes.
    pub fn zoomed(&self, low: f64, high: f64, pixels: usize) -> Vec<[f64; 2]> {
        const ASIDE: usize = 16;
        let mut shown = self.visible(f64::NEG_INFINITY, low, ASIDE);
        shown.retain(|point| point[0] < low);
        shown.extend(self.visible(low, high, pixels).iter().filter(|point| point[0] >= low));
        let end = shown.last().map_or(high, |point| point[0]);
        let after = self.visible(high, f64::INFINITY, ASIDE);
        shown.extend(after.iter().filter(|point| point[0] > end));
        shown
    }
}

/// The exponential moving average of a growing curve with weight `smoothing` on the past, in `[0, 1)`, corrected for its
/// start; each point is averaged once.
#[derive(Debug, Clone, Default)]
pub struct Smoothed {
    smoothing: f64,
    sum: f64,
    weight: f64,
    series: Series,
}

impl Smoothed {
    /// The average of all points so far.
    pub fn of(&mut self, raw: &Series, smoothing: f64) -> &Series {
        let points = raw.points();
        let done = self.series.points.len();
        let goes_on = done.checked_sub(1).is_none_or(|last| {
            let before = points.get(last).map(|point| point[0]);
            before == Some(self.series.points[last][0])
        });
        if self.smoothing != smoothing || !goes_on {
            *self = Self {
                smoothing,
                ..Self::default()
            };
        }
        for [x, y] in &points[self.series.points.len()..] {
            self.sum = smoothing * self.sum + (1.0 - smoothing) * y;
            self.weight = smoothing * self.weight + (1.0 - smoothing);
            self.series.push(*x, self.sum / self.weight);
        }
        &self.series
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
        let mut smoothed = Smoothed::default();
        smoothed.of(&series, 0.5);
        let smooth = smoothed.of(&series, 0.9).clone();
        assert_eq!(smooth.points()[0][1], 1.0);
        assert!((smooth.points()[99][1] - 1.0).abs() < 1e-9);
        assert!((smooth.points().last().unwrap()[1] - 3.0).abs() < 1e-3);
    }

    #[test]
    fn the_nearest_point_is_found_on_either_side() {
        let mut series = Series::default();
        assert_eq!(series.nearest(0.0), None);
        for x in [1.0, 2.0, 4.0] {
            series.push(x, 10.0 * x);
        }
        for (x, nearest) in [(0.0, 1.0), (1.4, 1.0), (1.6, 2.0), (2.9, 2.0), (3.1, 4.0), (9.0, 4.0)] {
            assert_eq!(series.nearest(x), Some([nearest, 10.0 * nearest]), "{x}");
        }
    }

    #[test]
    fn an_average_follows_its_curve_point_by_point() {
        let (mut series, mut following) = (Series::default(), Smoothed::default());
        for step in 0..1_000 {
            series.push(f64::from(step), f64::from(step).sin());
            following.of(&series, 0.9);
        }
        let at_once = Smoothed::default().of(&series, 0.9).points().to_vec();
        assert_eq!(following.of(&series, 0.9).points(), at_once);
        let mut other = Series::default();
        other.push(0.5, 7.0);
        assert_eq!(following.of(&other, 0.9).points(), [[0.5, 7.0]], "another run's curve");
    }

    #[test]
    fn a_box_zoomed_into_shows_every_point_and_how_far_the_curve_goes() {
        let mut series = Series::default();
        for step in 0..100_000 {
            series.push(f64::from(step), f64::from(step % 7));
        }
        let shown = series.zoomed(50_000.0, 50_100.0, 400);
        let inside = shown.iter().filter(|point| (50_000.0..=50_100.0).contains(&point[0]));
        assert_eq!(inside.count(), 101);
        assert!(shown.len() < 400, "{} points", shown.len());
        assert!(shown.is_sorted_by(|a, b| a[0] < b[0]), "a point twice, or backwards");
        let far = series.points().last().unwrap()[0];
        assert!(shown[0][0] < 10_000.0 && shown.last().unwrap()[0] == far);
        let all = series.zoomed(f64::NEG_INFINITY, f64::INFINITY, 400);
        assert_eq!(all, series.visible(f64::NEG_INFINITY, f64::INFINITY, 400));
    }
}
