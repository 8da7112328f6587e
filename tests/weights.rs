//! Weights as other programs lay them out: read right, told, or refused as what they are with the way out.

mod support;

use std::{collections::BTreeMap, fs, path::Path, process::Command, str::FromStr};

use burn::tensor::Tensor;
use martlet::{
    compute::{Device, read},
    nn::{Architecture, LoadReport, Mode, Model, Normalisation, StateEntry, StateValues, WeightsError, onnx, weights},
    random::Rng,
    shapes::ImageShape,
};
use safetensors::{Dtype, tensor::TensorView};
use support::{COLOUR, GREY};

fn model(name: &str, input: ImageShape) -> Model {
    let architecture = Architecture::from_str(name).unwrap();
    Model::new(architecture, input, 10, &mut Rng::new(1), &Device::cpu()).unwrap()
}

const WIDE: &str = "wide-resnet-10-1";

/// The network under other names.
fn under(prefix: &str, entries: &[StateEntry]) -> Vec<StateEntry> {
    let named = entries.iter().cloned().map(|entry| StateEntry {
        name: format!("{prefix}{}", entry.name),
        ..entry
    });
    named.collect()
}

fn tensor(name: &str, shape: &[usize], value: f32) -> StateEntry {
    StateEntry {
        name: name.into(),
        shape: shape.to_vec(),
        values: StateValues::F32(vec![value; shape.iter().product()]),
    }
}

/// Writes them as another program's safetensors does.
fn save(path: &Path, entries: &[StateEntry]) {
    let bytes = |entry: &StateEntry| match &entry.values {
        StateValues::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
        StateValues::I64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let held: Vec<(&StateEntry, Vec<u8>)> = entries.iter().map(|entry| (entry, bytes(entry))).collect();
    let views = held.iter().map(|(entry, bytes)| {
        let kind = match entry.values {
            StateValues::F32(_) => Dtype::F32,
            StateValues::I64(_) => Dtype::I64,
        };
        let view = TensorView::new(kind, entry.shape.clone(), bytes).unwrap();
        (entry.name.as_str(), view)
    });
    let about = [("format".to_string(), "pt".to_string())].into();
    fs::write(path, safetensors::serialize(views, Some(about)).unwrap()).unwrap();
}

fn logits(model: &Model) -> Vec<f32> {
    let shape = model.input();
    let x = Tensor::<4>::full(
        [1, shape.channels, shape.height, shape.width],
        0.5,
        Device::cpu().tensors(),
    );
    read(model.forward(x, Mode::Eval)).unwrap()
}

fn loaded(entries: Vec<StateEntry>) -> LoadReport {
    model(WIDE, COLOUR).load_state(entries).unwrap()
}

// ----------------------------------------------------------------------------------------- normalisation

#[test]
fn a_file_that_says_nothing_of_a_normalisation_is_told_until_a_person_states_it() {
    let folder = tempfile::tempdir().unwrap();
    let original = model(WIDE, COLOUR);
    let (bare, with) = (
        folder.path().join("bare.safetensors"),
        folder.path().join("with.safetensors"),
    );
    save(&bare, &original.state().unwrap());
    let pair = [tensor("mu", &[3], 0.125), tensor("sigma", &[3], 0.5)];
    save(&with, &[original.state().unwrap(), pair.to_vec()].concat());

    let mut said = model(WIDE, COLOUR);
    let mut of_the_file = weights::load(&with, &mut said).unwrap();
    assert!(!of_the_file.unsaid && !said.is_normalisation_unsaid());
    let mut stated = model(WIDE, COLOUR);
    let mut report = weights::load(&bare, &mut stated).unwrap();
    assert!(report.unsaid && report.has_remarks() && stated.clone().is_normalisation_unsaid());
    assert_eq!(
        report.to_string(),
        "pixels go in as they are, in [0, 1]: where the file's own program normalises them, say so with --normalise MEAN/STD"
    );
    assert_ne!(logits(&stated), logits(&said));

    // What is stated is what the file would have said, everywhere.
    let normalisation = Normalisation::parse("0.125/0.5", 3).unwrap();
    report.normalise(&mut stated, normalisation.clone()).unwrap();
    assert!(!report.has_remarks() && !stated.is_normalisation_unsaid());
    assert_eq!(logits(&stated), logits(&said));
    assert!(onnx::to_onnx(&stated).unwrap() == onnx::to_onnx(&said).unwrap());
    // Zero and one say that pixels go in as they are.
    let mut plain = model(WIDE, COLOUR);
    let mut report = weights::load(&bare, &mut plain).unwrap();
    report
        .normalise(&mut plain, Normalisation::parse("0/1", 3).unwrap())
        .unwrap();
    assert!(plain.normalisation().is_none() && !plain.is_normalisation_unsaid());

    // What is stated stands for what could not be read.
    save(
        &bare,
        &[
            original.state().unwrap(),
            vec![tensor("MEAN", &[3], 0.5), tensor("temperature", &[], 2.0)],
        ]
        .concat(),
    );
    let mut report = weights::load(&bare, &mut plain).unwrap();
    assert_eq!(report.normalisation, ["MEAN", "temperature"]);
    report.normalise(&mut plain, normalisation.clone()).unwrap();
    assert_eq!(
        (report.normalisation.as_slice(), logits(&plain)),
        (&["temperature".to_string()][..], logits(&said))
    );

    // The file's own is not overruled.
    of_the_file.normalise(&mut said, normalisation).unwrap();
    let other = Normalisation::parse("0.5/0.5", 3).unwrap();
    assert_eq!(
        of_the_file.normalise(&mut said, other.clone()).unwrap_err().to_string(),
        "expected the file's own, 0.125,0.125,0.125/0.5,0.5,0.5 (mu, sigma), got 0.5,0.5,0.5/0.5,0.5,0.5; leave it out, and the file's own is applied"
    );
    let grey = Normalisation::parse("0.5/0.5", 1).unwrap();
    assert!(said.set_normalisation(grey).is_err());
}

#[test]
fn martlets_own_files_say_what_they_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let mut model = model(WIDE, COLOUR);
    weights::save_safetensors(&model, &path, &BTreeMap::new()).unwrap();
    assert!(!weights::load(&path, &mut model).unwrap().has_remarks());

    // A run's weights are, wherever they lie in it.
    let checkpoint = folder.path().join("run/checkpoints/last-000001");
    fs::create_dir_all(&checkpoint).unwrap();
    fs::write(folder.path().join("run/run.json"), "{}").unwrap();
    for place in [checkpoint, folder.path().join("run/checkpoints")] {
        let path = place.join("last.safetensors");
        save(&path, &model.state().unwrap());
        assert!(!weights::load(&path, &mut model).unwrap().has_remarks());
    }

    // An export of weights whose normalisation nobody said does not make them Martlet's own.
    let foreign = folder.path().join("foreign.safetensors");
    save(&foreign, &model.state().unwrap());
    assert!(weights::load(&foreign, &mut model).unwrap().unsaid);
    weights::save_safetensors(&model, &path, &BTreeMap::new()).unwrap();
    assert!(weights::load(&path, &mut model).unwrap().unsaid);
    // States without a file raise nothing.
    assert!(!model.load_state(model.state().unwrap()).unwrap().has_remarks());
    assert!(!model.is_normalisation_unsaid());
}

