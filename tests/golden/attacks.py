"""Writes attacks.json: APGD's iterates and step sizes, and SPSA's gradient, in 64 bits with PyTorch.

A second reading of the rules (Croce and Hein 2020, Algorithm 1, in the form of the authors' code; Uesato et al. 2018,
Algorithm 1), written apart from the Rust one. MI-FGSM, DeepFool and CW in L2 come from torchattacks (3.5.1) and foolbox
(3.3.4) themselves. Run: python3 tests/golden/attacks.py > tests/golden/attacks.json
"""
import contextlib
import json
import math
import sys

import foolbox
import torch
import torchattacks

torch.set_default_dtype(torch.float64)
torch.manual_seed(5)
N, SIDE, HIDDEN, CLASSES, STEPS = 4, 4, 9, 5, 50
D = SIDE * SIDE


def f32(t):
    """Rounded so that a reader in 32 bits begins from the same numbers."""
    return t.to(torch.float32).to(torch.float64)


w1, w2 = f32(torch.randn(D, HIDDEN) * 2.0), f32(torch.randn(HIDDEN, CLASSES) * 1.5)
x0 = f32(torch.rand(N, D))


def logits(x):
    return torch.tanh((x - 0.5) @ w1) @ w2


y = logits(x0).argmax(1)
# The third likeliest class as the target.
target = logits(x0).argsort(1, descending=True)[:, 2]


def cross_entropy(z):
    return torch.logsumexp(z, 1) - z.gather(1, y[:, None])[:, 0]


def dlr_targeted(z):
    s = z.sort(1)[0]
    lead = z.gather(1, y[:, None])[:, 0] - z.gather(1, target[:, None])[:, 0]
    return -lead / (s[:, -1] - 0.5 * (s[:, -3] + s[:, -4]) + 1e-12)


def checkpoints(n):
    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    return [math.ceil(round(q * n, 9)) for q in p[1:] if math.ceil(round(q * n, 9)) < n]


def length(d, norm):
    return d.abs().max(1, keepdim=True)[0] if norm == "linf" else d.norm(dim=1, keepdim=True)


def project(x, eps, norm):
    if norm == "linf":
        return torch.min(torch.max(x, x0 - eps), x0 + eps).clamp(0, 1)
    d = x - x0
    return (x0 + d * torch.clamp(eps / length(d, norm).clamp_min(1e-30), max=1)).clamp(0, 1)


def value_and_grad(f, x):
    x = x.clone().requires_grad_()
    v = f(logits(x))
    return v.detach(), torch.autograd.grad(v.sum(), x)[0]


def apgd(f, start, eps, norm, rho=0.75):
    x, prev = start.clone(), start.clone()
    v, g = value_and_grad(f, x)
    best, best_g, best_v = x.clone(), g.clone(), v.clone()
    eta = torch.full((N, 1), 2.0 * eps)
    values, etas, iterates = [v], [], []
    halved, best_at, since = torch.ones(N, dtype=torch.bool), best_v.clone(), 0
    marks = checkpoints(STEPS)
    for k in range(STEPS):
        a = 0.75 if k else 1.0
        step = g.sign() if norm == "linf" else g / g.norm(dim=1, keepdim=True)
        z = project(x + eta * step, eps, norm)
        new = project(x + a * (z - x) + (1 - a) * (x - prev), eps, norm)
        prev, x = x, new
        v, g = value_and_grad(f, x)
        values.append(v)
        up = v > best_v
        best[up], best_g[up], best_v[up] = x[up], g[up], v[up]
        if k + 1 in marks:
            window = torch.stack(values[since:k + 2])
            rises = (window[1:] > window[:-1]).sum(0)
            stalled = (rises <= rho * (k + 1 - since)) | (~halved & (best_at >= best_v))
            eta[stalled] /= 2
            x, g = x.clone(), g.clone()
            x[stalled], g[stalled] = best[stalled], best_g[stalled]
            halved, best_at, since = stalled, best_v.clone(), k + 1
        etas.append(eta[:, 0].tolist())
        if (k + 1) % 6 == 0:
            iterates.append(x.flatten().tolist())
    # A rise that 32 bits cannot see would decide a step size by rounding.
    seen = torch.stack(values)
    gaps = (seen[1:] - seen[:-1]).abs() / seen[1:].abs().clamp_min(1)
    if gaps.min() < 3e-6:
        return None
    return {"step_sizes": etas, "every_sixth": iterates, "best": best.flatten().tolist(), "best_value": best_v.tolist()}


