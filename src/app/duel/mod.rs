//! The duel: two networks on one picture. What stands here is looked at by its view; threads find it out.

mod bouts;
mod corner;
mod drawing;
mod grid;
mod measure;
mod pictures;
mod poster;
mod share;

use std::{path::PathBuf, sync::Arc};

use egui::Context;

pub use bouts::Attacked;
pub use corner::{Corner, Fighter, Robustness, Verdict, answer, truth, verdict};
pub use drawing::Stroke;
pub use grid::Grid;
pub use pictures::Shelf;
pub use share::{File, Sharing, read as read_file};

use self::bouts::{Bouts, Wish};
use super::{
    background::Background,
    lab::{Source, Specimen, Subject},
};
use crate::{
    attacks::AttackSpec,
    compute::Device,
    defences::DefenceSpec,
    demo_models::{self, DemoModel, Figures},
    nn::Model,
    recipe::Recipe,
    threat::{Magnitude, Norm},
};

/// The corner of the network without the defence, or with the one that is compared.
pub const LEFT: usize = 0;
/// The corner of the defence that the recipe states.
pub const RIGHT: usize = 1;

/// What a person does to the duel.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// The duel is looked at for the first time, with this source of data in the recipe.
    Enter(String),
    /// ε, by its place on the grid.
    Epsilon(usize),
    /// A picture of the shelf.
    Picture(usize),
    /// What was drawn by hand, and which digit it is meant to be where the person says so.
    Draw(Vec<Stroke>),
    /// A picture from a file.
    Own(PathBuf),
}

/// What threads that are started for one answer say.
enum Said {
    Shipped(usize, Box<Shipped>),
    Shelf(Shelf),
    Measured(usize, u64, Robustness),
    Picture(Box<Specimen>),
    Failed(String),
}

/// A network that comes with the program, read.
pub struct Shipped {
    model: Arc<Model>,
    device: Device,
    recipe: Recipe,
    /// What was measured of it.
    pub figures: Figures,
}

/// Everything that the duel's view looks at.
pub struct Duel {
    /// Both networks and what attacks found of them.
    pub corners: [Corner; 2],
    /// The networks that come with the program, once they are read.
    pub shipped: [Option<Box<Shipped>>; 2],
    /// The pictures to choose from.
    pub shelf: Shelf,
    /// The picture of the shelf that was chosen.
    pub chosen: Option<usize>,
    /// The picture under attack.
    pub picture: Option<Arc<Specimen>>,
    /// The radii of the slider.
    pub grid: Grid,
    /// ε, by its place on the grid.
    pub place: usize,
    /// The attack.
    pub attack: AttackSpec,
    /// What went wrong last.
    pub error: Option<String>,
    /// Whether anyone looks: nobody else needs the radii beside the chosen one.
    pub watched: bool,
    /// Whether a network here trains now.
    is_live: bool,
    /// The shortest time that an attack took.
    quickest: f64,
    entered: bool,
    ctx: Context,
    loading: Vec<Background<Said>>,
    bouts: Bouts,
    /// Numbers for pictures and fighters: what was found of an earlier one is told apart by it.
    serial: u64,
    picture_serial: u64,
}

impl Duel {
    /// A duel whose fighters are not read yet.
    pub fn new(ctx: &Context) -> Self {
        // The attack is a constant, and a test opens the duel with it.
        let attack = demo_models::ATTACK
            .parse()
            .unwrap_or_else(|error| unreachable!("{error}"));
        Self {
            corners: [Corner::default(), Corner::default()],
            shipped: [None, None],
            shelf: Shelf::default(),
            chosen: None,
            picture: None,
            grid: Grid::new(Norm::Linf, &Magnitude::zero()),
            place: 0,
            attack,
            error: None,
            watched: false,
            is_live: false,
            quickest: f64::INFINITY,
            entered: false,
            ctx: ctx.clone(),
            loading: Vec::new(),
            bouts: Bouts::new(ctx),
            serial: 0,
            picture_serial: 0,
        }
    }

    /// Whether the fighters and pictures were asked for.
    pub fn is_entered(&self) -> bool {
        self.entered
    }

