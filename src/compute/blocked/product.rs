//! The two products that every convolution is made of, in tiles that fill the registers.

use crate::compute::vector::{Block, LANES, Simd};

/// Blocks of inputs whose terms are added up in one chain before they join the total. Rounding grows with the length of
/// a chain: 128 terms round as little as PyTorch's do.
const CHAIN: usize = 8;

/// Rows times weights: `result[o][r] = Σ_k Σ_c rows[k][r][c] · weights[k][c][o]`.
///
/// `rows` holds `depth` panels of `count` blocks; `weights` holds `depth·16` groups of `outputs` (1 or 2) blocks;
/// `result` holds `outputs` panels of `count` blocks.
#[inline(always)]
pub fn multiply<S: Simd>(
    simd: S,
    (rows, count): (&[Block], usize),
    depth: usize,
    (weights, outputs): (&[Block], usize),
    result: &mut [Block],
) {
    assert!(rows.len() >= depth * count && weights.len() >= depth * LANES * outputs);
    assert!(result.len() >= outputs * count && (1..=2).contains(&outputs));
    let mut begun = 0;
    while begun < depth || begun == 0 {
        let chain = CHAIN.min(depth - begun);
        let mut first = 0;
        // Tiles as even as can be: 16 rows are 8 and 8, not 12 and 4.
        let tiles = count.div_ceil(S::ROWS);
        for tile in 0..tiles {
            let height = (count - first).div_ceil(tiles - tile);
            let place = Place {
                rows: &rows[begun * count..],
                count,
                first,
                depth: chain,
                weights: &weights[begun * LANES * outputs..],
                outputs,
                adds: begun > 0,
            };
            if S::BLOCKS == 2 && outputs == 2 {
                any_height::<S, 2>(simd, &place, height, 0, result);
            } else {
                for output in 0..outputs {
                    any_height::<S, 1>(simd, &place, height, output, result);
                }
            }
            first += height;
        }
        begun += chain.max(1);
    }
}

/// One tile of rows and what it is multiplied with.
struct Place<'a> {
    rows: &'a [Block],
    count: usize,
    first: usize,
    depth: usize,
    weights: &'a [Block],
    outputs: usize,
    adds: bool,
}

#[inline(always)]
fn any_height<S: Simd, const B: usize>(simd: S, place: &Place, height: usize, output: usize, result: &mut [Block]) {
    match height {
        1 => tile::<S, 1, B>(simd, place, output, result),
        2 => tile::<S, 2, B>(simd, place, output, result),
        3 => tile::<S, 3, B>(simd, place, output, result),
        4 => tile::<S, 4, B>(simd, place, output, result),
        5 => tile::<S, 5, B>(simd, place, output, result),
        6 => tile::<S, 6, B>(simd, place, output, result),
        7 => tile::<S, 7, B>(simd, place, output, result),
        8 => tile::<S, 8, B>(simd, place, output, result),
        9 => tile::<S, 9, B>(simd, place, output, result),
        10 => tile::<S, 10, B>(simd, place, output, result),
        11 => tile::<S, 11, B>(simd, place, output, result),
        12 => tile::<S, 12, B>(simd, place, output, result),
        _ => unreachable!("a tile has at most {} rows", S::ROWS),
    }
}

#[inline(always)]
fn tile<S: Simd, const R: usize, const B: usize>(simd: S, place: &Place, output: usize, result: &mut [Block]) {
    let &Place {
        rows,
        count,
        first,
        depth,
        weights,
        outputs,
        adds,
    } = place;
    assert!(output + B <= outputs && first + R <= count && result.len() >= outputs * count);
    assert!(rows.len() >= depth * count && weights.len() >= depth * LANES * outputs);
    let mut sums = [[simd.splat(0.0); B]; R];
    for k in 0..depth {
        // SAFETY: k < depth and first + R ≤ count, so the rows lie inside as asserted.
        let panel = unsafe { rows.get_unchecked(k * count + first..k * count + first + R) };
        for c in 0..LANES {
            let mut factors = [simd.splat(0.0); B];
            for (b, factor) in factors.iter_mut().enumerate() {
                // SAFETY: k·16 + c < depth·16 and output + b < outputs, inside as asserted.
                *factor = simd.load(unsafe { weights.get_unchecked((k * LANES + c) * outputs + output + b) });
            }
            for r in 0..R {
                // SAFETY: r < R, the panel's length; c < 16.
                let value = simd.splat(unsafe { *panel.get_unchecked(r).0.get_unchecked(c) });
                for b in 0..B {
                    sums[r][b] = simd.mul_add(value, factors[b], sums[r][b]);
                }
            }
        }
    }
    for b in 0..B {
        let target = &mut result[(output + b) * count + first..][..R];
        for r in 0..R {
            let total = if adds {
                simd.add(simd.load(&target[r]), sums[r][b])
            } else {
                sums[r][b]
            };
            simd.store(&mut target[r], total);
        }
    }
}

