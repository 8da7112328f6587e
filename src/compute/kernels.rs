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

/// Threads in a workgroup, in every shader of ours.
const WORKGROUP: u64 = 256;

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

    /// Submits one dispatch of `kernel` over `buffers` and then its parameters; `None` where it cannot run here.
    fn launch(
        &self,
        kernel: &Kernel,
        buffers: &[wgpu::BindingResource<'_>],
        parameters: &[u32],
        workgroups: u64,
    ) -> Option<()> {
        let limit = u64::from(self.device.limits().max_compute_workgroups_per_dimension);
        let columns = workgroups.min(limit);
        let rows = workgroups.div_ceil(columns.max(1));
        if rows > limit {
            return None;
        }
        let pipeline = kernel.pipeline(&self.device)?;
        let parameters = kernel.parameters(&self.device, parameters);
        let bindings = buffers
            .iter()
            .cloned()
            .chain([parameters.as_entire_binding()])
            .enumerate();
        let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings
            .map(|(index, resource)| wgpu::BindGroupEntry {
                binding: index as u32,
                resource,
            })
            .collect();
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = self
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(columns as u32, rows as u32, 1);
        }
        self.queue.submit([encoder.finish()]);
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
    let workgroups = u64::from(count).div_ceil(WORKGROUP);
    buffers::ascend(
        &gpu,
        &gpu.linf_ascend,
        [natural, current, gradient],
        &parameters,
        workgroups,
    )
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
    let parameters = [examples as u32, length as u32, epsilon.to_bits(), step_size.to_bits()];
    buffers::ascend(
        &gpu,
        &gpu.l2_ascend,
        [natural, current, gradient],
        &parameters,
        examples as u64,
    )
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
    let gpu = adapters::gpu_of(device.tensors())?;
    let count = u32::try_from(images.len()).ok()?;
    let fits = |placement: &Placement| placement.dy.max(placement.dx) < 1 << OFFSET_BITS;
    if images.is_empty() || images.len() != placements.len() * shape.len() || !placements.iter().all(fits) {
        return None;
    }
    let packed = placements
        .iter()
        .map(|placement| placement.dy | placement.dx << OFFSET_BITS | u32::from(placement.flip) << 31)
        .flat_map(u32::to_ne_bytes)
        .collect();
    let ImageShape {
        channels,
        height,
        width,
    } = shape;
    let parameters = [
        count,
        channels as u32,
        height as u32,
        width as u32,
        u32::try_from(pad).ok()?,
    ];
    let dims = [placements.len(), channels, height, width];
    buffers::from_bytes(
        &gpu,
        &gpu.pad_crop_flip,
        device.tensors(),
        images,
        packed,
        dims,
        &parameters,
    )
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

    use super::{Gpu, Images, Kernel, WORKGROUP};

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

    /// Launches a kernel over memory of `client`, after everything that burn has recorded.
    fn launch(
        gpu: &Gpu,
        kernel: &Kernel,
        client: &Client,
        memory: &[&Handle],
        parameters: &[u32],
        workgroups: u64,
    ) -> Option<()> {
        let resource = |handle: &&Handle| client.get_resource::<WgpuServer<AutoCompiler>>((*handle).clone()).ok();
        // Held until the launch is submitted: from then on the queue's order protects the memory.
        let held = memory.iter().map(resource).collect::<Option<Vec<_>>>()?;
        let bindings: Vec<_> = held
            .iter()
            .map(|held| held.resource().as_wgpu_bind_resource())
            .collect();
        client.flush().ok()?;
        gpu.launch(kernel, &bindings, parameters, workgroups)
    }

    /// Launches a kernel over natural, current, gradient and a new tensor of the same shape.
    pub(super) fn ascend(
        gpu: &Gpu,
        kernel: &Kernel,
        images: [&Images; 3],
        parameters: &[u32],
        workgroups: u64,
    ) -> Option<Images> {
        let [natural, current, gradient] = images.map(primitive);
        let (natural, current, gradient) = (natural?, current?, gradient?);
        let shape = natural.meta.shape().clone();
        if *current.meta.shape() != shape || *gradient.meta.shape() != shape {
            return None;
        }
        let client = natural.client.clone();
        let result = empty_device_contiguous_dtype(client.clone(), natural.device.clone(), shape, DType::F32);
        let memory = [&natural.handle, &current.handle, &gradient.handle, &result.handle];
        launch(gpu, kernel, &client, &memory, parameters, workgroups)?;
        Some(Images::from_primitive::<Cube>(result))
    }

    /// Uploads bytes and placements, and launches a kernel over them and a new tensor of `shape`.
    pub(super) fn from_bytes(
        gpu: &Gpu,
        kernel: &Kernel,
        device: &burn::tensor::Device,
        bytes: &[u8],
        placements: Vec<u8>,
        shape: [usize; 4],
        parameters: &[u32],
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
        let workgroups = (shape.iter().product::<usize>() as u64).div_ceil(WORKGROUP);
        launch(
            gpu,
            kernel,
            &client,
            &[&words, &placements, &result.handle],
            parameters,
            workgroups,
        )?;
        Some(Images::from_primitive::<Cube>(result))
    }
}

/// Under fusion a tensor may not be computed yet and has no buffer to reach: the composed operations, which fusion
/// joins into one kernel itself, take over.
#[cfg(feature = "fusion")]
mod buffers {
    use super::{Gpu, Images, Kernel};

    pub(super) fn ascend(_: &Gpu, _: &Kernel, _: [&Images; 3], _: &[u32], _: u64) -> Option<Images> {
        None
    }

    pub(super) fn from_bytes(
        _: &Gpu,
        _: &Kernel,
        _: &burn::tensor::Device,
        _: &[u8],
        _: Vec<u8>,
        _: [usize; 4],
        _: &[u32],
    ) -> Option<Images> {
        None
    }
}
