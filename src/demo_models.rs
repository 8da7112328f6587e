//! The two small trained networks that come with Martlet: natural training and MART from one seed on the built-in
//! characters, each with its recipe and the figures that were measured of it.
//!
//! `martlet demo-models pack` made their files in `assets/models` from two finished runs, and makes them anew.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    compute::Device,
    control::Control,
    data::Split,
    engine::{EpochReport, session},
    evaluation::{CurvePoint, Suite, evaluate},
    files,
    nn::{Model, weights},
    random::Rng,
    recipe::Recipe,
    report::RunReport,
    runs::{Run, Slot},
    shapes::ImageShape,
    threat::ThreatModel,
};

/// The radii of a demo model's curve, in shares of the trained one.
const SHARES: [f64; 9] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0];

/// The attack that the curve is measured with.
pub const ATTACK: &str = "pgd-20";

/// A trained network that comes with the program.
pub struct DemoModel {
    /// What it is called: `natural` or `mart`.
    pub name: &'static str,
    weights: &'static [u8],
    recipe: &'static str,
    figures: &'static str,
}

macro_rules! shipped {
    ($name:literal) => {
        DemoModel {
            name: $name,
            weights: include_bytes!(concat!("../assets/models/", $name, ".safetensors")),
            recipe: include_str!(concat!("../assets/models/", $name, ".toml")),
            figures: include_str!(concat!("../assets/models/", $name, ".json")),
        }
    };
}

/// The network without a defence.
pub const NATURAL: DemoModel = shipped!("natural");

/// The network that MART has trained.
pub const MART: DemoModel = shipped!("mart");

/// Both.
pub const ALL: [&DemoModel; 2] = [&NATURAL, &MART];

/// What was measured of a demo model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// The version of Martlet that trained it.
    pub martlet: String,
    /// The device that trained it.
    pub device: String,
    /// The shape of its images.
    pub input: [usize; 3],
    /// The names of its classes.
    pub classes: Vec<String>,
    /// The epoch whose weights they are.
    pub epoch: usize,
    /// What was measured after each epoch.
    pub epochs: Vec<EpochReport>,
    /// Accuracy against ε on the test examples.
    pub curve: Curve,
}

/// Accuracy against ε, with what it is the accuracy of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Curve {
    /// The attack.
    pub attack: String,
    /// The data set's name.
    pub data: String,
    /// Which part of it.
    pub split: String,
    /// How many examples.
    pub n: usize,
    /// The points, the smallest radius first.
    pub points: Vec<CurvePoint>,
}

impl DemoModel {
    /// The recipe that trains it again.
    ///
    /// # Errors
    /// When the file in `assets/models` is not a recipe of this version; a test holds that it is.
    pub fn recipe(&self) -> Result<Recipe> {
        Recipe::from_toml(self.recipe).with_context(|| format!("assets/models/{}.toml", self.name))
    }

    /// What was measured of it.
    ///
    /// # Errors
    /// When the file in `assets/models` is damaged; a test holds that it is not.
    pub fn figures(&self) -> Result<Figures> {
        serde_json::from_str(self.figures).with_context(|| format!("assets/models/{}.json", self.name))
    }

    /// The network with its weights, on a device.
    ///
    /// # Errors
    /// When the device fails, or the files in `assets/models` do not belong together; a test holds that they do.
    pub fn model(&self, device: &Device) -> Result<Model> {
        let figures = self.figures()?;
        let [channels, height, width] = figures.input;
        let input = ImageShape {
            channels,
            height,
            width,
        };
        let architecture = self.recipe()?.network;
        let mut model = Model::new(architecture, input, figures.classes.len(), &mut Rng::new(0), device)?;
        let entries = weights::read_safetensors(Path::new(self.name), self.weights)?;
        model.load_state(entries)?;
        Ok(model)
    }

