"""The forms of benches/steps.rs in PyTorch: reads a form's name, does it once, answers its milliseconds.

    python3 benches/peer.py small-cnn 128
"""

import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests/golden"))
import networks  # noqa: E402


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


name, examples = sys.argv[1], int(sys.argv[2])
model = {"small-cnn": SmallCnn, "resnet-18": networks.ResNet18}[name]()
x = torch.rand(examples, 1, 28, 28) if name == "small-cnn" else torch.rand(examples, 3, 32, 32)
epsilon = 0.3 if name == "small-cnn" else 8 / 255
labels = torch.arange(examples) % 10
optimiser = torch.optim.SGD(model.parameters(), 0.0, 0.9, weight_decay=2e-4)


def gradient(images):
    images = images.clone().requires_grad_()
    model.eval().requires_grad_(False)
    loss = F.cross_entropy(model(images), labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def forward():
    with torch.no_grad():
        model.eval()(x)


def mart(steps):
    current = (x + torch.empty_like(x).uniform_(-epsilon, epsilon)).clamp(0, 1)
    for _ in range(steps):
        stepped = current + epsilon / 4 * gradient(current).sign()
        current = torch.min(torch.max(stepped, x - epsilon), x + epsilon).clamp(0, 1)
    model.train().requires_grad_(True)
    loss = networks.mart(model(x), model(current), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


forms = {
    "forward": forward,
    "attack": lambda: gradient(x),
    "attack folded": lambda: gradient(x),
    "outer": lambda: mart(0),
    "mart": lambda: mart(10),
}
for line in sys.stdin:
    form = forms[line.strip()]
    begun = time.perf_counter()
    form()
    print((time.perf_counter() - begun) * 1e3, flush=True)
