// A loss of each example and its gradient, one thread an example: value[n] and d value[n] / d logits[n, k], for KL also by the
// natural logits. Formulas: compute::losses.
//
// CROSS_ENTROPY   log sum_k exp(z_k - z_y), smoothed by s:  + s*(z_y - mean z)
// MARGIN          paper: softplus(z_m - log sum_{k != m} exp z_k);  RELEASED: -log(sum_{k != m} p_k + 1e-4);  m the strongest other class
// KL              sum_k q_k (log q_k - log p_k), q natural;  RELEASED: log(p_k + 1e-12)
// WEIGHT          paper: sum_{k != y} p_k;  RELEASED: 1.0000001 - p_y
// LEAD            min(max_{k != y} z_k - z_y, bound)
//
// Shapes: logits and natural [N, K] with rows `stride` and `other_stride` apart, labels [N], values [N], gradients [N, K] with rows
// `gradient_stride` apart, the columns between filled with zeros.
// Twin: compute::logits, the processor's rows; launched by compute::logits. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    examples: u32,
    classes: u32,
    stride: u32,
    other_stride: u32,
    gradient_stride: u32,
    kind: u32,
    released: u32,
    number: f32,
}

const CROSS_ENTROPY: u32 = 0u;
const MARGIN: u32 = 1u;
const KL: u32 = 2u;
const WEIGHT: u32 = 3u;
const LEAD: u32 = 4u;

const RELEASED_MARGIN: f32 = 1e-4;
const RELEASED_LOG: f32 = 1e-12;
const RELEASED_WEIGHT: f32 = 1.0000001;

@group(0) @binding(0) var<storage, read_write> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> natural: array<f32>;
@group(0) @binding(2) var<storage, read_write> labels: array<i32>;
@group(0) @binding(3) var<storage, read_write> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(5) var<storage, read_write> natural_gradient: array<f32>;
@group(0) @binding(6) var<uniform> parameters: Parameters;

