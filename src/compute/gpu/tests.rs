//! Convolutions by every kind of product, on every GPU of the machine, against float64.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use burn::{backend::DispatchDevice, tensor::f16};
use cubecl::{bytes::Bytes, client::Client, server::Handle};

use super::{
    Products,
    convolution::Making,
    kernels::{Epilogue, bytes, stored},
    packing::Packing,
};
use crate::{
    compute::{Device, adapters, open, stages::Layer},
    random::Rng,
    shapes::ImageShape,
};

/// Every GPU of the machine, software rasterisers included.
fn gpus() -> Vec<Device> {
    let found = adapters::devices().into_iter();
    let opened: Vec<Device> = found
        .filter(|info| info.api != "CPU" && info.api != "GL")
        .map(|info| open(&info.selector).unwrap())
        .collect();
    assert!(
        !opened.is_empty() || std::env::var_os("CI").is_none(),
        "no Vulkan device: install lavapipe (mesa-vulkan-drivers)"
    );
    opened
}

fn client_of(device: &Device) -> Client {
    let DispatchDevice::Cube(device) = device.tensors().as_dispatch() else {
        panic!("{device:?} is no GPU");
    };
    device.client()
}

fn upload(client: &Client, values: &[f32]) -> Handle {
    client.create(Bytes::from_bytes_vec(
        values.iter().flat_map(|value| value.to_ne_bytes()).collect(),
    ))
}

fn read(client: &Client, handle: &Handle) -> Vec<f32> {
    let bytes = client.read_one(handle.clone()).unwrap();
    let (values, _) = bytes.as_chunks::<4>();
    values.iter().map(|value| f32::from_ne_bytes(*value)).collect()
}

/// A layer with what it reads and what comes back, places in rows, channels as they are.
struct Case {
    layer: Layer,
    examples: usize,
    source: Vec<f32>,
    gradient: Vec<f32>,
    parameters: Vec<f32>,
}

/// Values of a shape for so many examples.
fn count(shape: ImageShape, examples: usize) -> usize {
    examples * shape.height * shape.width * shape.channels
}

/// As activations lie in memory.
fn laid(values: &[f32], shape: ImageShape) -> Vec<f32> {
    let rows = values.chunks(shape.channels);
    let filled = stored(shape.channels) - shape.channels;
    rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, filled)))
        .collect()
}

impl Case {
    fn new(layer: Layer, examples: usize, size: f32) -> Self {
        let mut rng = Rng::new(7);
        let mut draw = |count: usize, size: f32| -> Vec<f32> { (0..count).map(|_| rng.uniform(-size, size)).collect() };
        let bias = layer.bias().map_or(0, |bias| bias.len());
        Self {
            source: draw(count(layer.input, examples), 1.0),
            gradient: draw(count(layer.output, examples), size),
            parameters: draw(layer.weights().len() + bias, 0.2),
            layer,
            examples,
        }
    }

    /// Every product of the convolution: places of what is read, of the weight and of the result.
    fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let Layer {
            input,
            output,
            kernel: [down, across],
            stride,
            padding,
            ..
        } = self.layer;
        let places = (0..self.examples * output.height * output.width).map(|place| {
            let (image, inside) = (
                place / (output.height * output.width),
                place % (output.height * output.width),
            );
            [place, image, inside / output.width, inside % output.width]
        });
        for [place, image, y, x] in places {
            for tap in 0..down * across {
                let (row, column) = (y * stride + tap / across, x * stride + tap % across);
                let inside = (padding..input.height + padding).contains(&row)
                    && (padding..input.width + padding).contains(&column);
                if !inside {
                    continue;
                }
                let from = (image * input.height + row - padding) * input.width + column - padding;
                for o in 0..output.channels {
                    for c in 0..input.channels {
                        visit(
                            from * input.channels + c,
                            (o * input.channels + c) * down * across + tap,
                            place * output.channels + o,
                        );
                    }
                }
            }
        }
    }

    /// Results, the gradient of what is read, and the gradient of the parameters, in float64 of factors that went through `factor`.
    fn expected(&self, factor: impl Fn(f32) -> f64, gradient: impl Fn(f32) -> f64) -> [Vec<f64>; 3] {
        let weights = self.layer.weights().len();
        let outputs = self.layer.output.channels;
        let bias = |o: usize| self.parameters.get(weights + o).map_or(0.0, |bias| f64::from(*bias));
        let mut results: Vec<f64> = (0..self.gradient.len()).map(|place| bias(place % outputs)).collect();
        let mut images = vec![0.0; self.source.len()];
        let mut parameters = vec![0.0; self.parameters.len()];
        let read: Vec<f64> = self.source.iter().map(|value| factor(*value)).collect();
        let with: Vec<f64> = self.parameters.iter().map(|value| factor(*value)).collect();
        let back: Vec<f64> = self.gradient.iter().map(|value| gradient(*value)).collect();
        self.products(|from, weight, to| {
            results[to] += read[from] * with[weight];
            images[from] += back[to] * with[weight];
            parameters[weight] += back[to] * read[from];
        });
        if self.layer.bias().is_some() {
            for (place, value) in back.iter().enumerate() {
                parameters[weights + place % outputs] += value;
            }
        }
        [results, images, parameters]
    }

    /// The same by the kernels.
    fn made(&self, client: &Client, products: Products, gradient_scale: f32) -> [Vec<f32>; 3] {
        let making = Making {
            client,
            products,
            gradient_scale,
        };
        let (layer, examples) = (&self.layer, self.examples);
        let [source, gradient] = [(&self.source, layer.input), (&self.gradient, layer.output)]
            .map(|(values, shape)| upload(client, &laid(values, shape)));
        let parameters = upload(client, &self.parameters);
        let packed = Packing::new(client, products, [(0, layer, None)]).pack(client, &parameters, &parameters);
        let packed = &packed[0].1;
        let [results, images] = [layer.output, layer.input].map(|shape| client.empty(bytes(shape, examples)));
        let of_parameters = client.empty(size_of_val(self.parameters.as_slice()));
        let plain = Epilogue::default();
        making.forward(layer, packed, (&source, examples), &results, &plain);
        making.image_gradient(layer, packed, (&gradient, examples), &images, &plain);
        making.weight_gradient(layer, (&source, &gradient, examples), &of_parameters);
        let picked = |handle: &Handle, shape: ImageShape| -> Vec<f32> {
            let all = read(client, handle);
            let rows = all.chunks(stored(shape.channels));
            rows.flat_map(|row| row[..shape.channels].to_vec()).collect()
        };
        [
            picked(&results, layer.output),
            picked(&images, layer.input),
            read(client, &of_parameters),
        ]
    }
}

