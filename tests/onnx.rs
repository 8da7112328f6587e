//! Every network as ONNX. What the files compute is compared with Martlet's logits by onnxruntime: `.ci/onnx` runs this test with a
//! folder in `MARTLET_ONNX`, and reads what it leaves there.

use std::{fs, path::PathBuf};

use martlet::{
    compute::{Device, read},
    data::{NpzValues, write_npz},
    nn::{Architecture, Mode, Model, onnx},
    random::Rng,
    shapes::ImageShape,
};

const NETWORKS: [(&str, [usize; 3]); 7] = [
    ("small-cnn", [1, 28, 28]),
    ("dynamic-cnn", [1, 28, 28]),
    ("cnn8", [3, 32, 32]),
    ("resnet-18", [3, 16, 16]),
    ("resnet-50", [3, 16, 16]),
    ("preact-resnet-18", [3, 16, 16]),
    ("wide-resnet-16-2", [3, 17, 15]),
];

/// A network whose running statistics are not those of a new one.
fn network(name: &str, [channels, height, width]: [usize; 3]) -> Model {
    let device = Device::cpu();
    let input = ImageShape {
        channels,
        height,
        width,
    };
    let architecture: Architecture = name.parse().unwrap();
    let mut model = Model::new(architecture, input, 10, &mut Rng::new(5), &device).unwrap();
    // A last layer that begins at zero would hide everything before it.
    model.set_parameters(model.parameters() + 0.001);
    let _ = model.forward(images(&model, 8), Mode::Train);
    model
}

fn images(model: &Model, count: usize) -> burn::tensor::Tensor<4> {
    let ImageShape {
        channels,
        height,
        width,
    } = model.input();
    let mut rng = Rng::new(9);
    let values: Vec<f32> = (0..count * model.input().len())
        .map(|_| rng.uniform(0.0, 1.0))
        .collect();
    let data = burn::tensor::TensorData::new(values, [count, channels, height, width]);
    burn::tensor::Tensor::from_data(data, Device::cpu().tensors())
}

/// How often a text of so many bytes stands in a file, as a protobuf string does: its length before it.
fn count(file: &[u8], text: &str) -> usize {
    let mut wanted = vec![text.len() as u8];
    wanted.extend(text.bytes());
    file.windows(wanted.len()).filter(|window| *window == wanted).count()
}

#[test]
fn a_file_holds_each_layer_once_and_each_weight() {
    let model = network("preact-resnet-18", [3, 32, 32]);
    let file = onnx::to_onnx(&model).unwrap();
    for (operator, times) in [
        ("Conv", 20),
        ("BatchNormalization", 17),
        ("Relu", 17),
        ("Add", 8),
        ("GlobalAveragePool", 1),
        ("Flatten", 1),
        ("Gemm", 1),
    ] {
        assert_eq!(count(&file, operator), times, "{operator}");
    }
    // Named once where it lies and once where it is read.
    for entry in model.layout().entries() {
        assert_eq!(count(&file, &entry.name), 2, "{}", entry.name);
    }
    assert_eq!(count(&file, "layer1.0.bn1.running_var"), 2);
    let weights = 4 * model.parameter_count();
    assert!(file.len() > weights && file.len() < weights + weights / 50 + 50_000);
}

#[test]
fn files_for_onnxruntime() {
    let kept = std::env::var_os("MARTLET_ONNX").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let folder = kept.unwrap_or_else(|| temporary.path().to_path_buf());
    for (name, input) in NETWORKS {
        let model = network(name, input);
        let path = folder.join(format!("{name}.onnx"));
        onnx::save_onnx(&model, &path).unwrap();
        assert!(
            fs::metadata(&path).unwrap().len() > 4 * model.parameter_count() as u64,
            "{name}"
        );
        let batch = images(&model, 3);
        let logits = read(model.forward(batch.clone(), Mode::Eval)).unwrap();
        let pixels = read(batch).unwrap();
        let [channels, height, width] = input;
        let arrays: [(&str, &[usize], NpzValues); 2] = [
            ("images", &[3, channels, height, width], NpzValues::F32(&pixels)),
            ("logits", &[3, 10], NpzValues::F32(&logits)),
        ];
        write_npz(&folder.join(format!("{name}.npz")), &arrays).unwrap();
    }
}

#[test]
fn a_normalisation_of_the_input_is_part_of_the_file() {
    let plain = network("small-cnn", [3, 28, 28]);
    let mut entries = plain.state().unwrap();
    for (name, values) in [("mu", [0.5, 0.4, 0.3]), ("sigma", [0.2, 0.25, 0.5])] {
        entries.push(martlet::nn::StateEntry {
            name: name.into(),
            shape: vec![1, 3, 1, 1],
            values: martlet::nn::StateValues::F32(values.to_vec()),
        });
    }
    let mut normalising = network("small-cnn", [3, 28, 28]);
    normalising.load_state(entries).unwrap();
    let [plain, normalising] = [plain, normalising].map(|model| onnx::to_onnx(&model).unwrap());
    for text in ["Sub", "Div", "normalised"] {
        assert_eq!(count(&plain, text), 0, "{text}");
        assert!(count(&normalising, text) > 0, "{text}");
    }
    // Read by the first step, and given as an initial value.
    assert_eq!(count(&normalising, "normalisation.mean"), 2);
}
