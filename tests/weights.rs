//! Weights as other programs lay them out: read right, told, or refused as what they are with the way out.

mod support;

use std::{fs, path::Path, process::Command, str::FromStr};

use martlet::{
    compute::Device,
    nn::{Architecture, Model, StateEntry, StateValues, weights},
    random::Rng,
    shapes::ImageShape,
};
use safetensors::{Dtype, tensor::TensorView};
use support::COLOUR;

fn model(name: &str, input: ImageShape) -> Model {
    let architecture = Architecture::from_str(name).unwrap();
    Model::new(architecture, input, 10, &mut Rng::new(1), &Device::cpu()).unwrap()
}

const WIDE: &str = "wide-resnet-10-1";

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
