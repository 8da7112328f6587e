"""Writes the small corpus that fuzzing and `tests/hostile.rs` begin with; needs numpy, Pillow and torch."""

import io
import json
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import torch
from PIL import Image

here = pathlib.Path(__file__).parent / "corpus"


def write(name, content):
    path = here / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def saved(save):
    out = io.BytesIO()
    save(out)
    return out.getvalue()


# scipy wrote these, packed and not.
for name in ("train", "test"):
    write(f"mat/{name}", (here.parent.parent / f"tests/golden/formats/svhn/{name}_32x32.mat").read_bytes())
pixels = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
write("idx/plain", struct.pack(">4I", 0x803, 2, 4, 4) + bytes(range(32)))
write("cifar/record", bytes([3]) + bytes(i % 256 for i in range(3072)))
batch = {"data": np.arange(3072, dtype=np.uint8).reshape(1, 3072), "labels": [3]}
for protocol in (2, 5):
    write(f"pickle/batch-{protocol}", pickle.dumps(batch, protocol))
published = {"data": pixels, "extrapolated_targets": np.array([1, 0])}
write("pickle/pseudo-labelled", pickle.dumps(published, 2))
write("npz/bytes", saved(lambda out: np.savez(out, images=pixels, labels=np.array([0, 1]))))
write("npz/floats", saved(lambda out: np.savez_compressed(out, images=pixels[..., 0] / 300, labels=np.array([0, 1]))))
write("npy/bytes", saved(lambda out: np.save(out, pixels)))
write("npy/floats", saved(lambda out: np.save(out, np.asfortranarray(pixels[..., 0] / np.float32(300)))))
for name, kind, options in [
    ("png/colour", "PNG", {}),
    ("jpeg/baseline", "JPEG", {}),
    ("jpeg/progressive", "JPEG", {"progressive": True}),
    ("picture/webp", "WEBP", {"lossless": True}),
    ("picture/lossy-webp", "WEBP", {}),
    ("picture/bmp", "BMP", {}),
    ("picture/gif", "GIF", {}),
]:
    write(name, saved(lambda out: Image.fromarray(pixels[0]).save(out, kind, **options)))
write("png/grey-16", saved(lambda out: Image.fromarray(pixels[0, ..., 0].astype(np.uint16) * 257).save(out, "PNG")))
write("png/palette", saved(lambda out: Image.fromarray(pixels[0]).quantize(8).save(out, "PNG")))
png = (here / "png/colour").read_bytes()
for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):

    def pack(out):
        with zipfile.ZipFile(out, "w", method) as archive:
            for name in ("a/1.png", "b/1.png"):
                archive.writestr(zipfile.ZipInfo(name), png, method)

    write(f"zip/method-{method}", saved(pack))
state = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.count": torch.tensor(3)}
write("pt/zip", saved(lambda out: torch.save({"state_dict": state, "epoch": 1}, out)))
write("pt/old", saved(lambda out: torch.save(state, out, _use_new_zipfile_serialization=False)))


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x * self.weight


# Known kinds that are told as what they are.
write("pt/old-module", saved(lambda out: torch.save(Tiny(), out, _use_new_zipfile_serialization=False)))
write("pt/list", saved(lambda out: torch.save(list(state.values()), out)))
write("pt/torchscript", saved(lambda out: torch.jit.save(torch.jit.trace(Tiny(), torch.ones(2)), out)))
header = json.dumps({"layer.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
write("safetensors/plain", struct.pack("<Q", len(header)) + header + np.arange(6, dtype=np.float32).tobytes())
# Which file of a run, and three bytes for each that is replaced: where (two, the lower first), and by what.
for file in range(8):
    write(f"run/{file}", bytes([file, 9, 0, 49]))
