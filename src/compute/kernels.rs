//! Launches of the hand-written WGSL in `shaders/`, on the trainer's own device and queue.
//!
//! The pipelines are plain wgpu, so they run whichever shader compiler burn picked. They work on the buffers behind
//! burn's tensors: what burn has recorded is flushed to the queue first, then ours follows, and the queue keeps the
//! order. Every launch gives `None` where the tensors are not f32 on a GPU that [`super::open`] opened; the callers in
//! [`super`] then take another form. Twins of the same names are in [`super::reference`].

use std::sync::{Mutex, OnceLock, PoisonError};

use super::{Device, Placement, adapters};
use crate::shapes::{ImageShape, Images};

/// What the kernels need of an open GPU.
pub(super) struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    linf_ascend: Kernel,
    l2_ascend: Kernel,
    pad_crop_flip: Kernel,
}

/// Threads in a workgroup of the ascent kernels.
const WORKGROUP: u32 = 256;

/// A shader, compiled when it is first launched, and the parameters of its last launches.
struct Kernel {
    name: &'static str,
    source: &'static str,
    pipeline: OnceLock<Option<wgpu::ComputePipeline>>,
    /// An attack launches the same parameters many times. The buffers are never written again, so a launch that is
    /// still queued keeps its own.
    parameters: Mutex<Vec<(Vec<u32>, wgpu::Buffer)>>,
}

impl Kernel {
    fn new(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            source,
            pipeline: OnceLock::new(),
            parameters: Mutex::new(Vec::new()),
        }
    }

    /// The compiled shader; `None` where the driver refuses it.
    fn pipeline(&self, device: &wgpu::Device) -> Option<&wgpu::ComputePipeline> {
        let compile = || {
            let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(self.name),
                source: wgpu::ShaderSource::Wgsl(self.source.into()),
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(self.name),
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            });
            pollster::block_on(scope.pop()).is_none().then_some(pipeline)
        };
        self.pipeline.get_or_init(compile).as_ref()
    }

    fn parameters(&self, device: &wgpu::Device, words: &[u32]) -> wgpu::Buffer {
        const KEPT: usize = 8;
        let mut kept = self.parameters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, buffer)) = kept.iter().find(|(known, _)| known == words) {
            return buffer.clone();
        }
        // Uniform structures are padded to 16 bytes.
        let size = (words.len() as u64 * 4).next_multiple_of(16);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(self.name),
            size,
            usage: wgpu::BufferUsages::UNIFORM,
            mapped_at_creation: true,
        });
        if let Ok(mut mapped) = buffer.get_mapped_range_mut(..) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            mapped.slice(..bytes.len()).copy_from_slice(&bytes);
        }
        buffer.unmap();
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((words.to_vec(), buffer.clone()));
        buffer
    }
}

impl Gpu {
    pub(super) fn new(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self {
            device,
            queue,
            linf_ascend: Kernel::new("linf_ascend", include_str!("../../shaders/linf_ascend.wgsl")),
            l2_ascend: Kernel::new("l2_ascend", include_str!("../../shaders/l2_ascend.wgsl")),
            pad_crop_flip: Kernel::new("pad_crop_flip", include_str!("../../shaders/pad_crop_flip.wgsl")),
        }
    }

    /// Loses the device, as a driver reset does.
    pub(super) fn lose(&self) {
        self.device.destroy();
    }

    /// `count` workgroups as rows of a plane: one dimension of a dispatch ends at some 65,535.
    fn in_rows(&self, count: u32) -> [u32; 3] {
        let columns = count.clamp(1, self.device.limits().max_compute_workgroups_per_dimension);
        [columns, count.div_ceil(columns), 1]
    }
}

/// One dispatch of a kernel, short of the tensors that it works on.
#[cfg_attr(feature = "fusion", allow(dead_code))]
struct Launch<'a> {
    gpu: &'a Gpu,
    kernel: &'a Kernel,
    parameters: &'a [u32],
    workgroups: [u32; 3],
}

