//! Images and perturbations drawn on the window's GPU by `shaders/picture.wgsl`.

use std::sync::OnceLock;

use eframe::egui_wgpu::{
    self, CallbackResources, CallbackTrait, ScreenDescriptor,
    wgpu::{self, util::DeviceExt},
};
use egui::{PaintCallbackInfo, Rect, Ui};

use crate::shapes::ImageShape;

/// What is drawn of two images.
#[derive(Clone, Copy, PartialEq)]
pub enum Show {
    /// The second one as it is.
    Image,
    /// The change from the first to the second, times the gain.
    Change {
        /// The factor.
        gain: f32,
    },
}

/// A picture to be drawn; twin of [`crate::report::pictures`].
pub struct Picture {
    shape: ImageShape,
    first: Vec<f32>,
    second: Vec<f32>,
    show: Show,
    format: wgpu::TextureFormat,
    bound: OnceLock<wgpu::BindGroup>,
}

/// What all pictures share on a device.
struct Pipeline {
    pipeline: wgpu::RenderPipeline,
    layout: wgpu::BindGroupLayout,
}

impl Picture {
    /// A picture of `[C, H, W]` values.
    pub fn new(shape: ImageShape, first: &[f32], second: &[f32], show: Show, format: wgpu::TextureFormat) -> Self {
        Self {
            shape,
            first: texels(first, shape),
            second: texels(second, shape),
            show,
            format,
            bound: OnceLock::new(),
        }
    }

    /// Draws it into `rect`.
    pub fn paint_at(self, ui: &Ui, rect: Rect) {
        ui.painter().add(egui_wgpu::Callback::new_paint_callback(rect, self));
    }

    fn bind(&self, device: &wgpu::Device, queue: &wgpu::Queue, layout: &wgpu::BindGroupLayout) -> wgpu::BindGroup {
        let texture = |label, values: &[f32]| {
            let descriptor = wgpu::TextureDescriptor {
                label: Some(label),
                size: wgpu::Extent3d {
                    width: self.shape.width as u32,
                    height: self.shape.height as u32,
                    depth_or_array_layers: 1,
                },
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::Rgba32Float,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            };
            let order = wgpu::util::TextureDataOrder::LayerMajor;
            device
                .create_texture_with_data(queue, &descriptor, order, bytes_of(values).as_slice())
                .create_view(&wgpu::TextureViewDescriptor::default())
        };
        let (mode, gain) = match self.show {
            Show::Image => (0_u32, 1.0_f32),
            Show::Change { gain } => (1, gain),
        };
        let numbers = [
            self.shape.width as u32,
            self.shape.height as u32,
            self.shape.channels as u32,
            mode,
            gain.to_bits(),
            0,
            0,
            0,
        ];
        let parameters = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some("picture parameters"),
            contents: &numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect::<Vec<u8>>(),
            usage: wgpu::BufferUsages::UNIFORM,
        });
        let (first, second) = (
            texture("first image", &self.first),
            texture("second image", &self.second),
        );
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("picture"),
            layout,
            entries: &[
                wgpu::BindGroupEntry {
                    binding: 0,
                    resource: wgpu::BindingResource::TextureView(&first),
                },
                wgpu::BindGroupEntry {
                    binding: 1,
                    resource: wgpu::BindingResource::TextureView(&second),
                },
                wgpu::BindGroupEntry {
                    binding: 2,
                    resource: parameters.as_entire_binding(),
                },
            ],
        })
    }
}

impl CallbackTrait for Picture {
    fn prepare(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        _screen: &ScreenDescriptor,
        _encoder: &mut wgpu::CommandEncoder,
        resources: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        if !resources.contains::<Pipeline>() {
            resources.insert(Pipeline::new(device, self.format));
        }
        if let Some(shared) = resources.get::<Pipeline>() {
            let _ = self.bound.set(self.bind(device, queue, &shared.layout));
        }
        Vec::new()
    }