#[test]
fn a_normalisation_that_nobody_said_goes_with_the_figure() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("result.json");
    let run = Command::new(env!("CARGO_BIN_EXE_martlet"))
        .args([
            "evaluate",
            "tests/golden/arch/smallcnn.pt",
            "--network",
            "small-cnn",
            "--dataset",
            "glyphs",
        ])
        .args([
            "--epsilon",
            "0.1",
            "--attacks",
            "natural",
            "--limit",
            "16",
            "--no-probes",
            "--device",
            "cpu",
        ])
        .arg("--json")
        .arg(&json)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success() && said.contains("say so with --normalise MEAN/STD"),
        "{said}"
    );
    assert!(fs::read_to_string(json).unwrap().contains("\"normalisation-unsaid\""));
}

#[test]
fn only_the_networks_own_normalisation_is_applied() {
    let state = model(WIDE, COLOUR).state().unwrap();
    let pair = |module: &str, mean: f32| {
        [
            tensor(&format!("{module}mean"), &[1, 3, 1, 1], mean),
            tensor(&format!("{module}std"), &[1, 3, 1, 1], 0.25),
        ]
    };
    // robustness: the normaliser beside the model, and an attacker that holds both once more.
    let robustness = [
        under("module.model.", &state),
        pair("module.normalizer.new_", 0.5).to_vec(),
        under("module.attacker.model.", &state),
        pair("module.attacker.normalize.new_", 0.5).to_vec(),
    ];
    let report = loaded(robustness.concat());
    assert_eq!(
        report.normalised_by,
        ["module.normalizer.new_mean", "module.normalizer.new_std"]
    );
    assert!(report.ignored.is_empty() && report.normalisation.is_empty() && report.networks.is_empty());

    // A teacher's is the teacher's.
    let teacher = [under("student.", &state), pair("teacher.normalize.", 0.5).to_vec()].concat();
    let report = loaded(teacher);
    assert!(report.normalised_by.is_empty());
    assert_eq!(
        report.normalisation,
        ["teacher.normalize.mean", "teacher.normalize.std"]
    );

    // Two networks, each with its own.
    let mut other = state.clone();
    other[0] = tensor(&other[0].name, &other[0].shape, 0.5);
    let both = [
        under("a.", &state),
        pair("a.", 0.5).to_vec(),
        under("b.", &other),
        pair("b.", 0.25).to_vec(),
    ];
    let report = loaded(both.concat());
    assert_eq!(report.normalised_by, ["a.mean", "a.std"]);
    assert!(report.normalisation.is_empty());

    // Single values of a calibration, a prior, an accuracy.
    for (names, is_doubtful) in [
        (["calibrator.scale", "calibrator.shift"], true),
        (["prior.mu", "prior.sigma"], true),
        (["accuracy.mean", "accuracy.std"], false),
    ] {
        let report = loaded([under("net.", &state), names.map(|name| tensor(name, &[], 0.5)).to_vec()].concat());
        assert!(report.normalised_by.is_empty(), "{report}");
        assert_eq!(report.normalisation.len(), if is_doubtful { 2 } else { 0 }, "{report}");
    }
}

