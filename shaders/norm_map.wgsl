// What a BatchNorm does to each channel, as the numbers that pointwise.wgsl takes: map [half][4][C].
//
// Mode STATISTICS: joins the parts of norm_sums.wgsl (their means first, then squares about the mean of all), moves the running statistics by a tenth towards each
// half's in turn (the variance to the unbiased one), and gives scale = gamma/sqrt(v + e), shift = beta - mean*scale, 1/sqrt(v + e), mean.
// Mode GIVEN: the same from the running statistics as they are.
// Mode GRADIENT: from the parts of the gradient's sums, the map of  a*g + b*(x - mean) + c  (rows a, c, b, mean), and the gradients of
// gamma and beta in `gradient`. Flag FIXED: the statistics were given, so that b = c = 0.
//
// Sixteen threads do one channel. Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

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

var<workgroup> shares: array<vec2<f32>, 256>;

// The sums of a channel's sixteen threads.
fn together(lane: vec3<u32>, own: vec2<f32>) -> vec2<f32> {
    let place = lane.y * 16u + lane.x;
    shares[place] = own;
    workgroupBarrier();
    for (var count = 8u; count > 0u; count = count / 2u) {
        if (lane.y < count) {
            shares[place] = shares[place] + shares[place + count * 16u];
        }
        workgroupBarrier();
    }
    let total = shares[lane.x];
    workgroupBarrier();
    return total;
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let channel = group.x * 16u + lane.x;
    let stride = parameters.stored_channels;
    let exists = channel < parameters.channels;
    let writes = exists && lane.y == 0u;
    if (!exists && channel < stride && lane.y == 0u) {
        for (var row = 0u; row < 4u * parameters.halves; row = row + 1u) {
            map[row * stride + channel] = 0.0;
        }
    }
    var gamma = 0.0;
    var beta = 0.0;
    var running = vec2<f32>();
    if (exists) {
        gamma = values[parameters.gamma + channel];
        beta = values[parameters.beta + channel];
        if (parameters.mode < GRADIENT) {
            running = vec2<f32>(statistics[parameters.mean + channel], statistics[parameters.variance + channel]);
        }
    }
    var parts = parameters.parts;
    if (!exists || parameters.mode == GIVEN) {
        parts = 0u;
    }
    var of_gamma = 0.0;
    var of_beta = 0.0;
    for (var half = 0u; half < parameters.halves; half = half + 1u) {
        let to = half * 4u * stride + channel;
        let first = half * parameters.parts * 2u * stride + channel;
        if (parameters.mode >= GRADIENT) {
            var own = vec2<f32>();
            for (var part = lane.y; part < parts; part = part + 16u) {
                let from_ = first + part * 2u * stride;
                own = own + vec2<f32>(partial[from_], partial[from_ + stride]);
            }
            // Of the gradient, and of its products.
            let sums = together(lane, own);
            if (writes) {
                let inverse = forward[to + 2u * stride];
                let scale = gamma * inverse;
                let share = select(1.0 / f32(parameters.positions), 0.0, parameters.mode == FIXED);
                map[to] = scale;
                map[to + stride] = -scale * sums.x * share;
                map[to + 2u * stride] = -scale * inverse * inverse * sums.y * share;
                map[to + 3u * stride] = forward[to + 3u * stride];
                of_gamma = of_gamma + sums.y * inverse;
                of_beta = of_beta + sums.x;
            }
            continue;
        }
        var mean = running.x;
        var variance = running.y;
        if (parameters.mode == STATISTICS) {
            let positions = f32(parameters.positions);
            var own = vec2<f32>();
            for (var part = lane.y; part < parts; part = part + 16u) {
                own.x = own.x + partial[first + part * 2u * stride] * weight(part);
            }
            mean = together(lane, own).x / positions;
            own = vec2<f32>();
            for (var part = lane.y; part < parts; part = part + 16u) {
                let from_ = first + part * 2u * stride;
                let away = partial[from_] - mean;
                own.x = own.x + partial[from_ + stride] + away * away * weight(part);
            }
            let squares = together(lane, own).x;
            variance = squares / positions;
            let unbiased = squares / max(positions - 1.0, 1.0);
            running = running + (vec2<f32>(mean, unbiased) - running) * parameters.momentum;
        }
        if (writes) {
            let inverse = 1.0 / sqrt(variance + parameters.epsilon);
            map[to] = gamma * inverse;
            map[to + stride] = beta - mean * gamma * inverse;
            map[to + 2u * stride] = inverse;
            map[to + 3u * stride] = mean;
        }
    }
    if (writes && parameters.mode == STATISTICS) {
        statistics[parameters.mean + channel] = running.x;
        statistics[parameters.variance + channel] = running.y;
    }
    if (writes && parameters.mode >= GRADIENT) {
        gradient[parameters.gamma + channel] = of_gamma;
        gradient[parameters.beta + channel] = of_beta;
    }
}

// Positions of a part.
fn weight(part: u32) -> f32 {
    let begin = min(part * parameters.share, parameters.positions);
    return f32(min(parameters.share, parameters.positions - begin));
}
