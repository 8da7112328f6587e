"""The forms of `martlet bench steps` in PyTorch: reads a form's name, does it once, answers its milliseconds.

    python3 benches/peer.py small-cnn 128 cpu

`describe` answers with version, device and threads. MARTLET_INSTRUCTIONS=avx2 holds PyTorch's kernels to AVX2 as it does
Martlet's; MARTLET_TF32=1 allows TF32 in products and convolutions on a GPU, MARTLET_TF32=0 forbids it.
"""

import os
import sys
import time

if os.environ.get("MARTLET_INSTRUCTIONS") == "avx2":
    os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
    os.environ["DNNL_MAX_CPU_ISA"] = "AVX2"
    os.environ["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402


class SmallCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(i, o, 3) for i, o in [(1, 32), (32, 32), (32, 64), (64, 64)]])
        self.linears = nn.ModuleList([nn.Linear(i, o) for i, o in [(1024, 200), (200, 200), (200, 10)]])

    def forward(self, x):
        for number, convolution in enumerate(self.convolutions, 1):
            x = F.relu(convolution(x))
            if number % 2 == 0:
                x = F.max_pool2d(x, 2)
        x = F.dropout(F.relu(self.linears[0](x.flatten(1))), training=self.training)
        return self.linears[2](F.relu(self.linears[1](x)))


class Stack(nn.Module):
    def __init__(self, channels, side, widths, pools, hidden, normalised):
        super().__init__()
        self.pools = pools
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for number, width in enumerate(widths, 1):
            self.convolutions.append(nn.Conv2d(channels, width, 3, padding=1))
            self.norms.append(nn.BatchNorm2d(width))
            channels = width
            if number in pools:
                side //= 2
        self.fc1 = nn.Linear(channels * side * side, hidden)
        self.norm = nn.BatchNorm1d(hidden) if normalised else nn.Identity()
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, x):
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms), 1):
            x = F.relu(norm(convolution(x)))
            if number in self.pools:
                x = F.max_pool2d(x, 2)
        return self.fc2(F.relu(self.norm(self.fc1(x.flatten(1)))))


class Residual(nn.Module):
    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
        if not bottleneck:
            shapes = [(inputs, width, 3, stride), (width, width, 3, 1)]
        outputs = shapes[-1][1]
        self.convolutions = nn.ModuleList([nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in shapes])
        self.norms = nn.ModuleList([nn.BatchNorm2d(o) for _, o, _, _ in shapes])
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for convolution, norm in zip(self.convolutions[:-1], self.norms[:-1]):
            y = F.relu(norm(convolution(y)))
        return F.relu(self.norms[-1](self.convolutions[-1](y)) + self.shortcut(x))


class PreActivation(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or inputs != width:
            self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x):
        activated = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return self.conv2(F.relu(self.bn2(self.conv1(activated)))) + shortcut


class Deep(nn.Module):
    """Residual networks: a stem, blocks, and, with pre-activation, a last BatchNorm."""

    def __init__(self, stem, groups, block, last):
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.Identity() if last else nn.BatchNorm2d(stem)
        self.relu = nn.Identity() if last else nn.ReLU()
        inputs, blocks = stem, []
        for width, count, stride, outputs in groups:
            for number in range(count):
                blocks.append(block(inputs, width, stride if number == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU()) if last else nn.Identity()
        self.linear = nn.Linear(inputs, 10)

    def forward(self, x):
        x = self.blocks(self.relu(self.bn1(self.conv1(x))))
        return self.linear(self.last(x).mean((2, 3)))


def build(name):
    widths, strides = [64, 128, 256, 512], [1, 2, 2, 2]
    if name == "small-cnn":
        return SmallCnn()
    if name == "dynamic-cnn":
        return Stack(1, 28, [32, 64], [1, 2], 128, False)
    if name == "cnn8":
        return Stack(3, 32, [64, 64, 128, 128, 196, 196], [2, 4, 6], 256, True)
    if name == "resnet-18":
        groups = [(w, 2, s, w) for w, s in zip(widths, strides)]
        return Deep(64, groups, lambda i, w, s: Residual(i, w, s, False), False)
    if name == "resnet-50":
        groups = [(w, n, s, 4 * w) for w, n, s in zip(widths, [3, 4, 6, 3], strides)]
        return Deep(64, groups, lambda i, w, s: Residual(i, w, s, True), False)
    if name == "preact-resnet-18":
        return Deep(64, [(w, 2, s, w) for w, s in zip(widths, strides)], PreActivation, True)
    depth, width = map(int, name.removeprefix("wide-resnet-").split("-"))
    groups = [(b * width, (depth - 4) // 6, s, b * width) for b, s in [(16, 1), (32, 2), (64, 2)]]
    return Deep(16, groups, PreActivation, True)


name, examples = sys.argv[1], int(sys.argv[2])
gpu = sys.argv[3:4] == ["gpu"] and torch.cuda.is_available()
device = torch.device("cuda" if gpu else "cpu")
tf32 = os.environ.get("MARTLET_TF32")
if tf32 is not None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32 == "1"
model = build(name).to(device)
grey = name in ("small-cnn", "dynamic-cnn")
x = torch.rand(examples, 1, 28, 28) if grey else torch.rand(examples, 3, 32, 32)
x = x.to(device)
epsilon = 0.3 if grey else 8 / 255
labels = (torch.arange(examples) % 10).to(device)
optimiser = torch.optim.SGD(model.parameters(), 0.0, 0.9, weight_decay=2e-4)


def gradient(images):
    images = images.clone().requires_grad_()
    model.eval().requires_grad_(False)
    loss = F.cross_entropy(model(images), labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def forward():
    with torch.no_grad():
        return model.eval()(x).cpu()


def climb(steps):
    current = (x + torch.empty_like(x).uniform_(-epsilon, epsilon)).clamp(0, 1)
    for _ in range(steps):
        stepped = current + epsilon / 4 * gradient(current).sign()
        current = torch.min(torch.max(stepped, x - epsilon), x + epsilon).clamp(0, 1)
    return current


def loss(natural, adversarial):
    """MART's, as its authors' code has it."""
    p = F.softmax(adversarial, dim=1)
    top = torch.argsort(p, dim=1)[:, -2:]
    other = torch.where(top[:, -1] == labels, top[:, -2], top[:, -1])
    boosted = F.cross_entropy(adversarial, labels) + F.nll_loss(torch.log(1.0001 - p + 1e-12), other)
    q = F.softmax(natural, dim=1)
    true = q.gather(1, labels.unsqueeze(1)).squeeze()
    divergence = F.kl_div(torch.log(p + 1e-12), q, reduction="none").sum(1)
    return boosted + 5.0 * (divergence * (1.0000001 - true)).mean()


def mart(steps):
    current = climb(steps)
    model.train().requires_grad_(True)
    value = loss(model(x), model(current))
    optimiser.zero_grad()
    value.backward()
    optimiser.step()
    return value.item()


def evaluate():
    found = climb(20)
    with torch.no_grad():
        return model(found).cpu()


forms = {
    "forward": forward,
    "attack": lambda: gradient(x).cpu(),
    "outer": lambda: mart(0),
    "mart": lambda: mart(10),
    "pgd-20": evaluate,
}
for line in sys.stdin:
    form = line.strip()
    if form == "describe":
        where = torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} threads"
        print(f"PyTorch {torch.__version__}, {where}", flush=True)
        continue
    if gpu:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    forms[form]()
    if gpu:
        torch.cuda.synchronize()
    print((time.perf_counter() - begun) * 1e3, flush=True)
