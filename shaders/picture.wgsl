// An image, or what an attack changed in it, as a picture that fills the viewport; every pixel a sharp square.
//
//     mode 0: colour = second                                grey for one channel
//     mode 1: colour = diverging(gain * (second - first))    one channel
//             colour = 0.5 + gain * (second - first) / 2     three channels
//
// diverging: blue at -1, light grey at 0, orange at 1, straight in OKLab; what is not a number is black.
// Shapes: two textures of W x H texels, one value in each of the first C components.
// Twin: report::pictures (picture, perturbation, diverging); drawn by app::picture.

struct Parameters {
    width: u32,
    height: u32,
    channels: u32,
    mode: u32,
    gain: f32,
}

@group(0) @binding(0) var first: texture_2d<f32>;
@group(0) @binding(1) var second: texture_2d<f32>;
@group(0) @binding(2) var<uniform> parameters: Parameters;

struct Corner {
    @builtin(position) position: vec4<f32>,
    @location(0) place: vec2<f32>,
}

// One triangle that covers the viewport.
@vertex
fn corner(@builtin(vertex_index) index: u32) -> Corner {
    let place = vec2<f32>(f32((index << 1u) & 2u), f32(index & 2u));
    return Corner(vec4<f32>(place.x * 2.0 - 1.0, 1.0 - place.y * 2.0, 0.0, 1.0), place);
}

const NEUTRAL = vec3<f32>(0.97, 0.0, 0.0);
const BLUE = vec3<f32>(0.56, -0.0401, -0.1497);
const ORANGE = vec3<f32>(0.56, 0.0932, 0.1111);

fn encoded(value: f32) -> f32 {
    let linear = clamp(value, 0.0, 1.0);
    return select(1.055 * pow(linear, 1.0 / 2.4) - 0.055, 12.92 * linear, linear <= 0.0031308);
}

fn srgb(lab: vec3<f32>) -> vec3<f32> {
    let l = lab.x + 0.3963378 * lab.y + 0.21580376 * lab.z;
    let m = lab.x - 0.105561346 * lab.y - 0.06385417 * lab.z;
    let s = lab.x - 0.08948418 * lab.y - 1.2914855 * lab.z;
    let long = l * l * l;
    let medium = m * m * m;
    let short = s * s * s;
    return vec3<f32>(
        encoded(4.0767417 * long - 3.3077116 * medium + 0.23096994 * short),
        encoded(-1.268438 * long + 2.6097574 * medium - 0.34131938 * short),
        encoded(-0.004196086 * long - 0.7034186 * medium + 1.7076147 * short),
    );
}

// Told from the bits, because shader compilers may assume that NaN does not occur.
fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

fn diverging(value: f32) -> vec3<f32> {
    if is_nan(value) {
        return vec3<f32>(0.0);
    }
    let end = select(ORANGE, BLUE, value < 0.0);
    return srgb(mix(NEUTRAL, end, min(abs(value), 1.0)));
}

@fragment
fn colour(corner: Corner) -> @location(0) vec4<f32> {
    let size = vec2<f32>(f32(parameters.width), f32(parameters.height));
    let texel = vec2<i32>(clamp(corner.place * size, vec2<f32>(0.0), size - 1.0));
    let before = textureLoad(first, texel, 0).rgb;
    let after = textureLoad(second, texel, 0).rgb;
    let grey = parameters.channels == 1u;
    var shown = select(after, vec3<f32>(after.x), grey);
    if parameters.mode == 1u {
        let change = parameters.gain * (after - before);
        if grey {
            shown = diverging(change.x);
        } else {
            shown = 0.5 + change / 2.0;
        }
    }
    return vec4<f32>(clamp(shown, vec3<f32>(0.0), vec3<f32>(1.0)), 1.0);
}
