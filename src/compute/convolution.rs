//! Convolution on the processor, with its gradients.
//!
//! burn's own takes every image through a transposition to channels-last and every weight gradient through a convolution
//! whose kernel is the whole image. Here patches are copied row by row from the images as they lie, and all three passes
//! are products of large matrices. Sums over a patch are added up in short blocks, which halves their rounding: burn's
//! are twice as far from float64 as PyTorch's. `docs/measurements` has the figures.

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, Flex, TensorMetadata,
        autodiff::{
            NodeId,
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        flex::FlexTensor,
        ops::ModuleOps,
        tensor::FloatTensor,
    },
    tensor::{DType, Tensor, TensorData, module::conv2d, ops::ConvOptions},
};
use rayon::prelude::*;

/// Cross-correlation of images with square kernels: `y[o] = Σ_i w[o, i] ⋆ x[i] + b[o]`.
///
/// # Shapes
/// `[N, in, H, W]`, `[out, in, k, k]`, `[out]` → `[N, out, H', W']`.
pub fn convolve(
    images: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    padding: usize,
) -> Tensor<4> {
    let device = images.device().inner();
    if device != burn::tensor::Device::flex() || images.dtype() != DType::F32 {
        return conv2d(images, weight, bias, options(stride, padding));
    }
    let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[0]], &device));
    Tensor::from_dispatch(<Dispatch as Convolve>::convolve(
        images.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        stride,
        padding,
    ))
}

fn options(stride: usize, padding: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [padding; 2], [1, 1], 1)
}

/// The passes of a convolution, as burn dispatches them.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Convolve: Backend {
    fn convolve(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self>;

    fn image_gradient(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_x_backward(images, weight, gradient, options(stride, padding))
    }

    fn weight_gradient(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_weight_backward(images, weight, gradient, options(stride, padding))
    }
}

impl Convolve for Flex {
    fn convolve(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, stride: usize, padding: usize) -> FlexTensor {
        let sizes = Sizes::of(&x, &weight, stride, padding);
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        sizes.forward(x.storage(), weight.storage(), bias.storage())
    }

    fn image_gradient(
        x: FlexTensor,
        weight: FlexTensor,
        gradient: FlexTensor,
        stride: usize,
        padding: usize,
    ) -> FlexTensor {
        let sizes = Sizes::of(&x, &weight, stride, padding);
        if stride != 1 || padding >= sizes.kernel {
            return Self::conv2d_x_backward(x, weight, gradient, options(stride, padding));
        }
        // With stride 1 it is the convolution of the gradient with the kernels turned by half a turn.
        let back = Sizes::of(&gradient, &weight.permute(&[1, 0, 2, 3]), 1, sizes.kernel - 1 - padding);
        let [weight, gradient] = [weight, gradient].map(|tensor| tensor.to_contiguous());
        let turned = sizes.turned(weight.storage());
        back.forward(gradient.storage(), &turned, &vec![0.0; sizes.inputs])
    }

    fn weight_gradient(
        x: FlexTensor,
        weight: FlexTensor,
        gradient: FlexTensor,
        stride: usize,
        padding: usize,
    ) -> FlexTensor {
        let sizes = Sizes::of(&x, &weight, stride, padding);
        let [x, gradient] = [x, gradient].map(|tensor| tensor.to_contiguous());
        sizes.weight_gradient(x.storage(), gradient.storage())
    }
}

/// What the backward pass needs: images, weight, stride, padding.
type State = (NodeId, NodeId, usize, usize);

#[derive(Debug)]
struct Recorded;

impl<B: Convolve> Backward<B, 3> for Recorded {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [images_node, weight_node, bias_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (images, weight, stride, padding) = ops.state;
        let images = checkpointer.retrieve_node_output::<FloatTensor<B>>(images);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        if let Some(node) = images_node {
            let found = B::image_gradient(images.clone(), weight.clone(), gradient.clone(), stride, padding);
            gradients.register::<B>(node.id, found);
        }
        if let Some(node) = bias_node {
            let channels = weight.shape()[0];
            let of_channels = B::float_swap_dims(gradient.clone(), 0, 1);
            let values = of_channels.shape().num_elements() / channels.max(1);
            let rows = B::float_reshape(of_channels, [channels, values].into());
            let found = B::float_reshape(B::float_sum_dim(rows, 1), [channels].into());
            gradients.register::<B>(node.id, found);
        }
        if let Some(node) = weight_node {
            let found = B::weight_gradient(images, weight, gradient, stride, padding);
            gradients.register::<B>(node.id, found);
        }
    }
}