/// Sums of outer products: `sums[k][c][o] += Σ_r rows[k][r][c] · gradients[o][r]`, the sum over the rows taken by itself
/// before it joins.
///
/// `rows` holds `depth` panels of `count` blocks, `gradients` `outputs` (1 or 2) panels of `count` blocks, `sums`
/// `depth·16` groups of `outputs` blocks.
#[inline(always)]
pub fn add_outer<S: Simd>(
    simd: S,
    (rows, count): (&[Block], usize),
    depth: usize,
    (gradients, outputs): (&[Block], usize),
    sums: &mut [Block],
) {
    assert!(rows.len() >= depth * count && gradients.len() >= outputs * count);
    assert!(sums.len() >= depth * LANES * outputs && (1..=2).contains(&outputs));
    for k in 0..depth {
        let panel = &rows[k * count..][..count];
        let sums = &mut sums[k * LANES * outputs..][..LANES * outputs];
        let mut first = 0;
        while first < LANES {
            if S::BLOCKS == 2 && outputs == 2 {
                outer_tile::<S, 2>(simd, panel, first, (gradients, 0, outputs), sums);
            } else {
                for output in 0..outputs {
                    outer_tile::<S, 1>(simd, panel, first, (gradients, output, outputs), sums);
                }
            }
            first += S::OUTER_ROWS;
        }
    }
}

#[inline(always)]
fn outer_tile<S: Simd, const B: usize>(
    simd: S,
    panel: &[Block],
    first: usize,
    operand: (&[Block], usize, usize),
    sums: &mut [Block],
) {
    match S::OUTER_ROWS {
        8 => outer_tile_of::<S, 8, B>(simd, panel, first, operand, sums),
        4 => outer_tile_of::<S, 4, B>(simd, panel, first, operand, sums),
        2 => outer_tile_of::<S, 2, B>(simd, panel, first, operand, sums),
        _ => outer_tile_of::<S, 1, B>(simd, panel, first, operand, sums),
    }
}

#[inline(always)]
fn outer_tile_of<S: Simd, const R: usize, const B: usize>(
    simd: S,
    panel: &[Block],
    first: usize,
    (gradients, output, outputs): (&[Block], usize, usize),
    sums: &mut [Block],
) {
    let count = panel.len();
    assert!(output + B <= outputs && gradients.len() >= outputs * count && first + R <= LANES);
    let mut totals = [[simd.splat(0.0); B]; R];
    for row in 0..count {
        let mut factors = [simd.splat(0.0); B];
        for (b, factor) in factors.iter_mut().enumerate() {
            // SAFETY: output + b < outputs and row < count, inside as asserted.
            *factor = simd.load(unsafe { gradients.get_unchecked((output + b) * count + row) });
        }
        // SAFETY: row < count, the panel's length.
        let values = unsafe { panel.get_unchecked(row) };
        for r in 0..R {
            // SAFETY: first + r < 16 as asserted.
            let value = simd.splat(unsafe { *values.0.get_unchecked(first + r) });
            for b in 0..B {
                totals[r][b] = simd.mul_add(value, factors[b], totals[r][b]);
            }
        }
    }
    for r in 0..R {
        for b in 0..B {
            let sum = &mut sums[(first + r) * outputs + output + b];
            let total = simd.add(simd.load(sum), totals[r][b]);
            simd.store(sum, total);
        }
    }
}