def rounded(item):
    if isinstance(item, float):
        return float(f"{item:.9g}")
    if isinstance(item, list):
        return [rounded(i) for i in item]
    if isinstance(item, dict):
        return {k: rounded(v) for k, v in item.items()}
    return item


out = {
    "examples": N, "side": SIDE, "hidden": HIDDEN, "classes": CLASSES, "steps": STEPS,
    "first": w1.flatten().tolist(), "second": w2.flatten().tolist(), "images": x0.flatten().tolist(),
    "labels": y.tolist(), "targets": target.tolist(), "checkpoints": checkpoints(STEPS), "runs": [],
}
for norm, eps in [("linf", 0.2), ("l2", 0.7)]:
    for name, f in [("cross-entropy", cross_entropy), ("targeted-dlr", dlr_targeted)]:
        run = None
        while run is None:
            t = torch.rand(N, D) * 2 - 1 if norm == "linf" else torch.randn(N, D)
            start = f32((x0 + eps * t / length(t, norm)).clamp(0, 1))
            run = apgd(f, start, float(torch.tensor(eps, dtype=torch.float32)), norm)
        out["runs"].append({"norm": norm, "epsilon": eps, "objective": name, "start": start.flatten().tolist(), **run})

# SPSA's estimate of the margin's gradient along given directions.
signs = [(torch.rand(N, D) < 0.5).double() * 2 - 1 for _ in range(6)]


def margin(z):
    own = z.gather(1, y[:, None])[:, 0]
    return z.scatter(1, y[:, None], -1e30).max(1)[0] - own


delta = 0.01
estimate = sum(
    (((margin(logits(x0 + delta * v)) - margin(logits(x0 - delta * v))) / (2 * delta))[:, None] * v for v in signs)
) / len(signs)
out["spsa"] = {"delta": delta, "directions": [v.flatten().tolist() for v in signs], "gradient": estimate.flatten().tolist()}


class Network(torch.nn.Module):
    """The same network for pictures of one channel, in 64 bits whatever a library casts them to."""

    def forward(self, x):
        return logits(x.double().flatten(1))


model = Network().eval()
pictures = x0.reshape(N, 1, SIDE, SIDE)


def listed(found):
    return found.detach().double().flatten().tolist()


def deepfool_linf(x, steps=50, overshoot=0.02):
    """Equation 11 with p = infinity, all classes, example by example."""
    done = []
    for i in range(N):
        z = x[i:i + 1].clone()
        for _ in range(steps):
            f = logits(z)[0]
            if f.argmax() != y[i]:
                break
            jacobian = torch.autograd.functional.jacobian(lambda v: logits(v)[0], z)[:, 0]
            others = [k for k in range(CLASSES) if k != y[i]]
            lead, w = f[others] - f[y[i]], jacobian[others] - jacobian[y[i]]
            best = (lead.abs() / w.abs().sum(1)).argmin()
            z = (z + (1 + overshoot) * lead[best].abs() / w[best].abs().sum() * w[best].sign()).clamp(0, 1).detach()
        done.append(z)
    return torch.cat(done)


# torchattacks prints as it works.
with contextlib.redirect_stdout(sys.stderr):
    eps32 = float(torch.tensor(0.2, dtype=torch.float32))
    out["mi-fgsm"] = {"epsilon": 0.2, "steps": 10, "images": listed(torchattacks.MIFGSM(model, eps=eps32, alpha=eps32 / 10, steps=10, decay=1.0)(pictures, y))}
    out["deepfool"] = {"l2": listed(torchattacks.DeepFool(model)(pictures, y)), "linf": listed(deepfool_linf(x0))}
    fmodel = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    search = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=9, steps=60, stepsize=0.01, initial_const=1e-3, abort_early=False)
    found = search.run(fmodel, pictures, y)
    out["cw-l2"] = {"steps": 60, "distances": (found - pictures).flatten(1).norm(dim=1).tolist()}
    # torchattacks keeps c, and stops when the cost has risen over a tenth of the steps: it must not have here.
    fixed = torchattacks.CW(model, c=1.0, kappa=0.0, steps=60, lr=0.01)(pictures, y)
    out["cw-l2"]["fixed"] = listed(fixed)
print(json.dumps(rounded(out)))