impl<B: Convolve, C: CheckpointStrategy> Convolve for Autodiff<B, C> {
    fn convolve(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let nodes = [images.node(), weight.node(), bias.node()];
        match Recorded.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut preparation) => {
                let state = (
                    preparation.checkpoint(&images),
                    preparation.checkpoint(&weight),
                    stride,
                    padding,
                );
                let [images, weight, bias] = [images, weight, bias].map(|tensor| tensor.into_primitive());
                preparation.finish(state, B::convolve(images, weight, bias, stride, padding))
            }
            OpsKind::UnTracked(preparation) => {
                let [images, weight, bias] = [images, weight, bias].map(|tensor| tensor.into_primitive());
                preparation.finish(B::convolve(images, weight, bias, stride, padding))
            }
        }
    }
}

/// Output positions of one matrix product: enough to keep the processor's multipliers busy, few enough for its cache.
const POSITIONS: usize = 256;
/// Terms added up before their sum joins the total. Rounding grows with the length of a chain.
const CHAIN: usize = 160;
/// Rows of patches whose weight gradient is one task.
const TASK_ROWS: usize = 72;

#[derive(Debug, Clone, Copy)]
struct Sizes {
    examples: usize,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Height and width of the images.
    image: [usize; 2],
    /// Height and width of what comes out.
    result: [usize; 2],
}

