//! Which devices there are, which one trains, whether it computes what the CPU computes, and how fast.

use egui::{Grid, RichText, ScrollArea, Ui};

use super::View;
use crate::engine::{
    device_check,
    speed::{self, Speed},
};
use crate::{
    app::{background::Background, job, state::State, theme},
    compute::{self, DeviceInfo, self_check::Verdict},
    report::doctor,
};

/// The view of devices.
#[derive(Default)]
pub struct Device {
    list: Option<Vec<DeviceInfo>>,
    work: Option<Background<Said>>,
    doing: String,
    verdict: Option<Verdict>,
    speed: Option<(String, Speed)>,
    /// What a bug report needs, and whether the clipboard has it.
    report: Option<(String, bool)>,
    error: Option<String>,
}

enum Said {
    List(Vec<DeviceInfo>),
    Verdict(Verdict),
    Speed(String, Speed),
    Report(String),
    Failed(String),
}

impl View for Device {
    fn name(&self) -> &'static str {
        "Device"
    }

    fn about(&self) -> &'static str {
        "Which devices there are, whether they compute rightly, and how fast"
    }

    fn logic(&mut self, _state: &mut State) {
        let Some(work) = &mut self.work else { return };
        for said in work.drain() {
            match said {
                Said::List(list) => self.list = Some(list),
                Said::Verdict(verdict) => self.verdict = Some(verdict),
                Said::Speed(device, speed) => self.speed = Some((device, speed)),
                Said::Report(text) => self.report = Some((text, false)),
                Said::Failed(error) => self.error = Some(error),
            }
        }
        if !work.is_running() {
            self.work = None;
            self.doing.clear();
        }
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        if self.list.is_none() && self.work.is_none() {
            self.begin(state, "looking for devices", |_| Ok(Said::List(compute::devices())));
        }
        let dark = ui.visuals().dark_mode;
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.label("Training uses the chosen device; the window draws on one of its own.");
            ui.add_space(6.0);
            self.list_ui(ui, state);
            #[cfg(feature = "remote")]
            remote_ui(ui, state);
            ui.add_space(8.0);
            let idle = self.work.is_none() && !state.is_training();
            ui.horizontal_wrapped(|ui| {
                let check = ui
                    .add_enabled(idle, egui::Button::new("Check against the CPU"))
                    .on_hover_text("Loss, gradients of weights and images, and each hand-written kernel, on both");
                if check.clicked() {
                    self.begin(state, "checking; a GPU compiles its kernels first", |choice| {
                        Ok(Said::Verdict(device_check::check(&job::open(choice)?.device)?))
                    });
                }
                let bench = ui
                    .add_enabled(idle, egui::Button::new("Measure its speed"))
                    .on_hover_text("A MART step of the small network, and matrix products");
                if bench.clicked() {
                    self.begin(state, "measuring", |choice| {
                        let opened = job::open(choice)?;
                        let name = opened.device.info().name.clone();
                        Ok(Said::Speed(name, speed::measure(&opened.device)?))
                    });
                }
                let report = ui.add_enabled(idle, egui::Button::new("Copy a report")).on_hover_text(
                    "What a bug report needs, as `martlet doctor` prints it: versions, devices, the check's verdict; no names and no paths",
                );
                if report.clicked() {
                    self.begin(state, "looking", |choice| Ok(Said::Report(doctor::block(choice, None))));
                }
                if self.work.is_some() {
                    ui.spinner();
                    ui.label(&self.doing);
                    let hint = "What is under way on the device comes to its end unheard";
                    if ui.button("Cancel").on_hover_text(hint).clicked() {
                        self.work = None;
                        self.list.get_or_insert_default();
                    }
                }
                if state.is_training() {
                    ui.weak("while something trains, the device is busy");
                }
            });
            if let Some(error) = &self.error {
                ui.colored_label(theme::error(dark), error);
            }
            if let Some(verdict) = &self.verdict {
                verdict_ui(ui, verdict);
            }
            if let Some((device, speed)) = &self.speed {
                ui.add_space(8.0);
                ui.label(RichText::new(format!("Speed of {device}")).strong());
                ui.label(speed.to_string());
            }
            if let Some((text, copied)) = &mut self.report {
                if !std::mem::replace(copied, true) {
                    ui.ctx().copy_text(text.clone());
                }
                ui.add_space(8.0);
                ui.label(RichText::new("Copied; paste it into the report").strong());
                ui.label(RichText::new(text.as_str()).monospace());
            }
        });
    }
}

