//! The thread that attacks: the radius that is looked at first, then all others.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Instant,
};

use egui::Context;

use super::Grid;
use crate::{
    app::lab::{self, Specimen, Subject, Trace},
    attacks::AttackSpec,
};

/// Seed of the attack's random start.
const SEED: u64 = 1;

/// What is to be found out.
pub struct Wish {
    /// Tells pictures apart.
    pub picture: u64,
    /// The picture.
    pub specimen: Arc<Specimen>,
    /// The networks, each with the number that tells it apart.
    pub subjects: [Option<(u64, Subject)>; 2],
    /// The radii.
    pub grid: Grid,
    /// The attack.
    pub attack: AttackSpec,
    /// The radius that is looked at.
    pub place: usize,
    /// How many others are wanted of each network, those first that were attacked the longest time ago.
    pub others: usize,
}

/// What an attack found.
pub struct Attacked {
    /// The picture's number.
    pub picture: u64,
    /// The corner.
    pub corner: usize,
    /// The network's number.
    pub fighter: u64,
    /// The radius, by its place on the grid.
    pub place: usize,
    /// The attack, step by step.
    pub trace: Trace,
    /// How long it took.
    pub seconds: f64,
}

/// The newest wish wins.
type Slot = Arc<(Mutex<Option<Wish>>, Condvar)>;

/// The attacking thread; it sleeps while nothing is wished for.
pub struct Bouts {
    slot: Slot,
    found: Receiver<Result<Attacked, String>>,
}

impl Bouts {
    pub fn new(ctx: &Context) -> Self {
        let slot: Slot = Arc::default();
        let (sender, found) = channel();
        let (own, ctx, refused) = (slot.clone(), ctx.clone(), sender.clone());
        let spawned = thread::Builder::new()
            .name("duel attacks".to_string())
            .spawn(move || work(&own, &sender, &ctx));
        if let Err(error) = spawned {
            let _ = refused.send(Err(format!("no thread for attacks: {error}")));
        }
        Self { slot, found }
    }

    /// Asks for this instead of what was asked for before.
    pub fn ask(&self, wish: Wish) {
        *self.slot.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(wish);
        self.slot.1.notify_one();
    }

    /// What was found next.
    pub fn next(&self) -> Option<Result<Attacked, String>> {
        self.found.try_recv().ok()
    }
}

/// What was attacked: of each corner and stop the network and when, in the order of the attacks.
type Done = HashMap<(usize, usize), (u64, u64)>;

fn work(slot: &Slot, sender: &Sender<Result<Attacked, String>>, ctx: &Context) {
    let mut wish: Option<Wish> = None;
    let mut done = Done::new();
    let mut count = 0;
    loop {
        let next = wish.as_ref().and_then(|wish| next(wish, &done));
        let mut waiting = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        while next.is_none() && waiting.is_none() {
            waiting = slot.1.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(newer) = waiting.take() {
            let same =
                |wish: &Wish| (wish.picture, &wish.grid, &wish.attack) == (newer.picture, &newer.grid, &newer.attack);
            if !wish.as_ref().is_some_and(same) {
                done.clear();
            }
            wish = Some(newer);
            continue;
        }
        drop(waiting);
        let (Some(wish), Some((corner, place))) = (&wish, next) else {
            continue;
        };
        let Some((fighter, subject)) = &wish.subjects[corner] else {
            continue;
        };
        count += 1;
        done.insert((corner, place), (*fighter, count));
        let began = Instant::now();
        let attacked = catch_unwind(AssertUnwindSafe(|| {
            let threat = wish.grid.threat(place);
            lab::trace(subject, &wish.specimen, &wish.attack, &threat, SEED)
        }));
        let attacked = attacked
            .unwrap_or_else(|panic| Err(anyhow::anyhow!(crate::app::job::panic_text(panic.as_ref()))))
            .map_err(|error| format!("{error:#}"));
        let found = attacked.map(|trace| Attacked {
            picture: wish.picture,
            corner,
            fighter: *fighter,
            place,
            trace,
            seconds: began.elapsed().as_secs_f64(),
        });
        if sender.send(found).is_err() {
            return;
        }
        ctx.request_repaint();
    }
}

/// The corner and the radius to attack next: the one that is looked at in both corners before any other.
fn next(wish: &Wish, done: &Done) -> Option<(usize, usize)> {
    let corners = || (0..wish.subjects.len()).filter_map(|corner| Some((corner, wish.subjects[corner].as_ref()?.0)));
    let is_done =
        |corner: usize, fighter: u64, place: usize| done.get(&(corner, place)).is_some_and(|own| own.0 == fighter);
    if let Some((corner, _)) = corners().find(|(corner, fighter)| !is_done(*corner, *fighter, wish.place)) {
        return Some((corner, wish.place));
    }
    let order = wish.grid.order(wish.place);
    let wanted = corners().filter_map(|(corner, fighter)| {
        let others = || order.iter().enumerate().skip(1);
        let ready = others().filter(|(_, place)| is_done(corner, fighter, **place)).count();
        let waiting = others().filter(|(_, place)| !is_done(corner, fighter, **place));
        let rank = |(rank, place): (usize, &usize)| {
            let last = done.get(&(corner, *place)).map_or(0, |own| own.1);
            (last, rank, *place)
        };
        let (last, rank, place) = waiting.map(rank).min().filter(|_| ready < wish.others)?;
        Some((last, rank, corner, place))
    });
    wanted.min().map(|(_, _, corner, place)| (corner, place))
}