    fn paint(&self, _info: PaintCallbackInfo, pass: &mut wgpu::RenderPass<'static>, resources: &CallbackResources) {
        if let (Some(shared), Some(bound)) = (resources.get::<Pipeline>(), self.bound.get()) {
            pass.set_pipeline(&shared.pipeline);
            pass.set_bind_group(0, bound, &[]);
            pass.draw(0..3, 0..1);
        }
    }
}

impl Pipeline {
    fn new(device: &wgpu::Device, format: wgpu::TextureFormat) -> Self {
        let module = device.create_shader_module(wgpu::include_wgsl!("../../shaders/picture.wgsl"));
        let texture = |binding| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::FRAGMENT,
            ty: wgpu::BindingType::Texture {
                sample_type: wgpu::TextureSampleType::Float { filterable: false },
                view_dimension: wgpu::TextureViewDimension::D2,
                multisampled: false,
            },
            count: None,
        };
        let parameters = wgpu::BindGroupLayoutEntry {
            binding: 2,
            visibility: wgpu::ShaderStages::FRAGMENT,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("picture"),
            entries: &[texture(0), texture(1), parameters],
        });
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("picture"),
            layout: Some(&device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some("picture"),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            })),
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("corner"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                buffers: &[],
            },
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: Some("colour"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                targets: &[Some(format.into())],
            }),
            primitive: wgpu::PrimitiveState::default(),
            depth_stencil: None,
            multisample: wgpu::MultisampleState::default(),
            multiview_mask: None,
            cache: None,
        });
        Self { pipeline, layout }
    }
}

/// `[C, H, W]` values as texels of four components.
fn texels(values: &[f32], shape: ImageShape) -> Vec<f32> {
    let plane = shape.height * shape.width;
    let component = |channel: usize, place: usize| {
        if channel < shape.channels {
            values.get(channel * plane + place).copied().unwrap_or(f32::NAN)
        } else {
            0.0
        }
    };
    (0..plane)
        .flat_map(|place| [0, 1, 2, 3].map(|channel| component(channel, place)))
        .collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::pictures;
    use egui_kittest::Harness;

    /// Draws the picture at one point for each pixel and reads it back.
    fn drawn(shape: ImageShape, first: &[f32], second: &[f32], show: Show) -> Vec<[u8; 3]> {
        let (first, second) = (first.to_vec(), second.to_vec());
        let size = egui::vec2(shape.width as f32, shape.height as f32);
        let mut harness = Harness::builder().with_size(size).wgpu().build_ui(move |ui| {
            let picture = Picture::new(shape, &first, &second, show, wgpu::TextureFormat::Rgba8Unorm);
            picture.paint_at(ui, Rect::from_min_size(egui::Pos2::ZERO, size));
        });
        let image = harness.render().expect("lavapipe draws");
        image.pixels().map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
    }

    #[test]
    fn the_shader_draws_what_its_twin_draws() {
        for channels in [1, 3] {
            let shape = ImageShape {
                channels,
                height: 21,
                width: 27,
            };
            let value = |position: usize, factor: usize| ((position * factor) % 101) as f32 / 100.0;
            let first: Vec<f32> = (0..shape.len()).map(|position| value(position, 37)).collect();
            let second: Vec<f32> = (0..shape.len()).map(|position| value(position, 53)).collect();
            for (show, twin) in [
                (Show::Image, pictures::picture(&second, shape)),
                (
                    Show::Change { gain: 1.7 },
                    pictures::perturbation(&first, &second, shape, 1.7),
                ),
            ] {
                let drawn = drawn(shape, &first, &second, show);
                let worst = drawn
                    .iter()
                    .zip(twin.pixels())
                    .flat_map(|(drawn, twin)| (0..3).map(|c| drawn[c].abs_diff(twin.0[c])))
                    .max();
                assert_eq!(drawn.len(), twin.pixels().len());
                assert!(worst <= Some(1), "{channels} channels: off by {worst:?}");
            }
        }
    }
}
