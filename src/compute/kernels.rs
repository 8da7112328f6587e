//! The hand-written WGSL of `shaders/` for single operations, launched in burn's own stream.
//!
//! Every launch gives `None` where the tensors are not f32 on a GPU that [`super::open`] opened; the callers in [`super`] then
//! take another form. Twins of the same names are in [`super::reference`]. The kernels that networks are made of are in
//! `compute::gpu`.

use burn::{
    backend::{Cube, DispatchDevice, wgpu::CubeTensor},
    tensor::{DType, Shape, Tensor},
};
use burn_cubecl::{kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype};
use cubecl::{bytes::Bytes, server::Handle};

use super::{
    Descent, Device, Placement, adapters,
    gpu::{
        self,
        launch::{Launch, Shader, in_rows, shader},
    },
};
use crate::shapes::{ImageShape, Images};

shader!(LINF_ASCEND, "linf_ascend");
shader!(L2_ASCEND, "l2_ascend");
shader!(PAD_CROP_FLIP, "pad_crop_flip");
shader!(SGD_STEP, "sgd_step");
shader!(LENGTH, "length");

/// Threads of a workgroup.
const WORKGROUP: usize = 256;

/// The memory of an f32 tensor in row-major order; `None` where it is on no GPU of ours.
fn memory<const D: usize>(tensor: &Tensor<D>) -> Option<CubeTensor> {
    if !gpu::IS_BUILT || tensor.dtype() != DType::F32 {
        return None;
    }
    adapters::gpu_of(&tensor.device())?;
    let found = tensor.clone().try_into_primitive::<Cube>().ok()?;
    // Work of another thread is queued apart from ours and may not be submitted yet; an operation on this thread
    // waits for it and gives a tensor of our own queue.
    if found.handle.stream != burn::backend::StreamId::current() {
        let copied = tensor.clone().mul_scalar(1.0);
        return copied.try_into_primitive::<Cube>().ok().map(into_contiguous);
    }
    Some(into_contiguous(found))
}

/// A new tensor of the shape of another.
fn empty_like(tensor: &CubeTensor) -> CubeTensor {
    let shape = tensor.meta.shape().clone();
    empty_device_contiguous_dtype(tensor.client.clone(), tensor.device.clone(), shape, DType::F32)
}

fn ascend(shader: &'static Shader, images: [&Images; 3], groups: [u32; 3], words: &[u32]) -> Option<Images> {
    let [natural, current, gradient] = images.map(memory);
    let (natural, current, gradient) = (natural?, current?, gradient?);
    let shape = natural.meta.shape();
    if current.meta.shape() != shape || gradient.meta.shape() != shape {
        return None;
    }
    let result = empty_like(&natural);
    let launch = Launch {
        shader,
        constants: String::new(),
        groups,
        words,
    };
    let buffers = [&natural.handle, &current.handle, &gradient.handle, &result.handle];
    launch.over(&natural.client, &buffers);
    Some(Images::from_primitive::<Cube>(result))
}

/// `shaders/linf_ascend.wgsl`; see [`super::linf_ascend`].
pub fn linf_ascend(
    natural: &Images,
    current: &Images,
    gradient: &Images,
    epsilon: f32,
    step_size: f32,
) -> Option<Images> {
    let count = natural.shape().num_elements();
    let words = [u32::try_from(count).ok()?, epsilon.to_bits(), step_size.to_bits()];
    let images = [natural, current, gradient];
    ascend(&LINF_ASCEND, images, in_rows(count.div_ceil(WORKGROUP)), &words)
}

/// `shaders/l2_ascend.wgsl`; see [`super::l2_ascend`].
pub fn l2_ascend(
    natural: &Images,
    current: &Images,
    gradient: &Images,
    epsilon: f32,
    step_size: f32,
) -> Option<Images> {
    u32::try_from(natural.shape().num_elements()).ok()?;
    let [examples, channels, height, width] = natural.dims();
    let length = channels * height * width;
    let words = [examples as u32, length as u32, epsilon.to_bits(), step_size.to_bits()];
    ascend(&L2_ASCEND, [natural, current, gradient], in_rows(examples), &words)
}

