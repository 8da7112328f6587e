//! The hand-written kernels: valid WGSL, equal to their twins on every device, inside ball and range.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod support;

use burn::tensor::{Tensor, TensorData};
use martlet::{
    compute::{self, Device, Placement, host, kernels, profile, read, reference},
    random::Rng,
    shapes::{ImageShape, Images},
};
use support::devices;

fn images(values: Vec<f32>, shape: [usize; 4], device: &Device) -> Images {
    Tensor::from_data(TensorData::new(values, shape), device.tensors())
}

fn random(shape: [usize; 4], low: f32, high: f32, rng: &mut Rng) -> Vec<f32> {
    (0..shape.iter().product()).map(|_| rng.uniform(low, high)).collect()
}

/// Odd sizes: elements per image 1, 3, 65, 257, 3·11·13; and one of more than 2¹⁶ elements.
const SHAPES: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [3, 1, 1, 3],
    [7, 1, 5, 13],
    [1, 1, 1, 257],
    [3, 1, 257, 1],
    [7, 3, 11, 13],
    [1, 3, 32, 32],
    [70, 1, 31, 33],
    [66_000, 1, 1, 1],
];

struct Case {
    shape: [usize; 4],
    natural: Vec<f32>,
    current: Vec<f32>,
    gradient: Vec<f32>,
    epsilon: f32,
    step_size: f32,
}

/// Random cases with everything that gradients and images may hold at their borders.
fn cases() -> Vec<Case> {
    let mut rng = Rng::new(5);
    let mut cases = Vec::new();
    for shape in SHAPES {
        let budgets = [(0.3, 0.01), (8.0 / 255.0, 2.0 / 255.0), (0.0, 0.1), (1.5, 0.5)];
        // One workgroup for each example is slow on a software rasteriser: once is enough for the many examples.
        let budgets = &budgets[..if shape[0] > 1000 { 1 } else { budgets.len() }];
        for &(epsilon, step_size) in budgets {
            let mut natural = random(shape, 0.0, 1.0, &mut rng);
            let mut gradient: Vec<f32> = random(shape, -1.0, 1.0, &mut rng)
                .iter()
                .map(|value| value * value * value * 1e-3)
                .collect();
            for (index, value) in natural.iter_mut().enumerate() {
                match index % 11 {
                    3 => *value = 0.0,
                    5 => *value = 1.0,
                    _ => {}
                }
            }
            for (index, value) in gradient.iter_mut().enumerate() {
                match index % 13 {
                    2 => *value = 0.0,
                    4 => *value = -0.0,
                    6 => *value = f32::NAN,
                    _ => {}
                }
            }
            let current: Vec<f32> = natural
                .iter()
                .map(|value| (value + rng.uniform(-epsilon, epsilon)).clamp(0.0, 1.0))
                .collect();
            cases.push(Case {
                shape,
                natural,
                current,
                gradient,
                epsilon,
                step_size,
            });
        }
    }
    cases
}

impl Case {
    fn on(&self, device: &Device) -> [Images; 3] {
        [&self.natural, &self.current, &self.gradient].map(|values| images(values.clone(), self.shape, device))
    }

    fn label(&self, device: &Device) -> String {
        format!("{:?} epsilon {} on {}", self.shape, self.epsilon, device.info().name)
    }
}

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32, label: &str) {
    assert_eq!(actual.len(), expected.len(), "{label}");
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        // Not `> tolerance`: NaN must fail.
        let close = (actual - expected).abs() <= tolerance;
        assert!(close, "{label}: element {index} is {actual}, expected {expected}");
    }
}

