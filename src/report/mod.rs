//! What a person reads afterwards: pictures, charts, and a page that shows a run or compares several.
//!
//! Nothing here prints or draws on a screen: everything is a value (an image, a text) that a terminal saves and a
//! window shows.

pub mod chart;
pub mod compare;
pub mod csv;
pub mod doctor;
pub mod figure;
pub mod gallery;
mod markup;
pub mod page;
pub mod pictures;
pub mod run;
pub mod tensorboard;

pub use markup::escape;
pub use page::{PageInput, page, write_page, write_run_page};
pub use run::{Ending, ReportError, RunReport};