/// `shaders/pad_crop_flip.wgsl`; see [`super::pad_crop_flip`].
pub fn pad_crop_flip(
    images: &[u8],
    shape: ImageShape,
    pad: usize,
    placements: &[Placement],
    device: &Device,
) -> Option<Images> {
    /// Bits for each offset in a packed placement.
    const OFFSET_BITS: u32 = 15;
    /// Columns and rows of one workgroup.
    const TILE: [usize; 2] = [32, 8];
    if !gpu::IS_BUILT {
        return None;
    }
    adapters::gpu_of(device.tensors())?;
    u32::try_from(images.len()).ok()?;
    let fits = |placement: &Placement| placement.dy.max(placement.dx) < 1 << OFFSET_BITS;
    if images.is_empty() || images.len() != placements.len() * shape.len() || !placements.iter().all(fits) {
        return None;
    }
    let DispatchDevice::Cube(device) = device.tensors().as_dispatch() else {
        return None;
    };
    let pack = |placement: &Placement| {
        placement.dy | placement.dx << OFFSET_BITS | u32::from(placement.flip) << (2 * OFFSET_BITS + 1)
    };
    let client = device.client();
    let mut bytes = Vec::with_capacity(images.len().next_multiple_of(4));
    bytes.extend_from_slice(images);
    bytes.resize(images.len().next_multiple_of(4), 0);
    let bytes = client.create(Bytes::from_bytes_vec(bytes));
    let placed = placements.iter().map(pack).flat_map(u32::to_ne_bytes).collect();
    let placed = client.create(Bytes::from_bytes_vec(placed));
    let dims = [placements.len(), shape.channels, shape.height, shape.width];
    let result = empty_device_contiguous_dtype(client.clone(), device.clone(), Shape::new(dims), DType::F32);
    let planes = u32::try_from(dims[0] * dims[1])
        .ok()
        .filter(|planes| *planes <= gpu::launch::MOST_GROUPS)?;
    let launch = Launch {
        shader: &PAD_CROP_FLIP,
        constants: String::new(),
        groups: [
            dims[3].div_ceil(TILE[0]) as u32,
            dims[2].div_ceil(TILE[1]) as u32,
            planes,
        ],
        words: &[dims[1] as u32, dims[2] as u32, dims[3] as u32, u32::try_from(pad).ok()?],
    };
    launch.over(&client, &[&bytes, &placed, &result.handle]);
    Some(Images::from_primitive::<Cube>(result))
}

/// `shaders/sgd_step.wgsl`; see [`super::sgd_step`]. The moved parameters take the place of the gradient, which nobody else may
/// hold, and the velocity stays in its own.
pub fn sgd_step(
    parameters: &Tensor<1>,
    velocity: Option<&Tensor<1>>,
    gradient: &Tensor<1>,
    descent: &Descent,
) -> Option<(Tensor<1>, Tensor<1>)> {
    /// Flags of the shader.
    const FIRST: u32 = 1;
    const NESTEROV: u32 = 2;
    let own = memory(parameters)?;
    let gradient = owned(memory(gradient)?);
    let (before, flag) = match velocity {
        Some(velocity) => (owned(memory(velocity)?), 0),
        None => (empty_like(&own), FIRST),
    };
    let count = own.meta.shape().num_elements();
    if gradient.meta.shape().num_elements() != count || before.meta.shape().num_elements() != count {
        return None;
    }
    let words = [
        u32::try_from(count).ok()?,
        descent.decayed as u32,
        flag | if descent.nesterov { NESTEROV } else { 0 },
        descent.learning_rate.to_bits(),
        descent.momentum.to_bits(),
        descent.weight_decay.to_bits(),
    ];
    let launch = Launch {
        shader: &SGD_STEP,
        constants: String::new(),
        groups: in_rows(count.div_ceil(WORKGROUP)),
        words: &words,
    };
    launch.over(&own.client, &[&own.handle, &before.handle, &gradient.handle]);
    Some((
        Tensor::from_primitive::<Cube>(gradient),
        Tensor::from_primitive::<Cube>(before),
    ))
}

/// The Euclidean length of a vector by `shaders/length.wgsl`; see [`super::length`].
pub fn length(values: &Tensor<1>) -> Option<Tensor<1>> {
    /// Workgroups of the first launch.
    const SHARES: usize = 256;
    const ROOT: u32 = 1;
    let values = memory(values)?;
    let count = u32::try_from(values.meta.shape().num_elements()).ok()?;
    let client = &values.client;
    let (squares, length) = (client.empty(SHARES * size_of::<f32>()), client.empty(size_of::<f32>()));
    let launches: [(usize, [u32; 2], [&Handle; 2]); 2] = [
        (SHARES, [count, 0], [&values.handle, &squares]),
        (1, [SHARES as u32, ROOT], [&squares, &length]),
    ];
    for (groups, words, buffers) in launches {
        let launch = Launch {
            shader: &LENGTH,
            constants: String::new(),
            groups: [groups as u32, 1, 1],
            words: &words,
        };
        launch.over(client, &buffers);
    }
    let result = CubeTensor::new_contiguous(
        client.clone(),
        values.device.clone(),
        Shape::new([1]),
        length,
        DType::F32,
    );
    Some(Tensor::from_primitive::<Cube>(result))
}

/// A tensor whose memory nobody else holds.
fn owned(tensor: CubeTensor) -> CubeTensor {
    if tensor.can_mut() {
        return tensor;
    }
    let copied = Tensor::<1>::from_primitive::<Cube>(tensor.clone()).mul_scalar(1.0);
    copied.try_into_primitive::<Cube>().unwrap_or(tensor)
}
