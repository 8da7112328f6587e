"""Reference values for the deep networks with BatchNorm, from PyTorch in float64: tests/golden/networks.json.

    python3 tests/golden/networks.py

Weights, images and labels are a formula of a seed that both sides compute, so that the file holds results alone:
every value of the images' gradients and iterates, and of each parameter and statistic its norm, its largest value and a
few entries.

The gradient of a ReLU network jumps where the input of a ReLU crosses zero. With a million units some input always
lies nearer to zero than float32 rounds, and then two correct programs differ by 1e-3 of the largest gradient: PyTorch's
own float32 from its float64. So a seed is taken only if every result stays the same when noise of several float32
roundings is added to the output of each convolution and linear layer.
"""

import json
import math
import pathlib

import numpy
import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 10
EPSILON, STEP, STEPS = 8 / 255, 2 / 255, 5
LAMBDA, RATE, MOMENTUM, DECAY = 5.0, 0.01, 0.9, 3.5e-3
SAMPLES = 6
# The share of a layer's standard deviation; float32 gives 2e-7 per layer.
NOISE, DRAWS, UNCHANGED = 5e-7, 3, 3e-5


def uniform(seed, stream, shape, low, high):
    """Hashed counters as fractions of 2^24, exact in every precision; then low + fraction * (high - low), rounded once."""
    with numpy.errstate(over="ignore"):
        h = numpy.arange(math.prod(shape), dtype=numpy.uint32) * numpy.uint32(0x9E3779B9)
        h += numpy.uint32(stream) * numpy.uint32(0x85EBCA6B) + numpy.uint32(seed) * numpy.uint32(0xC2B2AE35)
        h ^= h >> numpy.uint32(16)
        h *= numpy.uint32(0x85EBCA6B)
        h ^= h >> numpy.uint32(13)
        h *= numpy.uint32(0xC2B2AE35)
        h ^= h >> numpy.uint32(16)
    fractions = (h >> numpy.uint32(8)).astype(numpy.float64) / 2**24
    return torch.from_numpy((low + fractions * (high - low)).astype(numpy.float32).reshape(shape))


class Block(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, (width, stride) in enumerate([(64, 1), (128, 2), (256, 2), (512, 2)], 1):
            setattr(self, f"layer{number}", nn.Sequential(Block(inputs, width, stride), Block(width, width, 1)))
            inputs = width
        self.linear = nn.Linear(512, CLASSES)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean((2, 3)))


class Cnn8(nn.Module):
    """Its images have 8 pixels a side, so that the pools leave one."""

    def __init__(self):
        super().__init__()
        inputs = 3
        for number, width in enumerate([64, 64, 128, 128, 196, 196], 1):
            setattr(self, f"conv{number}", nn.Conv2d(inputs, width, 3, padding=1))
            setattr(self, f"bn{number}", nn.BatchNorm2d(width))
            inputs = width
        self.fc1 = nn.Linear(196, 256)
        self.bn7 = nn.BatchNorm1d(256)
        self.fc2 = nn.Linear(256, CLASSES)

    def forward(self, x):
        for number in range(1, 7):
            x = F.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)))
            if number % 2 == 0:
                x = F.max_pool2d(x, 2)
        return self.fc2(F.relu(self.bn7(self.fc1(x.flatten(1)))))


def fill(model, seed):
    """Each tensor of the state dict from its own stream, by its place in it."""
    for stream, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.dim() == 0:
            continue
        if tensor.dim() > 1:
            bound = 1 / math.sqrt(math.prod(tensor.shape[1:]))
            low, high = -bound, bound
        elif name.endswith("running_var"):
            low, high = 0.1, 0.5
        elif name.endswith("weight"):
            low, high = 0.5, 1.5
        else:
            low, high = -0.1, 0.1
        tensor.copy_(uniform(seed, stream, tuple(tensor.shape), low, high))


def boosted_cross_entropy(logits, labels):
    probabilities = logits.softmax(1)
    others = probabilities.scatter(1, labels[:, None], 0)
    return F.cross_entropy(logits, labels, reduction="none") - torch.log1p(-others.max(1).values)


def mart(natural, adversarial, labels):
    divergence = (natural.softmax(1) * (natural.log_softmax(1) - adversarial.log_softmax(1))).sum(1)
    weight = 1 - natural.softmax(1).gather(1, labels[:, None])[:, 0]
    return (boosted_cross_entropy(adversarial, labels) + LAMBDA * divergence * weight).mean()