/// The output positions of one matrix product: whole images, or whole rows of one.
#[derive(Debug, Clone)]
struct Tile {
    examples: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Sizes {
    fn of(x: &FlexTensor, weight: &FlexTensor, stride: usize, padding: usize) -> Self {
        let ([examples, inputs, height, width], [outputs, _, kernel, _]) = (x.shape().dims(), weight.shape().dims());
        let along = |side: usize| (side + 2 * padding - kernel) / stride + 1;
        Self {
            examples,
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            image: [height, width],
            result: [along(height), along(width)],
        }
    }

    /// Values of a patch.
    fn patch(&self) -> usize {
        self.inputs * self.kernel * self.kernel
    }

    /// Output positions of an image.
    fn positions(&self) -> usize {
        self.result[0] * self.result[1]
    }

    /// Whole images of a tile; 1 where an image has enough positions by itself.
    fn images_per_tile(&self) -> usize {
        let threads = rayon::current_num_threads().max(1);
        (POSITIONS / self.positions().max(1)).clamp(1, self.examples.div_ceil(threads).max(1))
    }

    /// The tiles of some images that lie together.
    fn tiles(&self, examples: std::ops::Range<usize>) -> Vec<Tile> {
        let [height, width] = self.result;
        let rows = if examples.len() > 1 {
            height
        } else {
            (POSITIONS / width.max(1)).clamp(1, height.max(1))
        };
        (0..height)
            .step_by(rows.max(1))
            .map(|first| Tile {
                examples: examples.clone(),
                rows: first..(first + rows).min(height),
            })
            .collect()
    }

    /// Copies the patches at a tile's positions: `[rows of a patch, positions]`.
    fn gather(&self, x: &[f32], patch_rows: std::ops::Range<usize>, tile: &Tile, columns: &mut Vec<f32>) {
        let ([height, width], [_, across]) = (self.image, self.result);
        columns.clear();
        for row in patch_rows {
            let (channel, down, right) = (
                row / (self.kernel * self.kernel),
                row / self.kernel % self.kernel,
                row % self.kernel,
            );
            // The positions whose patches reach into the image here: 0 ≤ position·stride + right − padding < width.
            let first = self.padding.saturating_sub(right).div_ceil(self.stride).min(across);
            let end = (width + self.padding)
                .saturating_sub(right)
                .div_ceil(self.stride)
                .clamp(first, across);
            for example in tile.examples.clone() {
                let plane = &x[(example * self.inputs + channel) * height * width..][..height * width];
                for position in tile.rows.clone() {
                    let y = position * self.stride + down;
                    if y < self.padding || y - self.padding >= height || first == end {
                        columns.resize(columns.len() + across, 0.0);
                        continue;
                    }
                    let line = &plane[(y - self.padding) * width..][..width];
                    let left = first * self.stride + right - self.padding;
                    columns.resize(columns.len() + first, 0.0);
                    if self.stride == 1 {
                        columns.extend_from_slice(&line[left..left + end - first]);
                    } else {
                        columns.extend(line[left..].iter().step_by(self.stride).take(end - first));
                    }
                    columns.resize(columns.len() + across - end, 0.0);
                }
            }
        }
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> FlexTensor {
        let (patch, positions, together) = (self.patch(), self.positions(), self.images_per_tile());
        let image = self.outputs * positions;
        let mut result = vec![0.0_f32; self.examples * image];
        let work = |(columns, apart): &mut (Vec<f32>, Vec<f32>), (number, result): (usize, &mut [f32])| {
            for (plane, bias) in result.chunks_mut(positions).zip(bias.iter().cycle()) {
                plane.fill(*bias);
            }
            let first = number * together;
            let count = result.len() / image;
            for tile in self.tiles(first..first + count) {
                self.gather(x, 0..patch, &tile, columns);
                let width = columns.len() / patch;
                let product = |c: &mut [f32], c_row: usize| {
                    let terms = patch.div_ceil(patch.div_ceil(CHAIN));
                    for start in (0..patch).step_by(terms) {
                        let shape = [self.outputs, terms.min(patch - start), width];
                        let (a, b) = ((&weight[start..], [patch, 1]), (&columns[start * width..], [width, 1]));
                        add_product(shape, (c, c_row), a, b);
                    }
                };
                if count == 1 {
                    product(&mut result[tile.rows.start * self.result[1]..], positions);
                    continue;
                }
                // The images lie side by side in the product and one after the other in the result.
                apart.clear();
                apart.resize(self.outputs * width, 0.0);
                product(apart, width);
                for (channel, row) in apart.chunks(width).enumerate() {
                    for (example, values) in row.chunks(positions).enumerate() {
                        let plane = &mut result[example * image + channel * positions..][..positions];
                        plane.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                    }
                }
            }
        };
        if image > 0 {
            result
                .par_chunks_mut(image * together)
                .enumerate()
                .for_each_init(Default::default, work);
        }
        let shape = [self.examples, self.outputs, self.result[0], self.result[1]];
        FlexTensor::from_data(TensorData::new(result, shape))
    }

    /// Kernels turned by half a turn, inputs and outputs exchanged.
    fn turned(&self, weight: &[f32]) -> Vec<f32> {
        let area = self.kernel * self.kernel;
        let mut turned = Vec::with_capacity(weight.len());
        for input in 0..self.inputs {
            for output in 0..self.outputs {
                let kernel = &weight[(output * self.inputs + input) * area..][..area];
                turned.extend(kernel.iter().rev());
            }
        }
        turned
    }

    fn weight_gradient(&self, x: &[f32], gradient: &[f32]) -> FlexTensor {
        let (patch, positions, together) = (self.patch(), self.positions(), self.images_per_tile());
        let image = self.outputs * positions;
        // Each task has some rows of the patches for itself, so that the order of the sums does not hang on the threads.
        let tasks: Vec<std::ops::Range<usize>> = {
            let rows = patch.div_ceil(patch.div_ceil(TASK_ROWS).max(2));
            (0..patch)
                .step_by(rows)
                .map(|first| first..(first + rows).min(patch))
                .collect()
        };
        let parts: Vec<Vec<f32>> = tasks
            .par_iter()
            .map(|rows| {
                let mut part = vec![0.0_f32; self.outputs * rows.len()];
                let (mut columns, mut aside) = (Vec::new(), Vec::new());
                for first in (0..self.examples).step_by(together) {
                    let examples = first..(first + together).min(self.examples);
                    for tile in self.tiles(examples) {
                        self.gather(x, rows.clone(), &tile, &mut columns);
                        let width = columns.len() / rows.len();
                        let shape = [self.outputs, width, rows.len()];
                        let patches = (columns.as_slice(), [1, width]);
                        if tile.examples.len() == 1 {
                            let start = tile.examples.start * image + tile.rows.start * self.result[1];
                            add_product(
                                shape,
                                (&mut part, rows.len()),
                                (&gradient[start..], [positions, 1]),
                                patches,
                            );
                            continue;
                        }
                        aside.clear();
                        for channel in 0..self.outputs {
                            for example in tile.examples.clone() {
                                let plane = example * image + channel * positions;
                                aside.extend_from_slice(&gradient[plane..plane + positions]);
                            }
                        }
                        add_product(shape, (&mut part, rows.len()), (&aside, [width, 1]), patches);
                    }
                }
                part
            })
            .collect();
        let mut result = vec![0.0_f32; self.outputs * patch];
        for (rows, part) in tasks.iter().zip(&parts) {
            for (output, values) in part.chunks(rows.len()).enumerate() {
                result[output * patch + rows.start..][..rows.len()].copy_from_slice(values);
            }
        }
        FlexTensor::from_data(TensorData::new(
            result,
            [self.outputs, self.inputs, self.kernel, self.kernel],
        ))
    }
}

/// A matrix and its strides from row to row and from column to column.
type Matrix<'a> = (&'a [f32], [usize; 2]);

/// `c += a·b` for `[m, n] += [m, k]·[k, n]`; `c` with its stride from row to row.
fn add_product([m, k, n]: [usize; 3], (c, c_row): (&mut [f32], usize), a: Matrix, b: Matrix) {
    if m == 0 || k == 0 || n == 0 {
        return;
    }
    let last = |rows: usize, columns: usize, [row, column]: [usize; 2]| (rows - 1) * row + (columns - 1) * column;
    assert!(last(m, n, [c_row, 1]) < c.len() && last(m, k, a.1) < a.0.len() && last(k, n, b.1) < b.0.len());
    assert!(c_row >= n, "rows of the result must not overlap");
    let [a_row, a_column] = a.1.map(|stride| stride as isize);
    let [b_row, b_column] = b.1.map(|stride| stride as isize);
    // SAFETY: the largest index into each matrix lies inside its slice, as asserted; `c` is borrowed alone, and its rows
    // do not overlap.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            c_row as isize,
            true,
            a.0.as_ptr(),
            a_column,
            a_row,
            b.0.as_ptr(),
            b_column,
            b_row,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::compute::{Device, read};

    type Passes = [Vec<f32>; 4];

    /// Result and gradients of images, weight and bias, in the given precision.
    fn passes(inputs: [Tensor<4>; 3], bias: Tensor<1>, dtype: DType, [stride, padding]: [usize; 2]) -> Passes {
        let [x, weight, direction] = inputs.map(|tensor| tensor.cast(dtype));
        let (x, weight) = (x.autodiff().require_grad(), weight.autodiff().require_grad());
        let bias = bias.cast(dtype).autodiff().require_grad();
        let result = if dtype == DType::F32 {
            convolve(x.clone(), weight.clone(), Some(bias.clone()), stride, padding)
        } else {
            conv2d(x.clone(), weight.clone(), Some(bias.clone()), options(stride, padding))
        };
        let gradients = (result.clone() * direction).sum().backward();
        let [x, weight] = [x, weight].map(|leaf| read(leaf.grad(&gradients).unwrap().cast(DType::F32)).unwrap());
        let bias = read(bias.grad(&gradients).unwrap().cast(DType::F32)).unwrap();
        [read(result.inner().cast(DType::F32)).unwrap(), x, weight, bias]
    }

    #[test]
    fn agrees_with_burns_own_in_double_precision() {
        let device = Device::cpu();
        let random = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), device.tensors());
        // Examples, inputs, outputs, height, width, kernel, stride, padding.
        for case in [
            [1, 1, 1, 1, 1, 1, 1, 0],
            [2, 3, 64, 32, 32, 3, 1, 1],
            [3, 1, 5, 28, 28, 3, 1, 0],
            [5, 17, 9, 8, 6, 3, 2, 1],
            [33, 40, 12, 4, 4, 3, 1, 1],
            [7, 20, 6, 5, 9, 1, 2, 0],
            [2, 6, 7, 5, 3, 1, 1, 0],
            [2, 4, 3, 9, 9, 5, 1, 2],
            [2, 4, 3, 2, 1, 3, 2, 1],
            [2, 4, 3, 3, 40, 3, 3, 2],
            [1, 2, 3, 300, 2, 3, 1, 1],
        ] {
            let [examples, inputs, outputs, height, width, kernel, stride, padding] = case;
            let along = |side: usize| (side + 2 * padding - kernel) / stride + 1;
            let given = [
                random([examples, inputs, height, width]),
                random([outputs, inputs, kernel, kernel]),
                random([examples, outputs, along(height), along(width)]),
            ];
            let bias = Tensor::<1>::random([outputs], Distribution::Normal(0.0, 1.0), device.tensors());
            let ours = passes(given.clone(), bias.clone(), DType::F32, [stride, padding]);
            let exact = passes(given, bias, DType::F64, [stride, padding]);
            for (what, (ours, exact)) in ["result", "images", "weight", "bias"]
                .iter()
                .zip(ours.iter().zip(&exact))
            {
                assert_eq!(ours.len(), exact.len(), "{what} of {case:?}");
                let largest = exact.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                let off = ours.iter().zip(exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= 3e-6 * largest, "{what} of {case:?}: {off} of {largest}");
            }
        }
    }
}
