//! Files that hold weights, or should, in a form that is not read: told as what they are, with the line to type in Python.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

use pytorch_reader::PytorchError;

/// What a file is by its first bytes or its entries, and the way out; none where it may be a checkpoint.
pub(super) fn named(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    (&mut file).take(64).read_to_end(&mut head)?;
    let begins = |mark: &[u8]| head.starts_with(mark);
    let text = String::from_utf8_lossy(&head).trim_start().to_lowercase();
    let ends = |ending: &str| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(if head.is_empty() {
        Some("an empty file; copy it again".into())
    } else if begins(b"\x89HDF") {
        Some("an HDF5 file, as Keras saves one; build the network in PyTorch, and save its state_dict()".into())
    } else if text.starts_with("<!doctype") || text.starts_with("<html") {
        Some("a web page; fetch the file itself, which may need a click or a login".into())
    } else if text.starts_with("version https://git-lfs") {
        Some("a pointer of Git LFS; fetch the file itself: git lfs pull".into())
    } else if ends("onnx") {
        Some("an ONNX network; save the state_dict() of the model that it was made from".into())
    } else if begins(b"PK") {
        file.rewind()?;
        in_archive(file, &name)
    } else {
        None
    })
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
    let archive = zip::ZipArchive::new(file).ok()?;
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
    if said.contains("storage persistent id has 4 fields") || said.contains("persistent id 'module'") {
        return Some(format!(
            "a whole module in PyTorch's old format; in Python, where its class can be imported: import torch; torch.save(torch.load({name:?}, map_location=\"cpu\", weights_only=False).state_dict(), \"weights.pt\")"
        ));
    }
    None
}