#[cfg_attr(feature = "fusion", allow(dead_code))]
impl Launch<'_> {
    /// Submits the dispatch over `tensors`, its parameters bound after them; `None` where it cannot run here.
    fn submit(&self, tensors: &[wgpu::BindingResource<'_>]) -> Option<()> {
        let Gpu { device, queue, .. } = self.gpu;
        let limit = device.limits().max_compute_workgroups_per_dimension;
        if self.workgroups.iter().any(|count| *count > limit) {
            return None;
        }
        let pipeline = self.kernel.pipeline(device)?;
        let parameters = self.kernel.parameters(device, self.parameters);
        let resources = tensors.iter().cloned().chain([parameters.as_entire_binding()]);
        let entries: Vec<_> = (0..)
            .zip(resources)
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.kernel.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &group, &[]);
        let [x, y, z] = self.workgroups;
        pass.dispatch_workgroups(x, y, z);
        drop(pass);
        queue.submit([encoder.finish()]);
        Some(())
    }
}

/// `shaders/linf_ascend.wgsl`; see [`super::linf_ascend`].
pub fn linf_ascend(
    natural: &Images,
    current: &Images,
    gradient: &Images,
    epsilon: f32,
    step_size: f32,
) -> Option<Images> {
    let gpu = adapters::gpu_of(&natural.device())?;
    let count = u32::try_from(natural.shape().num_elements()).ok()?;
    let parameters = [count, epsilon.to_bits(), step_size.to_bits()];
    let workgroups = gpu.in_rows(count.div_ceil(WORKGROUP));
    let launch = Launch {
        gpu: &gpu,
        kernel: &gpu.linf_ascend,
        parameters: &parameters,
        workgroups,
    };
    buffers::ascend(&launch, [natural, current, gradient])
}

/// `shaders/l2_ascend.wgsl`; see [`super::l2_ascend`].
pub fn l2_ascend(
    natural: &Images,
    current: &Images,
    gradient: &Images,
    epsilon: f32,
    step_size: f32,
) -> Option<Images> {
    let gpu = adapters::gpu_of(&natural.device())?;
    u32::try_from(natural.shape().num_elements()).ok()?;
    let [examples, channels, height, width] = natural.dims();
    let length = channels * height * width;
    let workgroups = gpu.in_rows(examples as u32);
    let parameters = [examples as u32, length as u32, epsilon.to_bits(), step_size.to_bits()];
    let launch = Launch {
        gpu: &gpu,
        kernel: &gpu.l2_ascend,
        parameters: &parameters,
        workgroups,
    };
    buffers::ascend(&launch, [natural, current, gradient])
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
    const TILE: [u32; 2] = [32, 8];
    let gpu = adapters::gpu_of(device.tensors())?;
    u32::try_from(images.len()).ok()?;
    let fits = |placement: &Placement| placement.dy.max(placement.dx) < 1 << OFFSET_BITS;
    if images.is_empty() || images.len() != placements.len() * shape.len() || !placements.iter().all(fits) {
        return None;
    }
    let pack = |placement: &Placement| {
        placement.dy | placement.dx << OFFSET_BITS | u32::from(placement.flip) << (2 * OFFSET_BITS + 1)
    };
    let placed = placements.iter().map(pack).flat_map(u32::to_ne_bytes).collect();
    let dims = [placements.len(), shape.channels, shape.height, shape.width];
    let [planes, height, width] = [dims[0] * dims[1], dims[2], dims[3]].map(|size| size as u32);
    let parameters = [shape.channels as u32, height, width, u32::try_from(pad).ok()?];
    let workgroups = [width.div_ceil(TILE[0]), height.div_ceil(TILE[1]), planes];
    let launch = Launch {
        gpu: &gpu,
        kernel: &gpu.pad_crop_flip,
        parameters: &parameters,
        workgroups,
    };
    buffers::from_bytes(&launch, device.tensors(), images, placed, dims)
}