fn log1p(x: f32) -> f32 {
    // Exact to rounding for small x, where 1 + x loses its digits.
    let u = 1.0 + x;
    return select(log(u) * (x / (u - 1.0)), x, u == 1.0);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x;
    if (n >= parameters.examples) {
        return;
    }
    let classes = parameters.classes;
    let row = n * parameters.stride;
    let to = n * parameters.gradient_stride;
    let label = u32(labels[n]);
    // The strongest class, and the strongest but the label; the first of equals.
    var top = 0u;
    var other = select(0u, 1u, label == 0u);
    for (var k = 0u; k < classes; k = k + 1u) {
        if (logits[row + k] > logits[row + top]) {
            top = k;
        }
        if (k != label && logits[row + k] > logits[row + other]) {
            other = k;
        }
    }
    let highest = logits[row + top];
    var total = 0.0;
    for (var k = 0u; k < classes; k = k + 1u) {
        if (k != top) {
            total = total + exp(logits[row + k] - highest);
        }
    }
    // log sum exp z = highest + log1p(total), total without the strongest.
    let log_total = log1p(total);
    for (var k = classes; k < parameters.gradient_stride; k = k + 1u) {
        gradient[to + k] = 0.0;
    }

    if (parameters.kind == CROSS_ENTROPY) {
        let s = parameters.number;
        var sum = 0.0;
        for (var k = 0u; k < classes; k = k + 1u) {
            sum = sum + (logits[row + k] - highest);
        }
        let own = logits[row + label] - highest;
        values[n] = log_total - own + s * (own - sum / f32(classes));
        for (var k = 0u; k < classes; k = k + 1u) {
            let p = exp(logits[row + k] - highest - log_total);
            let target_ = select(0.0, 1.0 - s, k == label) + s / f32(classes);
            // 1 - p_y from the others, so that it keeps its digits where p_y is nearly 1.
            var g = p - target_;
            if (k == label && s == 0.0 && top == label) {
                g = -total / (1.0 + total);
            }
            gradient[to + k] = g;
        }
    } else if (parameters.kind == MARGIN) {
        // The others of m: if m is the strongest, `total` is their sum; else take them anew.
        var reference = -1e30;
        for (var k = 0u; k < classes; k = k + 1u) {
            if (k != other) {
                reference = max(reference, logits[row + k]);
            }
        }
        var rest = 0.0;
        for (var k = 0u; k < classes; k = k + 1u) {
            if (k != other) {
                rest = rest + exp(logits[row + k] - reference);
            }
        }
        // d = z_m - log sum_{k != m} exp z_k.
        let d = logits[row + other] - reference - log(rest);
        // p_m = sigmoid(d), and what is left, 1 - p_m.
        let small = exp(-abs(d));
        let larger = 1.0 / (1.0 + small);
        let smaller = small * larger;
        let p = select(smaller, larger, d >= 0.0);
        let left = select(larger, smaller, d >= 0.0);
        var scale = p;
        if (parameters.released == 0u) {
            values[n] = max(d, 0.0) + log1p(small);
        } else {
            values[n] = -log(left + RELEASED_MARGIN);
            scale = p * left / (left + RELEASED_MARGIN);
        }
        for (var k = 0u; k < classes; k = k + 1u) {
            let share = exp(logits[row + k] - reference) / rest;
            gradient[to + k] = select(-scale * share, scale, k == other);
        }
    } else if (parameters.kind == KL) {
        let from_ = n * parameters.other_stride;
        var natural_top = 0u;
        for (var k = 0u; k < classes; k = k + 1u) {
            if (natural[from_ + k] > natural[from_ + natural_top]) {
                natural_top = k;
            }
        }
        let natural_highest = natural[from_ + natural_top];
        var natural_total = 0.0;
        for (var k = 0u; k < classes; k = k + 1u) {
            if (k != natural_top) {
                natural_total = natural_total + exp(natural[from_ + k] - natural_highest);
            }
        }
        let natural_log = log1p(natural_total);
        var whole = 0.0;
        var weighted = 0.0;
        for (var k = 0u; k < classes; k = k + 1u) {
            let log_q = natural[from_ + k] - natural_highest - natural_log;
            let q = exp(log_q);
            var log_p = logits[row + k] - highest - log_total;
            if (parameters.released != 0u) {
                let p = exp(log_p);
                log_p = log(p + RELEASED_LOG);
                weighted = weighted + q * (p / (p + RELEASED_LOG));
            }
            whole = whole + q * (log_q - log_p);
        }
        values[n] = whole;
        for (var k = classes; k < parameters.gradient_stride; k = k + 1u) {
            natural_gradient[to + k] = 0.0;
        }
        for (var k = 0u; k < classes; k = k + 1u) {
            let log_q = natural[from_ + k] - natural_highest - natural_log;
            let q = exp(log_q);
            let plain = logits[row + k] - highest - log_total;
            let p = exp(plain);
            var log_p = plain;
            var g = p - q;
            if (parameters.released != 0u) {
                log_p = log(p + RELEASED_LOG);
                g = p * weighted - q * (p / (p + RELEASED_LOG));
            }
            gradient[to + k] = g;
            natural_gradient[to + k] = q * (log_q - log_p - whole);
        }
    } else if (parameters.kind == WEIGHT) {
        let own = exp(logits[row + label] - highest - log_total);
        var rest = 0.0;
        for (var k = 0u; k < classes; k = k + 1u) {
            if (k != label) {
                rest = rest + exp(logits[row + k] - highest - log_total);
            }
        }
        values[n] = select(rest, RELEASED_WEIGHT - own, parameters.released != 0u);
        for (var k = 0u; k < classes; k = k + 1u) {
            let p = exp(logits[row + k] - highest - log_total);
            gradient[to + k] = select(own * p, -own * rest, k == label);
        }
    } else {
        let lead = logits[row + other] - logits[row + label];
        let alive = lead < parameters.number;
        values[n] = select(parameters.number, lead, alive);
        for (var k = 0u; k < classes; k = k + 1u) {
            gradient[to + k] = select(0.0, select(0.0, 1.0, k == other) - select(0.0, 1.0, k == label), alive);
        }
    }
}
