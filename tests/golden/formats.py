"""Small files in the layouts that other tools publish, for tests/formats.rs; needs numpy and scipy."""

import pathlib

import numpy as np
from scipy.io import savemat

here = pathlib.Path(__file__).parent / "formats"


def pixels(*shape):
    """A value that tells its place: 7·(first index) + 13·(second) + 29·(third) + 53·(fourth), modulo 256."""
    grid = np.indices(shape)
    return (sum(factor * axis for factor, axis in zip((7, 13, 29, 53), grid)) % 256).astype(np.uint8)


svhn = here / "svhn"
svhn.mkdir(parents=True, exist_ok=True)
# H, W, C, N; labels from 1, 10 is the digit 0.
labels = np.array([[1], [10], [3]], np.uint8)
savemat(svhn / "train_32x32.mat", {"X": pixels(32, 32, 3, 3), "y": labels}, do_compression=True)
savemat(svhn / "test_32x32.mat", {"X": pixels(32, 32, 3, 2), "y": labels[:2].astype(np.float64)}, do_compression=False)

doubles = here / "svhn-doubles"
doubles.mkdir(exist_ok=True)
savemat(doubles / "test_32x32.mat", {"X": pixels(2, 2, 3, 1) / 255, "y": labels[:1]})

corrupted = here / "cifar-10-c"
corrupted.mkdir(exist_ok=True)
# N, H, W, C: five severities of two images.
np.save(corrupted / "gaussian_noise.npy", pixels(10, 4, 5, 3))
np.save(corrupted / "labels.npy", np.array([3, 8] * 5, np.uint8))

arrays = here / "arrays"
arrays.mkdir(exist_ok=True)
np.save(arrays / "x_train.npy", pixels(3, 4, 5))
np.save(arrays / "y_train.npy", np.array([0, 2, 1], np.int64))
np.save(arrays / "x_test.npy", pixels(2, 4, 5).astype(np.float32) / 255)
np.save(arrays / "y_test.npy", np.array([1, 0], np.int32))

# MedMNIST: three parts, labels as a column.
parts = {"train": 3, "val": 1, "test": 2}
medmnist = {f"{part}_images": pixels(count, 28, 28, 3) for part, count in parts.items()}
medmnist |= {f"{part}_labels": np.arange(count, dtype=np.uint8)[:, None] for part, count in parts.items()}
np.savez_compressed(here / "medmnist.npz", **medmnist)
