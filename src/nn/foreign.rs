//! Files that hold weights, or should, in a form that is not read: told as what they are, with the line to type in Python.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

use pytorch_reader::PytorchError;

use crate::files::not_fetched;

/// What a file is by its first bytes or its entries, and the way out; none where it may be a checkpoint.
pub(super) fn named(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    (&mut file).take(64).read_to_end(&mut head)?;
    let begins = |mark: &[u8]| head.starts_with(mark);
    let text = String::from_utf8_lossy(&head).trim_start().to_lowercase();
    let packed = PACKED.iter().find(|(mark, ..)| begins(mark));
    let ends = |ending: &str| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(if head.is_empty() {
        Some("an empty file; copy it again".into())
    } else if begins(b"\x89HDF") {
        Some("an HDF5 file, as Keras saves one; build the network in PyTorch, and save its state_dict()".into())
    } else if let Some((what, way_out)) = not_fetched(&text) {
        Some(format!("{what}; {way_out}"))
    } else if ends("onnx") {
        Some("an ONNX network; save the state_dict() of the model that it was made from".into())
    } else if begins(b"PK") {
        file.rewind()?;
        in_archive(file, &name)
    } else if let Some((_, by, unpack)) = packed {
        Some(format!("a file packed by {by}; unpack it: {unpack} {name:?}"))
    } else if text.starts_with('{') {
        Some("a JSON text, which describes weights at most; name the file that holds them, such as model.safetensors beside it".into())
    } else if is_text(&head) {
        let first = text.lines().next().unwrap_or_default();
        Some(format!(
            "a text that begins with {first:?}; name the file that holds the weights"
        ))
    } else {
        None
    })
}

/// First bytes of packed files, what packs so, and what unpacks it.
const PACKED: [(&[u8], &str, &str); 6] = [
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"7z\xbc\xaf", "7-Zip", "7z x"),
    (b"Rar!", "RAR", "unrar x"),
];

/// Whether the bytes are a person's words; PyTorch's old files begin with a byte that no text has.
fn is_text(head: &[u8]) -> bool {
    let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t');
    // A pickle of the oldest protocol is text too: it begins with a mark, a dictionary or a class.
    head.iter().all(printable) && !head.starts_with(b"(") && !head.starts_with(b"c")
}

fn in_archive(file: File, name: &str) -> Option<String> {
    let torchscript = || {
        format!(
            "TorchScript, a whole program; in Python: import torch; torch.save(torch.jit.load({name:?}, map_location=\"cpu\").state_dict(), \"weights.pt\")"
        )
    };
    if name.ends_with(".pt2") {
        return Some(format!(
            "an exported program; in Python: import torch; torch.save(dict(torch.export.load({name:?}).state_dict), \"weights.pt\")"
        ));
    }
    let Ok(archive) = zip::ZipArchive::new(file) else {
        return Some("a checkpoint without its end, cut short or damaged; copy or fetch it again".into());
    };
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()))
        .collect();
    if names
        .iter()
        .any(|name| name.ends_with("constants.pkl") || name.contains("/code/"))
    {
        return Some(torchscript());
    }
    let holds = |ending: &str| names.iter().find(|name| name.ends_with(ending));
    if holds("data.pkl").is_none()
        && let Some(inner) = [".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors"]
            .into_iter()
            .find_map(holds)
    {
        return Some(format!("a zip that holds {inner}; unpack it: unzip {name:?} {inner:?}"));
    }
    (!names.is_empty() && names.iter().all(|name| name.ends_with(".npy"))).then(|| {
        format!("numpy's arrays; in Python: import numpy, torch; torch.save({{k: torch.from_numpy(v) for k, v in numpy.load({name:?}).items()}}, \"weights.pt\")")
    })
}

/// What a checkpoint is that the reader refused for its kind; none where it is damaged.
pub(super) fn refused(error: &PytorchError, path: &Path) -> Option<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let said = error.to_string();
    if let Some((_, found)) = said.split_once("at the root of the PyTorch file, found ") {
        return Some(format!(
            "{found} without names; save the model's state_dict(), or, where the order is that of the model, in Python: import torch; w = torch.load({name:?}, map_location=\"cpu\"); torch.save(dict(zip(model.state_dict(), w)), \"weights.pt\")"
        ));
    }
    if said.contains("torch.QInt") || said.contains("torch.QUInt") || said.contains("_rebuild_qtensor") {
        return Some(format!(
            "quantised weights, which round again as they compute; save the network's state_dict() before it is quantised, or, for the rounded weights, in Python: import torch; w = torch.load({name:?}, map_location=\"cpu\", weights_only=False); p = \"_packed_params._packed_params\"; torch.save({{n: t.dequantize() for k, v in w.items() for n, t in ([(k.replace(p, \"weight\"), v[0]), (k.replace(p, \"bias\"), v[1])] if k.endswith(p) else [(k, v)]) if isinstance(t, torch.Tensor) and not k.endswith((\"scale\", \"zero_point\"))}}, \"weights.pt\")"
        ));
    }
    if said.contains("storage persistent id has 4 fields") || said.contains("persistent id 'module'") {
        return Some(format!(
            "a whole module in PyTorch's old format; in Python, where its class can be imported: import torch; torch.save(torch.load({name:?}, map_location=\"cpu\", weights_only=False).state_dict(), \"weights.pt\")"
        ));
    }
    None
}