    /// Carries out a move.
    pub fn apply(&mut self, wanted: Move) {
        match wanted {
            Move::Enter(source) => self.enter(source),
            Move::Epsilon(place) => {
                self.place = place.min(self.grid.last());
                self.ask();
            }
            Move::Picture(number) => {
                if let Some(picture) = self.shelf.pictures.get(number).cloned() {
                    self.chosen = Some(number);
                    self.show(picture);
                }
            }
            Move::Draw(strokes) => {
                if let Some(shape) = self.shape() {
                    let classes = self.classes();
                    self.chosen = None;
                    self.show(Arc::new(drawing::specimen(&strokes, shape, classes)));
                }
            }
            Move::Own(path) => {
                if let Some(shape) = self.shape() {
                    let classes = self.classes();
                    self.load(move || Ok(Said::Picture(Box::new(pictures::own(&path, shape, classes)?))));
                }
            }
        }
    }

    /// Reads the shipped networks and the pictures, each on a thread: the first of them shows as soon as it is there.
    fn enter(&mut self, source: String) {
        if std::mem::replace(&mut self.entered, true) {
            return;
        }
        for (corner, shipped) in [(LEFT, &demo_models::NATURAL), (RIGHT, &demo_models::MART)] {
            self.load(move || Ok(Said::Shipped(corner, Box::new(Shipped::read(shipped)?))));
        }
        self.load(move || Ok(Said::Shelf(Shelf::built_in(&source)?)));
    }

    fn load(&mut self, work: impl FnOnce() -> anyhow::Result<Said> + Send + 'static) {
        self.loading
            .push(Background::start("duel", &self.ctx, Said::Failed, move |_, teller| {
                teller.tell(work()?);
                Ok(())
            }));
    }

    /// The images that both fighters take.
    pub fn shape(&self) -> Option<crate::shapes::ImageShape> {
        self.corners
            .iter()
            .find_map(|corner| Some(corner.fighter.as_ref()?.input()))
    }

    fn classes(&self) -> Vec<String> {
        let shipped = self.shipped.iter().flatten().next();
        shipped.map_or_else(Vec::new, |shipped| shipped.figures.classes.clone())
    }

    fn show(&mut self, picture: Arc<Specimen>) {
        self.error = None;
        self.serial += 1;
        self.picture_serial = self.serial;
        self.picture = Some(picture);
        for corner in &mut self.corners {
            corner.forget_bouts(self.grid.len());
        }
        self.ask();
    }

    /// Puts a network into a corner.
    pub fn seat(&mut self, corner: usize, fighter: Fighter) {
        self.serial += 1;
        self.corners[corner].seat(fighter, self.serial, self.grid.len());
        self.ask();
    }

    /// Measures accuracy against ε of the network in a corner on test images, on a thread; it grows as it comes.
    pub fn measure(&mut self, corner: usize, recipe: &Recipe) {
        let own = &self.corners[corner];
        let (Some(fighter), serial, ctx) = (&own.fighter, own.serial, &self.ctx) else {
            return;
        };
        let (subject, recipe, attack) = (fighter.subject.clone(), recipe.clone(), self.attack.clone());
        self.loading.push(Background::start(
            "duel curve",
            ctx,
            Said::Failed,
            move |control, teller| {
                measure::measure(&subject, &recipe, &attack, control, &mut |robustness| {
                    teller.tell(Said::Measured(corner, serial, robustness));
                })
            },
        ));
    }