#[test]
fn every_shader_is_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut shaders = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_string_lossy().to_string();
        // Constants that the program writes before a text, and the files that it puts between.
        let gradient = "const GRADIENT: bool = true;\n";
        let tiles = "const ROWS: u32 = 16u;\nconst COLUMNS: u32 = 8u;\nconst TEAMS: u32 = 1u;\n";
        let same = "const ROUND: bool = true;\nfn factor(value: vec4<f32>) -> vec4<f32> { return value; }\n";
        let matrices = "enable f16;\nenable wgpu_cooperative_matrix;\nalias Left = coop_mat16x16<f16, A>;\n\
            alias Right = coop_mat16x16<f16, B>;\nalias Sum = coop_mat16x16<f32, C>;\nconst SIZE: u32 = 16u;\n\
            const LANES: u32 = 32u;\nconst DEPTH: u32 = 32u;\nconst DOWN: u32 = 2u;\nconst ACROSS: u32 = 4u;\nconst HIGH: u32 = 4u;\n";
        let (constants, between): (&[&str], &[&str]) = match file.as_str() {
            "convolve" => (&[tiles, same, gradient], &["epilogue", "convolution"]),
            "convolve_half" => (&[matrices, gradient], &["epilogue", "convolution"]),
            "weight_gradient" => (&[same], &["weights"]),
            "weight_gradient_half" => (&[matrices], &["weights"]),
            "pointwise" => (&[], &["epilogue"]),
            "winograd" => (&["const BIAS: bool = true;\n"], &["epilogue"]),
            "winograd_source" | "winograd_gradient" => (&[], &["winograd_tiles"]),
            // No shaders by themselves.
            "epilogue" | "convolution" | "weights" | "winograd_tiles" => continue,
            _ => (&[], &[]),
        };
        let read = |name: &str| std::fs::read_to_string(path.with_file_name(format!("{name}.wgsl"))).unwrap();
        let between: String = between.iter().map(|name| read(name)).collect();
        let source = format!("{}{between}{}", constants.concat(), read(&file));
        let module = naga::front::wgsl::parse_str(&source).unwrap_or_else(|error| {
            panic!(
                "{}",
                error.emit_to_string_with_path(&source, path.display().to_string().as_str())
            )
        });
        use naga::valid::{Capabilities, ValidationFlags, Validator};
        let needed = if file.ends_with("_half") {
            Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP
        } else {
            Capabilities::empty()
        };
        let mut validator = Validator::new(ValidationFlags::all(), needed);
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        let twins = [
            format!("Twin: compute::reference::{file}"),
            "Twin: compute::reference::network".into(),
            "Twin: compute::logits".into(),
            "Twin: report::".into(),
        ];
        assert!(
            twins.iter().any(|twin| source.contains(twin)),
            "{file} does not name its twin"
        );
        shaders += 1;
    }
    assert_eq!(shaders, 27);
}

/// The form for this device: the kernel on a GPU, the fused loop on the processor. Never silently the composed twin.
fn linf_form(device: &Device, case: &Case) -> Images {
    let [natural, current, gradient] = case.on(device);
    let form = if device.is_cpu() {
        host::linf_ascend
    } else {
        kernels::linf_ascend
    };
    form(&natural, &current, &gradient, case.epsilon, case.step_size).unwrap()
}

fn l2_form(device: &Device, case: &Case) -> Images {
    let [natural, current, gradient] = case.on(device);
    let form = if device.is_cpu() {
        host::l2_ascend
    } else {
        kernels::l2_ascend
    };
    form(&natural, &current, &gradient, case.epsilon, case.step_size).unwrap()
}

#[test]
fn linf_ascend_equals_its_twin() {
    let cases = cases();
    for device in devices() {
        for case in &cases {
            let [natural, current, gradient] = case.on(&Device::cpu());
            let twin = reference::linf_ascend(natural, current, gradient, case.epsilon, case.step_size);
            let twin = compute::read(twin).unwrap();
            let actual = compute::read(linf_form(&device, case)).unwrap();
            // Sums of two f32 values, correctly rounded everywhere.
            assert_close(&actual, &twin, f32::EPSILON / 2.0, &case.label(&device));
        }
    }
}

