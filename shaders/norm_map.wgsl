// What a BatchNorm does to each channel, as the numbers that pointwise.wgsl takes: map [half][4][C].
//
// Mode STATISTICS: joins the parts of norm_sums.wgsl (Chan et al., 1979), moves the running statistics by a tenth towards each
// half's in turn (the variance to the unbiased one), and gives scale = gamma/sqrt(v + e), shift = beta - mean*scale, 1/sqrt(v + e), mean.
// Mode GIVEN: the same from the running statistics as they are.
// Mode GRADIENT: from the parts of the gradient's sums, the map of  a*g + b*(x - mean) + c  (rows a, c, b, mean), and the gradients of
// gamma and beta in `gradient`. Flag FIXED: the statistics were given, so that b = c = 0.
//
// A thread does one channel. Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    positions: u32,
    share: u32,
    channels: u32,
    stored_channels: u32,
    parts: u32,
    halves: u32,
    gamma: u32,
    beta: u32,
    mean: u32,
    variance: u32,
    mode: u32,
    epsilon: f32,
    momentum: f32,
}

const STATISTICS: u32 = 0u;
const GIVEN: u32 = 1u;
const GRADIENT: u32 = 2u;
const FIXED: u32 = 3u;

@group(0) @binding(0) var<storage, read_write> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(3) var<storage, read_write> forward: array<f32>;
@group(0) @binding(4) var<storage, read_write> map: array<f32>;
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(6) var<uniform> parameters: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    let stride = parameters.stored_channels;
    if (channel >= stride) {
        return;
    }
    if (channel >= parameters.channels) {
        for (var row = 0u; row < 4u * parameters.halves; row = row + 1u) {
            map[row * stride + channel] = 0.0;
        }
        return;
    }
    let gamma = values[parameters.gamma + channel];
    let beta = values[parameters.beta + channel];
    var of_gamma = 0.0;
    var of_beta = 0.0;
    for (var half = 0u; half < parameters.halves; half = half + 1u) {
        let to = half * 4u * stride + channel;
        if (parameters.mode >= GRADIENT) {
            var of_gradient = 0.0;
            var of_product = 0.0;
            for (var part = 0u; part < parameters.parts; part = part + 1u) {
                let from_ = (half * parameters.parts + part) * 2u * stride + channel;
                of_gradient = of_gradient + partial[from_];
                of_product = of_product + partial[from_ + stride];
            }
            let inverse = forward[to + 2u * stride];
            let scale = gamma * inverse;
            let share = select(1.0 / f32(parameters.positions), 0.0, parameters.mode == FIXED);
            map[to] = scale;
            map[to + stride] = -scale * of_gradient * share;
            map[to + 2u * stride] = -scale * inverse * inverse * of_product * share;
            map[to + 3u * stride] = forward[to + 3u * stride];
            of_gamma = of_gamma + of_product * inverse;
            of_beta = of_beta + of_gradient;
            continue;
        }
        var mean = statistics[parameters.mean + channel];
        var variance = statistics[parameters.variance + channel];
        if (parameters.mode == STATISTICS) {
            mean = 0.0;
            var squares = 0.0;
            var count = 0.0;
            for (var part = 0u; part < parameters.parts; part = part + 1u) {
                let begin = part * parameters.share;
                if (begin >= parameters.positions) {
                    break;
                }
                let more = f32(min(parameters.share, parameters.positions - begin));
                let from_ = (half * parameters.parts + part) * 2u * stride + channel;
                let away = partial[from_] - mean;
                let all = count + more;
                mean = mean + away * (more / all);
                squares = squares + partial[from_ + stride] + away * away * (count * more / all);
                count = all;
            }
            variance = squares / count;
            let old_mean = statistics[parameters.mean + channel];
            let old_variance = statistics[parameters.variance + channel];
            let unbiased = squares / max(count - 1.0, 1.0);
            statistics[parameters.mean + channel] = old_mean + (mean - old_mean) * parameters.momentum;
            statistics[parameters.variance + channel] = old_variance + (unbiased - old_variance) * parameters.momentum;
        }
        let inverse = 1.0 / sqrt(variance + parameters.epsilon);
        map[to] = gamma * inverse;
        map[to + stride] = beta - mean * gamma * inverse;
        map[to + 2u * stride] = inverse;
        map[to + 3u * stride] = mean;
    }
    if (parameters.mode >= GRADIENT) {
        gradient[parameters.gamma + channel] = of_gamma;
        gradient[parameters.beta + channel] = of_beta;
    }
}
