//! The views. A new one is one file and one line in [`all`].

mod curves;
mod device;
mod duel;
mod experiments;
mod lessons;
mod misclassified;
mod perturbation;
mod robustness;
mod runs;
mod train;

use egui::{Ui, WidgetText};
use egui_tiles::{Container, Linear, LinearDir, SimplificationOptions, Tile, TileId, Tiles, Tree, UiResponse};

/// What is said until a stop has come into effect.
pub const STOPPING: &str = "stopping after this step";

use super::{
    command::{Command, Entry, Order, keys},
    state::{State, Work},
};

/// A part of the window.
pub trait View {
    /// What it is called: on its tab, in the palette, in the layout that is remembered.
    fn name(&self) -> &'static str;

    /// What it is for, in a sentence.
    fn about(&self) -> &'static str;

    /// Takes in what its own threads say; called while hidden too.
    fn logic(&mut self, state: &mut State) {
        let _ = state;
    }

    /// What is under way here that closing would break off; once [`State::closing`] is set it has to come to its end.
    fn at_work(&self) -> Option<Work> {
        None
    }

    /// How far that is, in words for the status bar.
    fn doing(&self) -> Option<String> {
        None
    }

    /// Does what is ordered, where that concerns it.
    fn obey(&mut self, order: &Order, state: &mut State) {
        let _ = (order, state);
    }

    /// Whether it has something to say over the other views while it is not in sight itself.
    fn has_caption(&self, state: &State) -> bool {
        let _ = state;
        false
    }

    /// Draws what it has to say there, in a line or two.
    fn caption_ui(&mut self, ui: &mut Ui, state: &mut State) {
        let _ = (ui, state);
    }

    /// Draws it.
    fn ui(&mut self, ui: &mut Ui, state: &mut State);
}

/// Every view, in the order of its tab and its key.
pub fn all() -> Vec<Box<dyn View>> {
    vec![
        Box::new(duel::DuelView::default()),
        Box::new(train::Train::default()),
        Box::new(curves::Curves::default()),
        Box::new(misclassified::Misclassified::default()),
        Box::new(perturbation::Perturbation::default()),
        Box::new(robustness::Robustness::default()),
        Box::new(runs::Runs::default()),
        Box::new(experiments::Experiments::default()),
        Box::new(device::Device::default()),
        Box::new(lessons::Lessons::default()),
    ]
}

/// What steers stands on the left, what shows as tabs beside it: a lesson is read next to the view that it drives.
const LEFT: [&str; 2] = ["Train", "Lessons"];

/// The views of [`LEFT`] on the left, all others as tabs beside them.
pub fn first_layout(names: &[&'static str]) -> Tree<String> {
    let mut tiles = Tiles::default();
    let mut panes = |wanted: &dyn Fn(&str) -> bool| {
        let names = names.iter().filter(|name| wanted(name));
        names
            .map(|name| tiles.insert_pane((*name).to_string()))
            .collect::<Vec<TileId>>()
    };
    let left = panes(&|name| LEFT.contains(&name));
    let right = panes(&|name| !LEFT.contains(&name));
    let left = tiles.insert_tab_tile(left);
    let right = tiles.insert_tab_tile(right);
    let mut root = Linear::new(LinearDir::Horizontal, vec![left, right]);
    root.shares.set_share(left, 0.28);
    root.shares.set_share(right, 0.72);
    let root = tiles.insert_container(Container::Linear(root));
    Tree::new(egui::Id::unique("views"), root, tiles)
}

/// Brings a view to the front of its tabs.
pub fn bring_to_front(tree: &mut Tree<String>, name: &str) {
    tree.make_active(|_, tile| matches!(tile, Tile::Pane(pane) if pane == name));
}

/// The container of what stands on the left, where the duel is not in it too and it is not all there is.
pub fn left(tree: &Tree<String>) -> Option<TileId> {
    let train = tree.tiles.find_pane(&LEFT[0].to_string())?;
    let left = tree.tiles.parent_of(train)?;
    (tree.root() != Some(left) && !stands_in(tree, left, "Duel")).then_some(left)
}

/// The width that the rows of what stands on the left take, in points.
const LEAST: f32 = 352.0;

/// Gives what stands on the left the width that its rows take, half of a narrow window at most: a small window, a drag and large text would cut
/// them off.
pub fn keep_readable(tree: &mut Tree<String>, width: f32) {
    let Some(left) = left(tree) else { return };
    let Some(parent) = tree.tiles.parent_of(left) else {
        return;
    };
    let Some(Tile::Container(Container::Linear(linear))) = tree.tiles.get_mut(parent) else {
        return;
    };
    if linear.dir != LinearDir::Horizontal || width <= 0.0 {
        return;
    }
    let least = LEAST.min(width / 2.0);
    let own = linear.shares[left];
    let rest: f32 = linear
        .children
        .iter()
        .filter(|child| **child != left)
        .map(|child| linear.shares[*child])
        .sum();
    if own < (own + rest) * (least / width) {
        linear.shares.set_share(left, rest * least / (width - least));
    }
}

/// Whether a tile is the view called `name`, or a container of it.
pub fn stands_in(tree: &Tree<String>, tile: TileId, name: &str) -> bool {
    match tree.tiles.get(tile) {
        Some(Tile::Pane(pane)) => pane == name,
        Some(Tile::Container(container)) => container.children().any(|child| stands_in(tree, *child, name)),
        None => false,
    }
}

/// Whether a remembered layout holds every view once, no more and no less.
pub fn holds_all(tree: &Tree<String>, names: &[&'static str]) -> bool {
    let mut found: Vec<&str> = tree
        .tiles
        .tiles()
        .filter_map(|tile| match tile {
            Tile::Pane(name) => Some(name.as_str()),
            Tile::Container(_) => None,
        })
        .collect();
    found.sort_unstable();
    let mut wanted = names.to_vec();
    wanted.sort_unstable();
    found == wanted
}

/// How the tiles draw the views.
pub struct Behaviour<'a> {
    pub views: &'a mut Vec<Box<dyn View>>,
    pub state: &'a mut State,
    pub entries: &'a [Entry],
}

impl egui_tiles::Behavior<String> for Behaviour<'_> {
    fn pane_ui(&mut self, ui: &mut Ui, _tile: TileId, pane: &mut String) -> UiResponse {
        if let Some(view) = self.views.iter_mut().find(|view| view.name() == pane) {
            // The window is cleared to the ground's colour: to fill it again doubles the work of a rasteriser without a GPU.
            egui::Frame::new().inner_margin(10).show(ui, |ui| {
                ui.push_id(view.name(), |ui| view.ui(ui, self.state));
                ui.take_available_space();
            });
        }
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, pane: &String) -> WidgetText {
        pane.as_str().into()
    }

    fn on_tab_button(&mut self, tiles: &mut Tiles<String>, tile: TileId, button: egui::Response) -> egui::Response {
        let Some(Tile::Pane(name)) = tiles.get(tile) else {
            return button;
        };
        let Some(view) = self.views.iter().find(|view| view.name() == name) else {
            return button;
        };
        let keys = keys(&button.ctx, self.entries, &Command::Show(view.name())).unwrap_or_default();
        button.on_hover_text(format!("{}\n{keys}", view.about()))
    }

    fn simplification_options(&self) -> SimplificationOptions {
        SimplificationOptions {
            all_panes_must_have_tabs: true,
            ..Default::default()
        }
    }

    fn tab_bar_height(&self, _style: &egui::Style) -> f32 {
        32.0
    }
}