impl Device {
    fn begin(&mut self, state: &State, doing: &str, work: impl FnOnce(&str) -> anyhow::Result<Said> + Send + 'static) {
        self.error = None;
        self.doing = doing.to_string();
        let choice = state.settings.device.clone();
        self.work = Some(Background::start(
            "device",
            &state.ctx,
            Said::Failed,
            move |_, teller| {
                teller.tell(work(&choice)?);
                Ok(())
            },
        ));
    }

    fn list_ui(&mut self, ui: &mut Ui, state: &mut State) {
        let Some(list) = &self.list else {
            ui.spinner();
            return;
        };
        Grid::new("devices")
            .striped(true)
            .num_columns(5)
            .spacing([18.0, 6.0])
            .show(ui, |ui| {
                for head in ["train on", "name", "API", "kind", "memory", "driver"] {
                    ui.weak(head);
                }
                ui.end_row();
                let chosen = &mut state.settings.device;
                ui.radio_value(chosen, "auto".to_string(), "auto");
                ui.label("the best GPU, else the processor");
                ui.end_row();
                for info in list {
                    ui.radio_value(chosen, info.selector.clone(), &info.selector);
                    ui.label(&info.name);
                    ui.label(&info.api);
                    ui.label(info.kind.to_string());
                    ui.label(info.memory_bytes.map_or("?".to_string(), |bytes| {
                        format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)
                    }));
                    ui.label(&info.driver);
                    ui.end_row();
                }
            });
    }
}

/// Another machine's device, served there by `martlet serve`.
#[cfg(feature = "remote")]
fn remote_ui(ui: &mut Ui, state: &mut State) {
    ui.add_space(8.0);
    let settings = &mut state.settings;
    ui.horizontal_wrapped(|ui| {
        let hint =
            "`martlet serve` runs on the machine with the GPU; ssh -L carries the link, so that nobody can read along";
        let name = ui.label("On another machine").on_hover_text(hint);
        let before = format!("remote:{}", settings.remote.trim());
        let chosen = settings.device == before && !settings.remote.is_empty();
        let field = egui::TextEdit::singleline(&mut settings.remote)
            .hint_text("127.0.0.1:7447")
            .desired_width(180.0);
        let edited = ui.add(field).labelled_by(name.id).changed();
        let served = format!("remote:{}", settings.remote.trim());
        if edited && chosen {
            settings.device = served.clone();
        }
        let name = ui
            .label("token's file")
            .on_hover_text("The same file that `martlet serve --token-file` got");
        let field = egui::TextEdit::singleline(&mut settings.token_file).desired_width(220.0);
        if ui.add(field).labelled_by(name.id).changed() {
            settings.show_token();
        }
        ui.add_enabled_ui(!settings.remote.trim().is_empty(), |ui| {
            ui.radio_value(&mut settings.device, served, "train there");
        });
    });
    let address = settings.remote.trim();
    if !address.is_empty() && !compute::remote::is_private(address) {
        ui.colored_label(
            theme::error(ui.visuals().dark_mode),
            format!("The link to {address} {}.", compute::remote::READABLE),
        );
    }
}

fn verdict_ui(ui: &mut Ui, verdict: &Verdict) {
    let dark = ui.visuals().dark_mode;
    ui.add_space(8.0);
    let colour = if verdict.passed {
        theme::series(2, dark)
    } else {
        theme::error(dark)
    };
    ui.colored_label(colour, verdict.to_string());
    Grid::new("comparisons")
        .striped(true)
        .spacing([18.0, 3.0])
        .show(ui, |ui| {
            for comparison in &verdict.worst {
                ui.label(&comparison.name);
                ui.label(format!("{:.1e}", comparison.relative_difference));
                ui.end_row();
            }
        });
}
