#!/usr/bin/env python3
"""Makes the sheets from Fashion-MNIST's own files: the first 8,000 training and the first 3,000 test images, a hundred in a row.

    python make.py FOLDER_OF_THE_FOUR_IDX_FILES
"""
import gzip, pathlib, sys
import numpy as np
from PIL import Image

here, source = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[1])
for split, name, count in [("train", "train", 8_000), ("test", "t10k", 3_000)]:
    read = lambda kind: gzip.open(source / f"{name}-{kind}-ubyte.gz").read()
    images = np.frombuffer(read("images-idx3"), np.uint8, offset=16).reshape(-1, 28, 28)[:count]
    labels = np.frombuffer(read("labels-idx1"), np.uint8, offset=8)[:count]
    sheet = images.reshape(-1, 100, 28, 28).transpose(0, 2, 1, 3).reshape(-1, 2_800)
    Image.fromarray(sheet).save(here / f"{split}.png", optimize=True)
    lines = "".join(map(str, labels))
    (here / f"{split}.txt").write_text("".join(lines[i:i + 100] + "\n" for i in range(0, count, 100)))