#[test]
fn l2_ascend_equals_its_twin() {
    let cases = cases();
    for device in devices() {
        for case in &cases {
            let [natural, current, gradient] = case.on(&Device::cpu());
            let twin = reference::l2_ascend(natural, current, gradient, case.epsilon, case.step_size);
            let twin = compute::read(twin).unwrap();
            let actual = compute::read(l2_form(&device, case)).unwrap();
            assert_close(&actual, &twin, 1e-6, &case.label(&device));
        }
    }
}

#[test]
fn the_twins_themselves_run_on_every_device() {
    let case = &cases()[20];
    for device in devices() {
        let [natural, current, gradient] = case.on(&device);
        let composed = [reference::linf_ascend, reference::l2_ascend].map(|twin| {
            twin(
                natural.clone(),
                current.clone(),
                gradient.clone(),
                case.epsilon,
                case.step_size,
            )
        });
        let chosen = [compute::linf_ascend, compute::l2_ascend].map(|twin| {
            twin(
                natural.clone(),
                current.clone(),
                gradient.clone(),
                case.epsilon,
                case.step_size,
            )
        });
        for (composed, chosen) in composed.into_iter().zip(chosen) {
            let (composed, chosen) = (compute::read(composed).unwrap(), compute::read(chosen).unwrap());
            assert_close(&chosen, &composed, 1e-6, &case.label(&device));
        }
    }
}

#[test]
fn ascending_stays_in_the_ball_and_in_range() {
    for device in devices() {
        for case in &cases() {
            let label = case.label(&device);
            let length = case.shape[1..].iter().product::<usize>();
            for (index, value) in compute::read(linf_form(&device, case)).unwrap().iter().enumerate() {
                assert!((0.0..=1.0).contains(value), "{label}: {value}");
                let distance = f64::from(*value) - f64::from(case.natural[index]);
                let allowed = f64::from(case.epsilon) + f64::from(f32::EPSILON) / 4.0;
                assert!(distance.abs() <= allowed, "{label}: {distance}");
            }
            let moved = compute::read(l2_form(&device, case)).unwrap();
            for (moved, natural) in moved.chunks(length).zip(case.natural.chunks(length)) {
                assert!(moved.iter().all(|value| (0.0..=1.0).contains(value)), "{label}");
                let squares = moved
                    .iter()
                    .zip(natural)
                    .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
                let distance = squares.sum::<f64>().sqrt();
                let allowed = f64::from(case.epsilon) * (1.0 + 1e-6) + (length as f64).sqrt() * 3e-8;
                assert!(distance <= allowed, "{label}: {distance}");
            }
        }
    }
}

#[test]
fn a_gradient_of_zeros_or_nan_moves_nothing() {
    for device in devices() {
        for hole in [0.0, -0.0, f32::NAN] {
            let shape = [3, 1, 5, 13];
            let natural = random(shape, 0.2, 0.8, &mut Rng::new(1));
            let at = images(natural.clone(), shape, &device);
            let gradient = images(vec![hole; natural.len()], shape, &device);
            for ascend in [compute::linf_ascend, compute::l2_ascend] {
                let moved = compute::read(ascend(at.clone(), at.clone(), gradient.clone(), 0.1, 0.05)).unwrap();
                assert_eq!(moved, natural, "{hole} on {:?}", device);
            }
        }
    }
}

#[test]
fn small_gradients_still_give_a_full_step() {
    for device in devices() {
        for size in [1e-3_f32, 1e-20, 1e-30] {
            let shape = [2, 1, 1, 4];
            let at = images(vec![0.5; 8], shape, &device);
            let gradient = images(
                [[1.0, -1.0, 1.0, -1.0]; 2]
                    .concat()
                    .iter()
                    .map(|v: &f32| v * size)
                    .collect(),
                shape,
                &device,
            );
            let l2 = compute::read(compute::l2_ascend(at.clone(), at.clone(), gradient.clone(), 1.0, 0.2)).unwrap();
            let linf = compute::read(compute::linf_ascend(at.clone(), at.clone(), gradient, 1.0, 0.1)).unwrap();
            let expected = [[0.6, 0.4, 0.6, 0.4]; 2].concat();
            assert_close(&l2, &expected, 1e-6, &format!("l2 {size} on {:?}", device));
            assert_close(&linf, &expected, 1e-6, &format!("linf {size} on {:?}", device));
        }
    }
}

