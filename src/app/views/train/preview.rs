//! What the chosen data hold and what training on them takes, told before anything is trained.

use egui::{Context, Frame, RichText, Ui};

use crate::{
    app::{background::Background, theme},
    data::{self, DataError, Preparation, Split},
    memory::{self, Budget, Size},
    nn::Architecture,
    recipe::Recipe,
    shapes::ImageShape,
    wording::{counted, grouped},
};

/// The card below the form's data.
#[derive(Default)]
pub struct Preview {
    of: Option<(String, Preparation)>,
    work: Option<Background<Result<Found, String>>>,
    found: Option<Result<Found, String>>,
}

/// What a look at the data found.
struct Found {
    train: usize,
    /// None where the source has no test images of its own.
    test: Option<usize>,
    shape: ImageShape,
    /// The training examples of each class.
    classes: Vec<(String, usize)>,
    note: Option<String>,
    /// What a minibatch takes, once that is reckoned.
    need: Option<Need>,
}

/// The memory of a minibatch: reckoned where the network or the minibatch changes, not in every frame.
struct Need {
    of: (Architecture, usize),
    /// None where the network cannot take such images.
    bytes: Option<u64>,
    /// What was free then.
    free: u64,
}

/// Sides that pictures are usually scaled to.
const SIDES: [usize; 3] = [32, 64, 128];

/// A side from which on a picture is one that people scale down first.
const LARGE: usize = 160;

fn look(source: &str, preparation: &Preparation) -> Result<Found, DataError> {
    let train = data::load_within(source, Split::Train, preparation, &Budget::default())?;
    let test = match data::load_within(source, Split::Test, preparation, &Budget::default()) {
        Ok(test) => Some(test.len()),
        Err(DataError::NoTestSplit { .. }) => None,
        Err(error) => return Err(error),
    };
    let mut counts = vec![0; train.classes()];
    for position in 0..train.len() {
        counts[train.label(position)] += 1;
    }
    Ok(Found {
        train: train.len(),
        test,
        shape: train.shape(),
        classes: train.class_names().iter().cloned().zip(counts).collect(),
        note: train.note().map(str::to_string),
        need: None,
    })
}

impl Preview {
    /// Takes in what was found, and looks again where other data were chosen. Without a test set, and where most would be held out, a fifth
    /// of the training images is.
    pub fn logic(&mut self, ctx: &Context, recipe: &mut Recipe) {
        if let Some(work) = &mut self.work {
            for found in work.drain() {
                if let Ok(Found { test, train, .. }) = &found {
                    let held_out = &mut recipe.data.held_out;
                    // A fifth chooses the checkpoint and is measured on where there is nothing else.
                    if *held_out > train / 2 || (test.is_none() && *held_out == 0) {
                        *held_out = (train / 5).max(1);
                    }
                }
                self.found = Some(found);
            }
            if !work.is_running() {
                self.work = None;
            }
        }
        if let Some(Ok(found)) = &mut self.found {
            found.reckon(recipe);
        }
        let wanted = (recipe.data.source.clone(), recipe.data.preparation());
        if self.of.as_ref() == Some(&wanted) {
            return;
        }
        (self.found, self.work) = (None, None);
        if wanted.0.contains(':') {
            let (source, preparation) = wanted.clone();
            self.work = Some(Background::start("preview", ctx, Err, move |_, teller| {
                teller.tell(look(&source, &preparation).map_err(|error| error.to_string()));
                Ok(())
            }));
        }
        self.of = Some(wanted);
    }

    /// The card; nothing for built-in data.
    pub fn ui(&mut self, ui: &mut Ui, recipe: &mut Recipe) {
        if self.work.is_none() && self.found.is_none() {
            return;
        }
        let dark = ui.visuals().dark_mode;
        Frame::group(ui.style()).show(ui, |ui| {
            ui.set_width(ui.available_width());
            match &self.found {
                None => {
                    ui.horizontal(|ui| {
                        ui.spinner();
                        ui.label("Looking at the data");
                    });
                }
                Some(Err(error)) => {
                    ui.colored_label(theme::error(dark), error);
                    if error.contains("--resize") {
                        scale_ui(ui, recipe);
                    }
                }
                Some(Ok(found)) => found.ui(ui, recipe),
            }
        });
    }
}

/// Buttons that scale the pictures of a folder.
fn scale_ui(ui: &mut Ui, recipe: &mut Recipe) {
    ui.horizontal_wrapped(|ui| {
        ui.label("Scale all pictures to");
        for side in SIDES {
            if ui.button(format!("{side}×{side}")).clicked() {
                recipe.data.resize = Some(side);
            }
        }
        if recipe.data.resize.is_some() && ui.button("Leave them as they are").clicked() {
            recipe.data.resize = None;
        }
    });
}

impl Found {
    fn reckon(&mut self, recipe: &Recipe) {
        let of = (recipe.network, recipe.batch_size.min(self.train));
        if self.need.as_ref().is_some_and(|need| need.of == of) {
            return;
        }
        self.need = Some(Need {
            of,
            bytes: recipe.network.training_bytes(self.shape, self.classes.len(), of.1),
            free: memory::free(),
        });
    }

    fn ui(&self, ui: &mut Ui, recipe: &mut Recipe) {
        let test = match self.test {
            Some(test) => format!("{} to test on", grouped(test)),
            None => format!(
                "no test set: {} of them held out to measure on",
                grouped(recipe.data.held_out.min(self.train))
            ),
        };
        ui.label(RichText::new(format!("{} to train on, {test}", grouped(self.train))).strong());
        let (shape, classes) = (self.shape, counted(self.classes.len(), "class", "classes"));
        let colour = if shape.channels == 1 { "grey" } else { "colour" };
        ui.label(format!(
            "{classes} · {}×{} pixels in {colour}",
            shape.width, shape.height
        ));
        let names = self
            .classes
            .iter()
            .map(|(name, count)| format!("{name} {}", grouped(*count)));
        ui.weak(names.collect::<Vec<_>>().join(" · "));
        if let Some(note) = &self.note {
            ui.weak(note);
        }
        if let Some(need) = &self.need {
            need.ui(ui, self.shape);
        }
        let is_folder = recipe.data.source.starts_with("folder:");
        if is_folder && (self.shape.height.max(self.shape.width) >= LARGE || recipe.data.resize.is_some()) {
            scale_ui(ui, recipe);
        }
    }
}

impl Need {
    fn ui(&self, ui: &mut Ui, shape: ImageShape) {
        let (error, (network, batch)) = (theme::error(ui.visuals().dark_mode), self.of);
        let Some(bytes) = self.bytes else {
            ui.colored_label(error, format!("{network} cannot take images of {shape}"));
            return;
        };
        let text = format!("a minibatch of {batch} takes about {}", Size(bytes));
        if bytes > self.free {
            let free = Size(self.free);
            ui.colored_label(
                error,
                format!("{text}, and {free} are free: make the minibatch or the pictures smaller"),
            );
        } else {
            ui.weak(text);
        }
    }
}