    /// Takes in what the threads say.
    pub fn drain(&mut self) {
        let mut loading = std::mem::take(&mut self.loading);
        for work in &mut loading {
            for said in work.drain() {
                match said {
                    Said::Shipped(corner, shipped) => self.take_shipped(corner, shipped),
                    Said::Shelf(shelf) => {
                        self.shelf = shelf;
                        self.shelf.upload(&self.ctx);
                        if self.picture.is_none() {
                            self.apply(Move::Picture(self.shelf.first()));
                        }
                    }
                    Said::Picture(picture) => {
                        self.chosen = None;
                        self.show(Arc::new(*picture));
                    }
                    Said::Measured(corner, serial, robustness) => {
                        let own = &mut self.corners[corner];
                        if own.serial == serial {
                            own.robustness = Some(robustness);
                        }
                    }
                    Said::Failed(error) => self.error = Some(error),
                }
            }
        }
        loading.retain(Background::is_running);
        self.loading.append(&mut loading);
        while let Some(found) = self.bouts.next() {
            match found {
                Ok(found) if found.picture == self.picture_serial => {
                    // While training has the cores, an attack waits more than it works.
                    self.quickest = self.quickest.min(found.seconds);
                    self.corners[found.corner].take(found);
                }
                Ok(_) => {}
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn take_shipped(&mut self, corner: usize, shipped: Box<Shipped>) {
        if self.grid.len() == 1 {
            self.grid = Grid::new(shipped.recipe.threat.norm, &shipped.recipe.threat.epsilon);
            self.place = self.grid.trained();
        }
        self.shipped[corner] = Some(shipped);
        if self.corners[corner].fighter.is_none() {
            self.seat_shipped(corner);
        }
    }

    /// Puts the network that comes with the program into a corner, once it is read.
    pub fn seat_shipped(&mut self, corner: usize) {
        let Some(shipped) = &self.shipped[corner] else { return };
        let (fighter, robustness) = (shipped.fighter(), shipped.robustness());
        self.corners[corner].robustness = Some(robustness);
        self.seat(corner, fighter);
    }

    /// Asks the worker for the radius that is looked at, and then for all others.
    fn ask(&mut self) {
        let Some(picture) = self.picture.clone() else { return };
        let subjects = self.corners.each_ref().map(|corner| {
            let fighter = corner.fighter.as_ref()?;
            (fighter.input() == picture.shape).then(|| (corner.serial, fighter.subject.clone()))
        });
        self.bouts.ask(Wish {
            picture: self.picture_serial,
            specimen: picture,
            subjects,
            grid: self.grid.clone(),
            attack: self.attack.clone(),
            place: self.place,
            others: match (self.watched, self.is_live) {
                (false, _) => 0,
                // While it trains, one radius more each time that the network is looked at.
                (true, true) => 1,
                (true, false) => usize::MAX,
            },
        });
    }

    /// Takes the picture and the radius of a shared duel.
    ///
    /// # Errors
    /// Where its picture is damaged, or its attack is unknown.
    pub fn open(&mut self, file: &File) -> anyhow::Result<()> {
        let picture = file.picture.specimen()?;
        self.attack = file.attack.parse()?;
        let threat = &file.right.recipe.threat;
        self.grid = Grid::new(threat.norm, &threat.epsilon);
        self.place = file.place.min(self.grid.last());
        self.chosen = None;
        self.show(Arc::new(picture));
        Ok(())
    }

    /// Says whether a network of the duel trains now.
    pub fn live(&mut self, is_live: bool) {
        if std::mem::replace(&mut self.is_live, is_live) != is_live {
            self.ask();
        }
    }

    /// Whether a newer network of a corner may be looked at: training keeps its share of the time.
    pub fn is_rested(&self, corner: usize, share: f64) -> bool {
        self.corners[corner].is_rested(self.place, self.quickest, share)
    }

    /// Says whether anyone looks at the duel.
    pub fn watch(&mut self, watched: bool) {
        if std::mem::replace(&mut self.watched, watched) != watched && self.entered {
            self.ask();
        }
    }
}

impl Shipped {
    fn read(shipped: &DemoModel) -> anyhow::Result<Self> {
        // A GPU would first compile its kernels; a processor answers for a network this small at once.
        let device = Device::cpu();
        Ok(Self {
            model: Arc::new(shipped.model(&device)?),
            recipe: shipped.recipe()?,
            figures: shipped.figures()?,
            device,
        })
    }

    /// How it was trained.
    pub fn defence(&self) -> &DefenceSpec {
        &self.recipe.defence
    }

    /// How it stands on many examples.
    pub fn robustness(&self) -> Robustness {
        Robustness::shipped(&self.figures)
    }

    fn fighter(&self) -> Fighter {
        let label = format!("as it comes with Martlet, trained for {} epochs", self.figures.epoch);
        let source = Source {
            folder: PathBuf::new(),
            slot: None,
            written: None,
        };
        Fighter {
            recipe: self.recipe.clone(),
            subject: Subject::new(source, label, self.model.clone(), self.device.clone()),
            run: None,
            steps: None,
        }
    }
}