#[test]
fn what_may_be_part_of_the_files_model_is_told() {
    let state = model(WIDE, COLOUR).state().unwrap();
    for (prefix, names, shape) in [
        ("", ["MEAN", "STD"], &[1, 3, 1, 1][..]),
        ("", ["CIFAR_mean", "CIFAR_std"], &[3]),
        ("net.", ["scaling_layer.scale", "scaling_layer.shift"], &[1, 3, 1, 1]),
        ("1.", ["0.running_mean", "0.running_var"], &[3]),
        ("1.", ["0.bias", "0.weight"], &[3]),
        ("", ["denoise.conv.weight", "temperature"], &[4]),
    ] {
        let report = loaded(
            [
                under(prefix, &state),
                names.map(|name| tensor(name, shape, 0.5)).to_vec(),
            ]
            .concat(),
        );
        assert_eq!(report.normalisation, names);
        assert!(
            report
                .to_string()
                .contains("may be part of what the file's own model computes"),
            "{report}"
        );
    }
    let training = [
        tensor("optimizer.state.0.momentum_buffer", &[3], 0.5),
        tensor("module.sub_block1.layer.0.bn1.weight", &[3], 0.5),
        tensor("best_prec1", &[], 93.1),
    ];
    let report = loaded([state, training.to_vec()].concat());
    assert_eq!((report.ignored.len(), report.normalisation.len()), (3, 0), "{report}");
}

// --------------------------------------------------------------------------------------- several files

#[test]
fn weights_in_several_files_are_read_by_any_of_them_where_all_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let original = model(WIDE, COLOUR);
    let state = original.state().unwrap();
    let parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let (first, second) = state.split_at(state.len() / 2);
    save(&at(parts[0]), first);
    save(&at(parts[1]), second);
    let index = |files: [&str; 2]| {
        let names = |part: &[StateEntry], file: &str| {
            let names = part.iter().map(|entry| format!("{:?}: {file:?}", entry.name));
            names.collect::<Vec<_>>().join(",")
        };
        format!(
            "{{\"weight_map\": {{{}, {}}}}}",
            names(first, files[0]),
            names(second, files[1])
        )
    };
    fs::write(at("model.safetensors.index.json"), index(parts)).unwrap();
    for path in [
        folder.path().to_path_buf(),
        at("model.safetensors.index.json"),
        at(parts[0]),
        at(parts[1]),
    ] {
        let mut copy = Model::new(original.architecture(), COLOUR, 10, &mut Rng::new(2), &Device::cpu()).unwrap();
        weights::load(&path, &mut copy).unwrap();
        assert_eq!(copy.state().unwrap(), state, "{}", path.display());
    }
    assert_eq!(
        weights::weights_in(folder.path()),
        Some(at("model.safetensors.index.json"))
    );

    let said = |path: &Path| weights::read_state(path).unwrap_err().to_string();
    fs::remove_file(at(parts[1])).unwrap();
    for path in [at("model.safetensors.index.json"), at(parts[0])] {
        let missing = "a part of weights in 2 files without model-00002-of-00002.safetensors; fetch those too, into the same folder";
        assert!(said(&path).contains(missing), "{}", said(&path));
    }
    // An index leads nowhere else.
    fs::write(
        at("model.safetensors.index.json"),
        index(["../a.safetensors", "/b.safetensors"]),
    )
    .unwrap();
    assert!(said(&at("model.safetensors.index.json")).contains("a weight_map of files beside it"));

    let empty = tempfile::tempdir().unwrap();
    assert!(weights::weights_in(empty.path()).is_none());
    assert!(said(empty.path()).contains("a folder with model.safetensors or pytorch_model.bin, got one without any"));
    save(&empty.path().join("model.safetensors"), &state);
    assert_eq!(weights::read_state(empty.path()).unwrap().len(), state.len());
}

