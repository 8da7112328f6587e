//! The tensors that everything speaks in, every shape documented once.

use burn::tensor::{Int, Tensor, TensorData};

/// A minibatch of images, `[N, C, H, W]`, pixels in `[0, 1]`.
pub type Images = Tensor<4>;

/// True classes, `[N]`, each in `0..K`.
pub type Labels = Tensor<1, Int>;

/// Unnormalised class scores, `[N, K]`.
pub type Logits = Tensor<2>;

/// One value for each example, `[N]`. Losses stay per example until the last line.
pub type PerExample = Tensor<1>;

/// Channels, height and width of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ImageShape {
    /// Colour planes: 1 or 3.
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
}

impl ImageShape {
    /// Values in one image: `C · H · W`.
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether an image of this shape holds no value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

/// A minibatch on a device.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The natural images.
    pub images: Images,
    /// Their true classes.
    pub labels: Labels,
    /// Each example's position in the data set that the batch was drawn from: the key of per-example state
    /// and of galleries.
    pub indices: Vec<usize>,
}

impl Batch {
    /// The number of examples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether the batch holds no example.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The examples at `rows` of this batch, in that order.
    pub fn select(&self, rows: &[usize]) -> Self {
        let chosen = row_numbers(rows, &self.images);
        Self {
            images: self.images.clone().select(0, chosen.clone()),
            labels: self.labels.clone().select(0, chosen),
            indices: rows.iter().map(|row| self.indices[*row]).collect(),
        }
    }
}

/// The position of the largest value, the first of equals as on a device; 0 where there is none.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (position, value) in values.iter().enumerate() {
        if value.total_cmp(&values[best]).is_gt() {
            best = position;
        }
    }
    best
}

/// Rows as a tensor on the device of `images`, to select with.
pub fn row_numbers(rows: &[usize], images: &Images) -> Tensor<1, Int> {
    let numbers: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    Tensor::from_data(TensorData::new(numbers, [rows.len()]), &images.device())
}