def results(network, examples, side, seed, dtype=torch.float64, noise=None):
    def fresh():
        model = network()
        fill(model, seed)
        model = model.to(dtype)
        if noise is not None:
            generator = torch.Generator().manual_seed(noise)

            def disturb(_, __, out):
                return out + NOISE * out.detach().std() * torch.randn(out.shape, generator=generator, dtype=dtype)

            for layer in model.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    layer.register_forward_hook(disturb)
        return model

    x = uniform(seed, 1000, (examples, 3, side, side), 0, 1).to(dtype)
    start = uniform(seed, 1001, tuple(x.shape), -EPSILON, EPSILON).to(dtype)
    labels = torch.tensor([(seed + 3 * example) % CLASSES for example in range(examples)])
    found = {}

    def image_gradient(model, images):
        images = images.clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(model(images), labels), images)[0]

    model = fresh().eval()
    found["eval.logits"] = model(x).detach()
    current = (x + start).clamp(0, 1)
    for _ in range(STEPS):
        gradient = image_gradient(model, current)
        current = torch.min(torch.max(current + STEP * gradient.sign(), x - EPSILON), x + EPSILON).clamp(0, 1)
    found["eval.gradient"] = image_gradient(model, x)
    found["eval.iterate"] = current
    found["train.gradient"] = image_gradient(fresh().train(), x)

    model = fresh().train()
    # The step's adversarial images are a formula, so that this step does not hang on the iterates' signs.
    adversarial = (x + start).clamp(0, 1)
    natural_logits, adversarial_logits = model(x), model(adversarial)
    loss = mart(natural_logits, adversarial_logits, labels)
    found["step.natural_logits"], found["step.adversarial_logits"] = natural_logits.detach(), adversarial_logits.detach()
    found["step.loss"] = loss.detach().reshape(1)
    loss.backward()
    for name, parameter in model.named_parameters():
        found[f"step.gradient.{name}"] = parameter.grad.clone()
    torch.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY).step()
    for name, tensor in model.state_dict().items():
        found[f"step.after.{name}"] = tensor.clone()
    return found


def difference(one, other):
    """Over all results the largest difference, as a share of the result's largest value."""
    return max(
        ((one[name].double() - value).abs().max() / value.abs().max().clamp_min(1e-12)).item()
        for name, value in other.items()
        # Before the batch's own statistics a bias changes nothing: its gradient is rounding alone.
        if not constant(name)
    )


def constant(name):
    return name.startswith("step.gradient.") and name.endswith(".bias") and (".conv" in name or ".fc1" in name)


def summary(name, value):
    flat = value.double().flatten()
    rounded = lambda number: float(f"{number:.9g}")
    if not name.startswith(("step.gradient.", "step.after.")):
        return {"values": [rounded(v) for v in flat.tolist()]}
    places = [(flat.numel() - 1) * k // (SAMPLES - 1) for k in range(SAMPLES)]
    return {
        "norm": rounded(flat.norm().item()),
        "largest": rounded(flat.abs().max().item()),
        "samples": [rounded(flat[place].item()) for place in places],
    }


def main():
    torch.set_num_threads(1)
    golden = {}
    # BatchNorm over two values, as cnn8's last one has of two images, would be rounding alone.
    for name, network, examples, side in [("resnet-18", ResNet18, 2, 16), ("cnn8", Cnn8, 8, 8)]:
        for seed in range(1, 2000):
            exact = results(network, examples, side, seed)
            noisy = (results(network, examples, side, seed, noise=draw) for draw in range(DRAWS))
            if all(difference(values, exact) < UNCHANGED for values in noisy):
                break
        single = difference(results(network, examples, side, seed, torch.float32), exact)
        print(f"{name}: seed {seed}; PyTorch's float32 differs by {single:.1e}", flush=True)
        golden[name] = {
            "seed": seed,
            "examples": examples,
            "side": side,
            "results": {key: summary(key, value) for key, value in exact.items() if not constant(key)},
        }
    text = json.dumps(golden, separators=(",", ":")).replace('"step.', '\n"step.').replace('"eval.', '\n"eval.')
    (pathlib.Path(__file__).parent / "networks.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