fn rounded(value: f32) -> f64 {
    f64::from(f16::from_f32(value).to_f32())
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], label: &str) {
    assert_eq!(found.len(), expected.len(), "{label}");
    let most = expected.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Not `> allowed`: NaN must fail.
        let close = (f64::from(*found) - expected).abs() <= 1e-5 * most;
        assert!(
            close,
            "{label}: value {place} is {found}, expected {expected}, the largest {most}"
        );
    }
}

#[test]
fn convolutions_multiply_what_they_say_they_multiply() {
    let image = |channels, height, width| ImageShape {
        channels,
        height,
        width,
    };
    let layers = [
        (Layer::alone(image(16, 9, 7), 64, 3, [1, 1], false), 3),
        (Layer::alone(image(64, 8, 8), 128, 3, [2, 1], true), 5),
        (Layer::alone(image(20, 5, 6), 36, 3, [1, 1], true), 2),
        (Layer::alone(image(64, 7, 8), 132, 1, [2, 0], false), 2),
        (Layer::alone(image(32, 4, 4), 160, 2, [1, 0], false), 9),
        // By Winograd's products, all three or all but the weights' gradient: odd sides, no padding and more than is usual.
        (Layer::alone(image(128, 9, 7), 132, 3, [1, 1], true), 3),
        (Layer::alone(image(128, 6, 6), 128, 3, [1, 0], true), 2),
        (Layer::alone(image(132, 2, 3), 160, 3, [1, 2], false), 5),
        (Layer::alone(image(32, 5, 4), 36, 3, [1, 1], true), 3),
        // Enough for large tiles.
        (Layer::alone(image(16, 32, 32), 64, 3, [1, 1], true), 17),
        (Layer::alone(image(16, 16, 16), 256, 1, [1, 0], false), 20),
    ];
    let mut tried = 0;
    for device in gpus() {
        let client = client_of(&device);
        for (layer, examples) in layers {
            let case = Case::new(layer, examples, 1e-5);
            let label = |what: &str| format!("{what} of {} {layer:?} on {}", case.examples, device.info().name);
            let names = ["results", "gradient of what is read", "gradient of the parameters"];
            let single = case.expected(f64::from, f64::from);
            for ((found, expected), name) in case.made(&client, Products::Single, 1.0).iter().zip(&single).zip(names) {
                assert_close(found, expected, &label(name));
            }
            const SCALE: f32 = 65_536.0;
            let gradient = |value: f32| rounded(value * SCALE) / f64::from(SCALE);
            let half = case.expected(rounded, gradient);
            for ((half, single), name) in half.iter().zip(&single).zip(names) {
                assert!(half != single, "{}: rounding changes nothing", label(name));
            }
            let units = adapters::matrix_units(device.tensors()).map(Products::OnMatrixUnits);
            for products in [Some(Products::Rounded), units].into_iter().flatten() {
                for ((found, expected), name) in case.made(&client, products, SCALE).iter().zip(&half).zip(names) {
                    assert_close(found, expected, &label(&format!("{products:?}, {name}")));
                }
                tried += usize::from(products != Products::Rounded);
            }
        }
    }
    if tried == 0 {
        assert!(
            std::env::var_os("MARTLET_MATRIX_UNITS").is_none(),
            "no device has matrix units"
        );
        eprintln!("SKIPPED: products on matrix units, which no device here has; `.ci/matrix-units` brings one");
    }
}