#[cfg(unix)]
#[test]
fn a_pipe_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let said = weights::read_state(&pipe).unwrap_err().to_string();
    assert!(
        said.starts_with(
            "expected a file of weights, got a pipe, which can be read only once; save it to a file, and name that: "
        ),
        "{said}"
    );
}

// --------------------------------------------------------------------------------------- other forms

#[test]
fn files_in_another_form_are_told_as_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let golden = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/arch/wrn10-1.pt")).unwrap();
    let zipped = {
        use std::io::{Cursor, Write};
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("inner/t.pt", zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(&golden).unwrap();
        zip.finish().unwrap().into_inner()
    };
    for (name, bytes, words) in [
        (
            "t.pt.gz",
            &b"\x1f\x8b\x08\x00"[..],
            "a file packed by gzip; unpack it: gunzip \"t.pt.gz\"",
        ),
        ("config.json", b"{\"a\": 1}", "a JSON text"),
        (
            "notes.pt",
            b"some words\nmore",
            "a text that begins with \"some words\"",
        ),
        (
            "down.zip",
            &zipped,
            "a zip that holds inner/t.pt; unpack it: unzip \"down.zip\" \"inner/t.pt\"",
        ),
        (
            "cut.pt",
            &golden[..golden.len() / 2],
            "without its end, cut short or damaged; copy or fetch it again",
        ),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let said = weights::read_state(&path).unwrap_err().to_string();
        assert!(said.contains(words) && !said.contains("something else"), "{said}");
    }
}

#[test]
fn weights_of_another_form_name_the_line_that_makes_plain_ones() {
    let said = |rename: &dyn Fn(&str) -> String, more: &[&str]| {
        let state = model(WIDE, COLOUR).state().unwrap();
        let renamed = state.into_iter().map(|entry| StateEntry {
            name: rename(&entry.name),
            ..entry
        });
        let more = more.iter().map(|name| tensor(name, &[1], 0.5));
        match model(WIDE, COLOUR).load_state(renamed.chain(more).collect()) {
            Err(WeightsError::Mismatch { suggestion, .. }) => suggestion,
            other => panic!("{other:?}"),
        }
    };
    let fc = |to: &'static str| move |name: &str| name.replace("fc.weight", to);
    for (to, more, what) in [
        (
            "fc.weight_orig",
            &["fc.weight_mask"][..],
            "pruned weights with their masks; in Python",
        ),
        (
            "fc.weight_orig",
            &["fc.weight_u", "fc.weight_v"],
            "weights in spectral normalisation; in Python",
        ),
        (
            "fc.weight_v",
            &["fc.weight_g"],
            "weights in weight normalisation; in Python",
        ),
        (
            "fc.parametrizations.weight.original1",
            &["fc.parametrizations.weight.original0"],
            "weights in weight normalisation; in Python",
        ),
        (
            "fc.parametrizations.weight.original",
            &["fc.parametrizations.weight.0._u", "fc.parametrizations.weight.0._v"],
            "weights in spectral normalisation; in Python",
        ),
        ("fc.parametrizations.weight.original", &[], "remove_parametrizations"),
    ] {
        let said = said(&fc(to), more);
        assert!(said.contains(what) && said.ends_with("\"weights.pt\")"), "{said}");
    }
    let said = said(&|name| format!("other.{}", name.replace("block", "group")), &[]);
    assert!(
        said.starts_with("; no network of Martlet fits them: they are other."),
        "{said}"
    );

    let torchvision = model("resnet-18", COLOUR).state().unwrap().into_iter();
    let torchvision: Vec<StateEntry> = torchvision
        .map(|entry| StateEntry {
            name: entry.name.replace("shortcut", "downsample").replace("linear", "fc"),
            ..entry
        })
        .collect();
    let mut target = model("resnet-18", COLOUR);
    let said = target.load_state(torchvision.clone()).unwrap_err().to_string();
    assert!(
        said.contains("under torchvision's names they are those of --network resnet-18"),
        "{said}"
    );
    let mut large = torchvision;
    large[0] = tensor("conv1.weight", &[64, 3, 7, 7], 0.5);
    let said = target.load_state(large).unwrap_err().to_string();
    assert!(
        said.contains("for large images, with a first convolution of 7×7 and a pool"),
        "{said}"
    );
}

#[test]
fn other_images_or_classes_are_said_of_those_alone() {
    let said = |entries: Vec<StateEntry>| model("small-cnn", GREY).load_state(entries).unwrap_err().to_string();
    let words = "trained for other images or classes";
    assert!(said(model("small-cnn", COLOUR).state().unwrap()).contains(words));
    let mut scored = model("small-cnn", GREY).state().unwrap();
    scored.push(tensor("feature_extractor.conv1.popup_scores", &[32, 1, 3, 3], 0.5));
    let said = said(scored);
    assert!(
        said.contains("expected no tensor feature_extractor.conv1.popup_scores") && !said.contains(words),
        "{said}"
    );
}