/// Reaching the buffers behind burn's tensors.
#[cfg(not(feature = "fusion"))]
mod buffers {
    use burn::{
        backend::{
            Cube, DispatchDevice,
            wgpu::{AutoCompiler, CubeTensor},
        },
        tensor::{DType, Shape},
    };
    use burn_cubecl::{kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype};
    use cubecl::{bytes::Bytes, client::Client, server::Handle, wgpu::WgpuServer};

    use super::{Images, Launch};

    fn primitive(images: &Images) -> Option<CubeTensor> {
        let tensor = images.clone().try_into_primitive::<Cube>().ok()?;
        if tensor.dtype != DType::F32 {
            return None;
        }
        // Work of another thread is queued apart from ours and may not be submitted yet; an operation on this thread
        // waits for it and gives a tensor of our own queue.
        if tensor.handle.stream != burn::backend::StreamId::current() {
            let copied = images.clone().mul_scalar(1.0);
            return copied.try_into_primitive::<Cube>().ok().map(into_contiguous);
        }
        Some(into_contiguous(tensor))
    }

    /// Launches over memory of `client`, after everything that burn has recorded.
    fn submit(launch: &Launch<'_>, client: &Client, memory: &[&Handle]) -> Option<()> {
        let resource = |handle: &&Handle| client.get_resource::<WgpuServer<AutoCompiler>>((*handle).clone()).ok();
        // Held until the launch is submitted: from then on the queue's order protects the memory.
        let held = memory.iter().map(resource).collect::<Option<Vec<_>>>()?;
        let bindings: Vec<_> = held
            .iter()
            .map(|held| held.resource().as_wgpu_bind_resource())
            .collect();
        client.flush().ok()?;
        launch.submit(&bindings)
    }

    /// Launches over natural, current, gradient and a new tensor of the same shape.
    pub(super) fn ascend(launch: &Launch<'_>, images: [&Images; 3]) -> Option<Images> {
        let [natural, current, gradient] = images.map(primitive);
        let (natural, current, gradient) = (natural?, current?, gradient?);
        let shape = natural.meta.shape().clone();
        if *current.meta.shape() != shape || *gradient.meta.shape() != shape {
            return None;
        }
        let client = natural.client.clone();
        let result = empty_device_contiguous_dtype(client.clone(), natural.device.clone(), shape, DType::F32);
        let memory = [&natural.handle, &current.handle, &gradient.handle, &result.handle];
        submit(launch, &client, &memory)?;
        Some(Images::from_primitive::<Cube>(result))
    }

    /// Uploads bytes and placements, and launches over them and a new tensor of `shape`.
    pub(super) fn from_bytes(
        launch: &Launch<'_>,
        device: &burn::tensor::Device,
        bytes: &[u8],
        placements: Vec<u8>,
        shape: [usize; 4],
    ) -> Option<Images> {
        let DispatchDevice::Cube(device) = device.as_dispatch() else {
            return None;
        };
        let client = device.client();
        let mut words = Vec::with_capacity(bytes.len().next_multiple_of(4));
        words.extend_from_slice(bytes);
        words.resize(bytes.len().next_multiple_of(4), 0);
        let words = client.create(Bytes::from_bytes_vec(words));
        let placements = client.create(Bytes::from_bytes_vec(placements));
        let result = empty_device_contiguous_dtype(client.clone(), device.clone(), Shape::new(shape), DType::F32);
        submit(launch, &client, &[&words, &placements, &result.handle])?;
        Some(Images::from_primitive::<Cube>(result))
    }
}

/// Under fusion a tensor may not be computed yet and has no buffer to reach: the composed operations, which fusion
/// joins into one kernel itself, take over.
#[cfg(feature = "fusion")]
mod buffers {
    use super::{Images, Launch};

    pub(super) fn ascend(_: &Launch<'_>, _: [&Images; 3]) -> Option<Images> {
        None
    }

    pub(super) fn from_bytes(
        _: &Launch<'_>,
        _: &burn::tensor::Device,
        _: &[u8],
        _: Vec<u8>,
        _: [usize; 4],
    ) -> Option<Images> {
        None
    }
}
