//! Each hand-written form against the composed operations that it replaces, on the processor and on every device that
//! `--device` or the environment variable `MARTLET_DEVICE` names:
//!
//! ```text
//! cargo bench --bench kernels -- --device lavapipe --device gpu:0
//! ```
//!
//! The two forms take turns, so that whatever else the machine does meets both. A figure is the median over rounds of
//! the time of one step in a chain of ten, the device having finished.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use martlet::{
    compute::{self, Device, Placement, host, kernels, reference},
    random::Rng,
    shapes::{ImageShape, Images},
};

const CHAIN: usize = 10;
const ROUNDS: usize = 21;

type Step<'a> = Box<dyn Fn(Images) -> Images + 'a>;

fn main() -> anyhow::Result<()> {
    let mut names = vec!["cpu".to_string()];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--device" {
            names.extend(arguments.next());
        }
    }
    names.extend(std::env::var("MARTLET_DEVICE"));
    for name in names {
        let device = compute::open(&name)?;
        let info = device.info();
        println!("\n{} · {} · {} · {}\n", info.selector, info.name, info.api, info.driver);
        println!(
            "| operation | images | {} | composed | ratio |",
            if device.is_cpu() { "fused loop" } else { "kernel" }
        );
        println!("|---|---|---|---|---|");
        for shape in [[128, 1, 28, 28], [128, 3, 32, 32]] {
            ascents(&device, shape)?;
            placing(&device, shape)?;
        }
    }
    Ok(())
}

fn random(shape: [usize; 4], low: f32, high: f32, device: &Device) -> Images {
    let mut rng = Rng::new(1);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform(low, high)).collect();
    Tensor::from_data(TensorData::new(values, shape), device.tensors())
}

type Twin = fn(Images, Images, Images, f32, f32) -> Images;
type Form = fn(&Images, &Images, &Images, f32, f32) -> Option<Images>;

fn ascents(device: &Device, shape: [usize; 4]) -> anyhow::Result<()> {
    let natural = random(shape, 0.0, 1.0, device);
    let gradient = random(shape, -1e-3, 1e-3, device);
    let forms: [(&str, Form, Twin); 2] = if device.is_cpu() {
        [
            ("linf_ascend", host::linf_ascend, reference::linf_ascend),
            ("l2_ascend", host::l2_ascend, reference::l2_ascend),
        ]
    } else {
        [
            ("linf_ascend", kernels::linf_ascend, reference::linf_ascend),
            ("l2_ascend", kernels::l2_ascend, reference::l2_ascend),
        ]
    };
    for (name, form, twin) in forms {
        let written: Step = Box::new(|current| form(&natural, &current, &gradient, 0.03, 0.01).unwrap_or(current));
        let composed: Step = Box::new(|current| twin(natural.clone(), current, gradient.clone(), 0.03, 0.01));
        row(name, shape, device, &natural, &written, &composed)?;
    }
    Ok(())
}

fn placing(device: &Device, [count, channels, height, width]: [usize; 4]) -> anyhow::Result<()> {
    let shape = ImageShape {
        channels,
        height,
        width,
    };
    let mut rng = Rng::new(2);
    let bytes: Vec<u8> = (0..count * shape.len()).map(|_| rng.below(256) as u8).collect();
    let placements: Vec<Placement> = (0..count)
        .map(|_| Placement {
            dy: rng.below(9) as u32,
            dx: rng.below(9) as u32,
            flip: rng.chance(0.5),
        })
        .collect();
    if device.is_cpu() {
        return Ok(()); // One form only: the placing loop is the composed form.
    }
    let images = Tensor::zeros([1, 1, 1, 1], device.tensors());
    let written: Step =
        Box::new(|current| kernels::pad_crop_flip(&bytes, shape, 4, &placements, device).unwrap_or(current));
    let composed: Step = Box::new(|_| reference::pad_crop_flip(&bytes, shape, 4, &placements, device));
    row(
        "pad_crop_flip",
        [count, channels, height, width],
        device,
        &images,
        &written,
        &composed,
    )
}

fn row(
    name: &str,
    shape: [usize; 4],
    device: &Device,
    start: &Images,
    written: &Step,
    composed: &Step,
) -> anyhow::Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (times, step) in times.iter_mut().zip([written, composed]) {
            device.sync()?;
            let begun = Instant::now();
            let mut current = start.clone();
            for _ in 0..CHAIN {
                current = step(current);
            }
            device.sync()?;
            // The first round compiles.
            if round > 0 {
                times.push(begun.elapsed().as_secs_f64() * 1e3 / CHAIN as f64);
            }
        }
    }
    let [written, composed] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let [count, channels, height, width] = shape;
    println!(
        "| {name} | {count}×{channels}×{height}×{width} | {written:.3} ms | {composed:.3} ms | {:.2} |",
        composed / written
    );
    Ok(())
}
