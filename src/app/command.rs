//! Everything that a click or a key can ask for: one list for buttons, shortcuts, tooltips and the palette.

use std::path::PathBuf;

use egui::{Key, KeyboardShortcut, Modifiers, ThemePreference};

use super::{duel::Move, kinds::Lower, theme::Fate};
use crate::{defences::DefenceSpec, engine::Adjustment, recipe::Recipe};

/// Radii of a curve of accuracy against ε, in shares of the trained one.
pub const SHARES: [f64; 6] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5];

/// Something that a person asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Train what the form says.
    Start,
    /// Hold training before the next minibatch, or let it go on.
    TogglePause,
    /// Do one minibatch and hold.
    Step,
    /// End training with a checkpoint; the best one is kept.
    Stop,
    /// Put a recipe into the form, and the defence that trains beside it.
    Plan {
        /// The recipe.
        recipe: Box<Recipe>,
        /// The second defence.
        beside: Option<DefenceSpec>,
    },
    /// Change the course of training.
    Adjust(Adjustment),
    /// Go on with an interrupted run.
    Resume(PathBuf),
    /// Show a run's curves, or hide them.
    ToggleRun(PathBuf),
    /// Make a run the one that all views look at.
    Select(PathBuf),
    /// Take a run's recipe into the form.
    Duplicate(PathBuf),
    /// Take a run out of the table of runs, or put it back.
    ToggleHidden(PathBuf),
    /// Delete runs, after a question.
    Delete(Vec<PathBuf>),
    /// Give a run another name.
    Rename(PathBuf, String),
    /// Draw the curves of these runs, and no others.
    Compare(Vec<PathBuf>),
    /// Keep runs in this folder.
    KeepRunsIn(PathBuf),
    /// Ask for the folder that runs are kept in.
    ChooseRunsFolder,
    /// Write the report page of a run and open it.
    Report(PathBuf),
    /// Save the weights of a run's best checkpoint where the person says.
    Export(PathBuf),
    /// Bring a view to the front.
    Show(&'static str),
    /// Open a lesson, counted from 0.
    Lesson(usize),
    /// Set something inside a view.
    Order(Order),
    /// Do something to the duel.
    Duel(Move),
    /// Write the duel as a picture, a moving picture and a file that opens it again.
    ShareDuel,
    /// Look at those training examples of a run that its last epoch did not see.
    Survey(PathBuf),
    /// Look at a training example of the selected run in the perturbation view.
    Inspect(usize),
    /// Look at a picture from a file.
    OpenImage(PathBuf),
    /// Take a dropped data set, recipe or run.
    Open(PathBuf),
    /// Open or close the list of commands.
    Palette,
    /// Everything that was said, or not.
    Messages,
    /// What the views are, and the keys.
    Help,
    /// Larger text.
    Larger,
    /// Smaller text.
    Smaller,
    /// Dark, light, or as the system has it.
    Theme(ThemePreference),
    /// Let the desktop tell how a training ended, or not.
    ToggleNotifications,
    /// Large type and nothing but the duel, for a wall; or back.
    Projector,
    /// Put all views back where they were at first.
    ResetLayout,
    /// Close the window; asks where work would be lost.
    Quit,
}

/// Something inside one view that another asks for; the view that it concerns obeys.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// The lessons' view opens this lesson, counted from 0.
    Lesson(usize),
    /// What the lower plot of the curves shows.
    Lower(Lower),
    /// Which examples the gallery shows; all where none is named.
    Examples(Option<Fate>),
    /// Attack a run's best checkpoint with a suite on so many test images, as soon as nothing else is evaluated.
    Evaluate {
        /// The run.
        folder: PathBuf,
        /// The attacks, as the robustness view's field takes them.
        suite: String,
        /// Test images.
        images: usize,
        /// Whether at other radii than the trained one too.
        curve: bool,
    },
}

/// A command that a key or the palette can give.
pub struct Entry {
    /// The command.
    pub command: Command,
    /// What it is called.
    pub label: &'static str,
    /// Its keys.
    pub shortcut: Option<KeyboardShortcut>,
}

const fn ctrl(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::COMMAND, key))
}

/// The commands that need nothing but to be given; `views` are the views' names in order, `lessons` the lessons' titles.
pub fn entries(views: &[&'static str], lessons: impl Iterator<Item = &'static str>) -> Vec<Entry> {
    const NUMBERS: [Key; 10] = [
        Key::Num1,
        Key::Num2,
        Key::Num3,
        Key::Num4,
        Key::Num5,
        Key::Num6,
        Key::Num7,
        Key::Num8,
        Key::Num9,
        Key::Num0,
    ];
    let entry = |command, label, shortcut| Entry {
        command,
        label,
        shortcut,
    };
    let mut entries = vec![
        entry(Command::Start, "Start training", ctrl(Key::Enter)),
        entry(Command::TogglePause, "Pause or continue", ctrl(Key::Space)),
        entry(Command::Step, "Train one minibatch", ctrl(Key::Period)),
        entry(Command::Stop, "Stop and keep the best", ctrl(Key::Escape)),
        entry(Command::Palette, "All commands", ctrl(Key::K)),
        entry(
            Command::Help,
            "Help",
            Some(KeyboardShortcut::new(Modifiers::NONE, Key::F1)),
        ),
        entry(Command::Messages, "Messages", ctrl(Key::M)),
        entry(Command::Larger, "Larger text", None),
        entry(Command::Smaller, "Smaller text", None),
        entry(Command::Theme(ThemePreference::Dark), "Dark theme", None),
        entry(Command::Theme(ThemePreference::Light), "Light theme", None),
        entry(Command::Theme(ThemePreference::System), "The system's theme", None),
        entry(Command::ToggleNotifications, "Desktop notifications on or off", None),
        entry(Command::ShareDuel, "Share the duel", None),
        entry(
            Command::Projector,
            "Projector: large type, the duel alone",
            Some(KeyboardShortcut::new(Modifiers::NONE, Key::F11)),
        ),
        entry(Command::ResetLayout, "Reset the layout", None),
        entry(Command::Quit, "Quit", ctrl(Key::Q)),
    ];
    entries.extend(
        views
            .iter()
            .zip(NUMBERS)
            .map(|(view, key)| entry(Command::Show(view), view, ctrl(key))),
    );
    let lessons = lessons.enumerate();
    entries.extend(lessons.map(|(number, title)| entry(Command::Lesson(number), title, None)));
    entries
}

/// The keys of a command as a person reads them.
pub fn keys(ctx: &egui::Context, entries: &[Entry], command: &Command) -> Option<String> {
    let entry = entries.iter().find(|entry| entry.command == *command)?;
    Some(ctx.format_shortcut(&entry.shortcut?))
}