#[test]
fn views_are_followed_not_their_memory() {
    for device in devices() {
        let mut rng = Rng::new(9);
        let wide = [5, 2, 8, 12];
        let make = |rng: &mut Rng| images(random(wide, 0.0, 1.0, rng), wide, &device);
        let (natural, current, gradient) = (make(&mut rng), make(&mut rng), make(&mut rng) - 0.5);
        // A transposed and a sliced view: strides and an offset into the buffer.
        let view = |image: &Images| image.clone().swap_dims(2, 3).slice([1..4, 0..2, 3..10, 1..6]);
        let (natural, current, gradient) = (view(&natural), view(&current), view(&gradient));
        for (ascend, twin) in [
            (
                compute::linf_ascend as fn(_, _, _, _, _) -> _,
                reference::linf_ascend as fn(_, _, _, _, _) -> _,
            ),
            (compute::l2_ascend, reference::l2_ascend),
        ] {
            let [natural, current, gradient] = [&natural, &current, &gradient].map(Clone::clone);
            let actual: Images = ascend(natural.clone(), current.clone(), gradient.clone(), 0.2_f32, 0.1_f32);
            let twin: Images = twin(natural, current, gradient, 0.2_f32, 0.1_f32);
            assert_eq!(actual.dims(), [3, 2, 7, 5]);
            assert_close(
                &compute::read(actual).unwrap(),
                &compute::read(twin).unwrap(),
                1e-6,
                &format!("{device:?}"),
            );
        }
    }
}

#[test]
fn images_made_on_another_thread_are_waited_for() {
    for device in devices() {
        let there = device.clone();
        let shape = [64, 1, 28, 28];
        let made = std::thread::spawn(move || {
            let half = Tensor::<4>::full(shape, 0.25, there.tensors());
            (half.clone() + half.clone(), half * 0.04)
        });
        let (natural, gradient) = made.join().unwrap();
        let moved = compute::linf_ascend(natural.clone(), natural, gradient, 0.3, 0.1);
        assert_close(
            &compute::read(moved).unwrap(),
            &vec![0.6; 64 * 784],
            1e-6,
            &format!("{device:?}"),
        );
    }
}

#[test]
fn autodiff_images_are_taken_as_values() {
    for device in devices() {
        let image = Tensor::<4>::full([1, 1, 2, 2], 0.5, device.tensors())
            .autodiff()
            .require_grad();
        let moved = compute::linf_ascend(image.clone(), image.clone(), image, 0.3, 0.1);
        assert!(!moved.device().is_autodiff());
        assert_close(&compute::read(moved).unwrap(), &[0.6; 4], 1e-6, "autodiff");
    }
}

#[test]
fn an_empty_batch_stays_empty() {
    let device = Device::cpu();
    let none = Tensor::<4>::zeros([0, 1, 2, 2], device.tensors());
    assert_eq!(
        compute::linf_ascend(none.clone(), none.clone(), none, 0.3, 0.1).dims(),
        [0, 1, 2, 2]
    );
}

fn placements(count: usize, pad: usize, rng: &mut Rng) -> Vec<Placement> {
    let offset = |rng: &mut Rng| rng.below(2 * pad + 1) as u32;
    (0..count)
        .map(|_| Placement {
            dy: offset(rng),
            dx: offset(rng),
            flip: rng.chance(0.5),
        })
        .collect()
}

