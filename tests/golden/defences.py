"""Writes defences.json: what every defence makes of one minibatch, in float64 PyTorch, from the equations.

The network is dynamic-cnn on 1x8x8 images; weights, images and labels come from the formulas below, rounded to 32 bits, so
that the test makes the same. Of a gradient only two numbers a parameter are kept: its length, and its product with a pattern.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
N, K, SIDE = 6, 10, 8
SHAPES = {
    "conv1.weight": (32, 1, 3, 3), "conv1.bias": (32,), "bn1.weight": (32,), "bn1.bias": (32,),
    "conv2.weight": (64, 32, 3, 3), "conv2.bias": (64,), "bn2.weight": (64,), "bn2.bias": (64,),
    "fc1.weight": (128, 256), "fc1.bias": (128,), "fc2.weight": (K, 128), "fc2.bias": (K,),
}


def wave(count, phase):
    j = torch.arange(count)
    return torch.sin(0.0137 * j * j + 1.1 * j + phase)


def f32(x):
    return x.float().double()


def weights():
    out = {}
    for p, (name, shape) in enumerate(SHAPES.items()):
        s = wave(math.prod(shape), 0.7 * p)
        if len(shape) > 1:
            s = s * (1.5 * math.sqrt(3.0 / math.prod(shape[1:])))
        elif name.startswith("bn") and name.endswith("weight"):
            s = 1 + 0.3 * s
        else:
            s = 0.1 * s
        out[name] = f32(s).reshape(shape).requires_grad_()
    return out


def forward(w, x, train):
    for n in "12":
        x = F.conv2d(x, w[f"conv{n}.weight"], w[f"conv{n}.bias"], padding=1)
        c = x.shape[1]
        x = F.batch_norm(x, torch.zeros(c), torch.ones(c), w[f"bn{n}.weight"], w[f"bn{n}.bias"], training=train)
        x = F.max_pool2d(F.relu(x), 2)
    return F.linear(F.relu(F.linear(x.flatten(1), w["fc1.weight"], w["fc1.bias"])), w["fc2.weight"], w["fc2.bias"])


W = weights()
X = f32(0.5 + 0.45 * wave(N * SIDE * SIDE, 0.2)).reshape(N, 1, SIDE, SIDE)
ADVERSARIAL = f32((X + 0.1 * wave(X.numel(), 1.9).reshape(X.shape)).clamp(0, 1))
EPSILON, STEP, STEPS = 0.1, 0.03, 4
# The first half as the network has it, so that MMA and Table 1's indicator see both kinds.
Y = forward(W, X, False).argmax(1)
Y[N // 2:] = (Y[N // 2:] + 3) % K


def ce(z, s=0.0):
    return F.cross_entropy(z, Y, reduction="none", label_smoothing=s)


def at(v, k=None):
    return v.gather(1, (Y if k is None else k)[:, None])[:, 0]


def others(z):
    return z.masked_fill(F.one_hot(Y, K).bool(), -math.inf)


def kl(zn, za):
    return (zn.softmax(1) * (zn.log_softmax(1) - za.log_softmax(1))).sum(1)


def bce(z, s=0.0):
    return ce(z, s) - torch.log(1 - others(z.softmax(1)).amax(1))


def slm(z):
    return others(z).logsumexp(1) - at(z)


def pair(a, b):
    return (a - b).pow(2).sum(1)


SHARE = [0, 2, 3]  # the examples that "mart half" regularises


def losses(zn, za, share):
    p = 1 - at(zn.softmax(1))
    right = zn.argmax(1) == Y
    return {
        "natural": ce(zn),
        "standard": ce(za),
        "standard, smoothed 0.1": ce(za, 0.1),
        "trades, smoothed 0.1": ce(zn, 0.1) + 4 * kl(zn, za),
        "mart, smoothed 0.1": bce(za, 0.1) + 5 * kl(zn, za) * p,
        "alp": ce(za) + 2 * pair(zn.softmax(1), za.softmax(1)),
        "alp logits": ce(za) + 2 * pair(zn, za),
        "clp": ce(zn) + 2 * pair(zn.softmax(1), za.softmax(1)),
        "clp logits": ce(zn) + 2 * pair(zn, za),
        "trades": ce(zn) + 4 * kl(zn, za),
        "uat++": ce(za) + 5 * kl(zn, za),
        "mma paper": torch.where(right, ce(za), ce(zn)),
        "mart": bce(za) + 5 * kl(zn, za) * p,
        "mart without kl": bce(za) + 5 * p,
        "mart without weight": bce(za) + 5 * kl(zn, za),
        "mart without both": bce(za),
        "mart ce": ce(za) + 5 * kl(zn, za) * p,
        "mart natural bce": bce(zn) + 5 * kl(zn, za) * p,
        "mart half": bce(za) + 5 * kl(zn, za) * p * share,
    }


def digest(objective, w):
    gradients = torch.autograd.grad(objective.mean(), list(w.values()), allow_unused=True, retain_graph=True)
    result = {}
    for name, g in zip(w, gradients):
        g = torch.zeros_like(w[name]) if g is None else g
        result[name] = [g.norm().item(), (g.flatten() * wave(g.numel(), 0.3)).sum().item()]
    return {"per_example": objective.tolist(), "gradients": result}


def gradient(objective, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(objective(x).sum(), x)[0]


def ascend(x, g, step=STEP, epsilon=EPSILON):
    return (x + step * g.sign()).clamp(X - epsilon, X + epsilon).clamp(0, 1)


attack_ce = lambda x: ce(forward(W, x, False))
golden = {"labels": Y.tolist(), "epsilon": EPSILON, "step_size": STEP, "steps": STEPS}

# The share's mask is the library's own choice; both sides take examples 0, 2 and 3 of the file.
share = torch.zeros(N)
share[SHARE] = 1
golden["share"] = SHARE
golden["losses"] = {
    name: digest(value, W)
    for name, value in losses(forward(W, X, True), forward(W, ADVERSARIAL, True), share).items()
}

x = X
for _ in range(STEPS):
    x = ascend(x, gradient(attack_ce, x))
standard_images = x
golden["pgd"] = x.flatten().tolist()

# Dynamic: criterion half way between the second and the third largest of what two steps leave.
x, fosc_of, stops = X, lambda x, g: EPSILON * g.abs().flatten(1).sum(1) - ((x - X) * g).flatten(1).sum(1), None
for k in range(2):
    x = ascend(x, gradient(attack_ce, x))
ranked = fosc_of(x, gradient(attack_ce, x)).sort().values
criterion = f32((ranked[2] + ranked[3]) / 2).item()
x, trace = X, []
for k in range(STEPS):
    g = gradient(attack_ce, x)
    c = fosc_of(x, g)
    trace.append(c.tolist())
    moves = (c > criterion) | torch.tensor(k == 0)
    x = torch.where(moves[:, None, None, None], ascend(x, g), x)
golden["dynamic"] = {"criterion": criterion, "stationarity": trace, "images": x.flatten().tolist()}

golden["n_fgsm"] = ascend(X, gradient(attack_ce, X), EPSILON).flatten().tolist()

# MMA: two visits of the minibatch, so that the second starts from the margins of the first.
MAX_MARGIN, MIN_EPSILON = 0.2, 0.05
radii, visits = torch.zeros(N), []
for _ in range(2):
    radii = radii.clamp_min(f32(torch.tensor(MIN_EPSILON)).item())
    r = radii[:, None, None, None]
    x = X
    for _ in range(STEPS):
        g = gradient(lambda x: slm(forward(W, x, False)), x)
        x = (X + (x - X + 2.5 / STEPS * r * g.sign()).clamp(-r, r)).clamp(0, 1)
    unit = (x - X) / r
    low, high, tried = torch.zeros(N), torch.full((N,), 1.05 * MAX_MARGIN), radii
    place = lambda d: (X + d[:, None, None, None] * unit).clamp(0, 1)
    for _ in range(10):
        inside = slm(forward(W, place(tried), False)) < 0
        low = torch.where(inside, torch.maximum(low, tried), low)
        high = torch.where(inside, high, torch.minimum(high, tried))
        tried = (low + high) / 2
    wrong = slm(forward(W, X, False)) >= 0
    margins = tried.masked_fill(wrong, 0)
    x = torch.where((margins > 0)[:, None, None, None], place(tried), X)
    zn, za = forward(W, X, True), forward(W, x, True)
    objective = ce(zn) / 3 + 2 / 3 * torch.where(margins < MAX_MARGIN, ce(za), torch.zeros(N))
    visits.append({"margins": margins.tolist(), "images": x.flatten().tolist()} | digest(objective, W))
    radii = margins
golden["mma"] = {"max_margin": MAX_MARGIN, "min_epsilon": MIN_EPSILON, "visits": visits}

# AWP: gradients at w + v, v from one step up the loss on the same images.
GAMMA = 0.01
golden["awp"] = {"gamma": GAMMA}
for name in ["standard", "mart"]:
    objective = lambda w: losses(forward(w, X, True), forward(w, standard_images, True), share)[name]
    up = dict(zip(W, torch.autograd.grad(objective(W).mean(), list(W.values()))))
    moved = {
        n: (v + GAMMA * v.norm() * up[n] / up[n].norm() if v.dim() > 1 else v).detach().requires_grad_()
        for n, v in W.items()
    }
    golden["awp"][name] = digest(objective(moved), moved)

# Free: two replays at the same weights.
delta, replays = torch.zeros_like(X), []
for _ in range(2):
    leaf = delta.clone().requires_grad_()
    objective = ce(forward(W, (X + leaf).clamp(0, 1), True))
    entry = digest(ce(forward(W, (X + delta).clamp(0, 1), True)), W)
    delta = (delta + EPSILON * torch.autograd.grad(objective.mean(), leaf)[0].sign()).clamp(-EPSILON, EPSILON)
    replays.append(entry | {"perturbation": delta.flatten().tolist()})
golden["free"] = replays

short = lambda v: [short(i) for i in v] if isinstance(v, list) else (
    {k: short(i) for k, i in v.items()} if isinstance(v, dict) else float(f"{v:.9g}") if isinstance(v, float) else v)
Path(__file__).with_suffix(".json").write_text(json.dumps(short(golden), separators=(",", ":")) + "\n")
print(Y.tolist(), forward(W, X, False).softmax(1).amax(1).tolist(), criterion, trace, [v["margins"] for v in visits])
smallest = min(gradient(attack_ce, x).abs().min().item() for x in (X, standard_images))
print("smallest gradient", smallest)