    /// Writes its three files into a folder: weights under PyTorch's names, recipe and figures.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn export(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (extension, bytes) in [
            ("safetensors", self.weights),
            ("toml", self.recipe.as_bytes()),
            ("json", self.figures.as_bytes()),
        ] {
            let path = folder.join(format!("{}.{extension}", self.name));
            files::save(&path, bytes).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

/// Makes a demo model's three files of a run: measures accuracy against ε on `examples` test images of its data, and
/// tells `on_point` of each radius.
///
/// # Errors
/// When the run cannot be read, its data have no test images, or the evaluation fails.
pub fn pack(
    run: &Run,
    name: &str,
    folder: &Path,
    examples: usize,
    device: &Device,
    control: &Control,
    on_point: &mut dyn FnMut(&CurvePoint),
) -> Result<()> {
    let report = RunReport::read(run)?;
    let recipe = report.recipe;
    let whole = recipe.data.load(Split::Test)?;
    let dataset = whole.take(examples.min(whole.len()));
    let model = session::model_of(run, Slot::Best, dataset.shape(), dataset.classes(), device)?;
    let mut suite = Suite::new(vec!["natural".parse()?, ATTACK.parse()?])?;
    (suite.seed, suite.probes) = (recipe.seed, false);
    let mut points = Vec::new();
    for share in SHARES {
        let threat = ThreatModel {
            norm: recipe.threat.norm,
            epsilon: recipe.threat.epsilon.times(share),
        };
        let evaluation = evaluate(&model, &dataset, &suite, &threat, device, control, &mut |_| {})?;
        let point = CurvePoint::from(&evaluation);
        on_point(&point);
        points.push(point);
    }
    let shape = dataset.shape();
    let best = report.epochs.iter().rev().find(|epoch| epoch.best);
    let figures = Figures {
        martlet: env!("CARGO_PKG_VERSION").to_string(),
        device: report.identity["device"]["info"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_string(),
        input: [shape.channels, shape.height, shape.width],
        classes: dataset.class_names().to_vec(),
        epoch: best.map_or(0, |best| best.epoch),
        epochs: report.epochs,
        curve: Curve {
            attack: ATTACK.to_string(),
            data: dataset.name().to_string(),
            split: "test".to_string(),
            n: dataset.len(),
            points,
        },
    };
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let about = BTreeMap::from([
        ("format".to_string(), "pt".to_string()),
        ("network".to_string(), model.architecture().to_string()),
        ("martlet".to_string(), env!("CARGO_PKG_VERSION").to_string()),
    ]);
    weights::save_safetensors(&model, &folder.join(format!("{name}.safetensors")), &about)?;
    files::save(&folder.join(format!("{name}.toml")), recipe.to_toml().as_bytes())?;
    let text = serde_json::to_string_pretty(&figures)?;
    files::save(&folder.join(format!("{name}.json")), text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_belongs_together() {
        let device = Device::cpu();
        let test = MART.recipe().unwrap().data.load(Split::Test).unwrap();
        for shipped in ALL {
            let (recipe, figures) = (shipped.recipe().unwrap(), shipped.figures().unwrap());
            recipe.validate().unwrap();
            assert_eq!(recipe.defence.name(), shipped.name);
            assert_eq!(figures.classes, test.class_names());
            assert_eq!(figures.curve.data, test.name());
            assert_eq!(figures.epochs.len(), recipe.epochs, "{}", shipped.name);
            // The figures are those of these weights: what they say about natural images is measured again.
            let model = shipped.model(&device).unwrap();
            let n = figures.curve.n;
            let suite = Suite::natural();
            let threat = recipe.threat.clone();
            let measured = evaluate(
                &model,
                &test.take(n),
                &suite,
                &threat,
                &device,
                &Control::new(),
                &mut |_| {},
            );
            let measured = measured.unwrap().accuracy.get("natural").unwrap();
            let told = figures.curve.points[0].accuracy.get("natural").unwrap();
            assert!(
                (measured - told).abs() <= 2.0 / n as f64,
                "{}: {measured} {told}",
                shipped.name
            );
        }
    }

    #[test]
    fn both_come_from_one_seed_and_mart_holds_where_natural_falls() {
        let (natural, mart) = (NATURAL.recipe().unwrap(), MART.recipe().unwrap());
        assert_eq!(
            (natural.seed, natural.network, &natural.data),
            (mart.seed, mart.network, &mart.data)
        );
        let robust = |shipped: &DemoModel| {
            let figures = shipped.figures().unwrap();
            let trained = figures
                .curve
                .points
                .iter()
                .find(|point| point.epsilon == mart.threat.epsilon);
            trained.unwrap().accuracy.get(ATTACK).unwrap()
        };
        assert!(robust(&MART) > robust(&NATURAL) + 0.3);
    }
}