#[test]
fn pad_crop_flip_equals_its_twin() {
    let mut rng = Rng::new(3);
    for device in devices() {
        for (count, channels, height, width, pad) in [
            (1, 1, 1, 1, 0),
            (1, 1, 1, 3, 1),
            (3, 1, 5, 13, 2),
            (7, 3, 11, 13, 4),
            (2, 3, 32, 32, 4),
            (70, 1, 31, 33, 9),
        ] {
            let shape = ImageShape {
                channels,
                height,
                width,
            };
            let bytes: Vec<u8> = (0..count * shape.len()).map(|_| rng.below(256) as u8).collect();
            let placements = placements(count, pad, &mut rng);
            let twin = reference::pad_crop_flip(&bytes, shape, pad, &placements, &Device::cpu());
            let actual = if device.is_cpu() {
                compute::pad_crop_flip(&bytes, shape, pad, &placements, &device)
            } else {
                kernels::pad_crop_flip(&bytes, shape, pad, &placements, &device).unwrap()
            };
            assert_eq!(actual.dims(), [count, channels, height, width]);
            let (actual, twin) = (compute::read(actual).unwrap(), compute::read(twin).unwrap());
            assert_close(
                &actual,
                &twin,
                f32::EPSILON / 2.0,
                &format!("{count}x{shape} pad {pad} on {device:?}"),
            );
        }
    }
}

#[test]
fn pad_crop_flip_places_pixels_where_it_says() {
    let shape = ImageShape {
        channels: 1,
        height: 2,
        width: 3,
    };
    let bytes = [[51, 102, 153, 204, 255, 0]; 5].concat();
    let placement = |dy, dx, flip| Placement { dy, dx, flip };
    let placements = [
        placement(1, 1, false),
        placement(1, 1, true),
        placement(0, 1, false), // everything one row down
        placement(1, 2, false), // everything one column left
        placement(2, 0, true),  // up, right, then mirrored
    ];
    let expected = [
        [0.2, 0.4, 0.6, 0.8, 1.0, 0.0],
        [0.6, 0.4, 0.2, 0.0, 1.0, 0.8],
        [0.0, 0.0, 0.0, 0.2, 0.4, 0.6],
        [0.4, 0.6, 0.0, 1.0, 0.0, 0.0],
        [1.0, 0.8, 0.0, 0.0, 0.0, 0.0],
    ]
    .concat();
    for device in devices() {
        let placed = compute::read(compute::pad_crop_flip(&bytes, shape, 1, &placements, &device)).unwrap();
        assert_close(&placed, &expected, 1e-7, &format!("{device:?}"));
        assert!(placed.iter().all(|value| *value <= 1.0));
    }
}

#[test]
fn five_hundred_launches_do_not_grow_memory() {
    let shape = [32, 3, 16, 16];
    let mut rng = Rng::new(2);
    for device in devices().into_iter().filter(|device| !device.is_cpu()) {
        let natural = images(random(shape, 0.0, 1.0, &mut rng), shape, &device);
        let gradient = images(random(shape, -1.0, 1.0, &mut rng), shape, &device);
        let mut current = natural.clone();
        let mut used = Vec::new();
        for step in 0..500_u32 {
            // A new step size each time, so that parameters are not only looked up.
            let step_size = 0.01 + step as f32 * 1e-6;
            current = compute::linf_ascend(natural.clone(), current, gradient.clone(), 0.1, step_size);
            current = compute::l2_ascend(natural.clone(), current, gradient.clone(), 0.1, step_size);
            if step % 100 == 99 {
                device.sync().unwrap();
                used.push(device.memory_bytes_in_use().unwrap());
            }
        }
        // The figure is the whole device's, other tests included: hence some room. A leak of each result would be 98 MB.
        let grown = used[4].saturating_sub(used[0]);
        assert!(grown < 8 << 20, "{used:?}");
    }
}

#[test]
fn the_peak_is_measured_on_sums_that_were_made() {
    let Some(device) = support::vulkan() else { return };
    let expected = reference::peak(100) as f32;
    let sums = read(profile::chains(&device, 2, 100).unwrap()).unwrap();
    assert_eq!(sums.len(), 512);
    assert!(
        sums.iter().all(|sum| (sum - expected).abs() < 1e-4),
        "{} for {expected}",
        sums[0]
    );
    assert!(profile::peak(&device).unwrap().is_some_and(|rate| rate > 1e6));
    assert!(profile::chains(&Device::cpu(), 2, 100).is_none());
}
