//! A run's metrics as a table for spreadsheets and pandas: a row for each report of training and for each epoch.

use std::{collections::BTreeMap, fmt::Write};

use crate::{engine::Event, threat::Magnitude};

/// Columns that every row can have, before those of the figures.
const FIXED: [&str; 7] = ["event", "epoch", "step", "seconds", "learning_rate", "epsilon", "n"];

/// The table: `step` counts minibatches of the whole run; what training reports has its own name, the accuracy under an attack is
/// `SPLIT/ATTACK`. A value that a row lacks is empty. Events of other kinds are left out.
pub fn table(events: &[Event]) -> String {
    let rows: Vec<BTreeMap<String, String>> = events.iter().filter_map(row).collect();
    let mut columns: Vec<&str> = FIXED.to_vec();
    let mut figures: Vec<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
    figures.sort_unstable();
    figures.dedup();
    columns.extend(figures.into_iter().filter(|name| !FIXED.contains(name)));
    let mut text = columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(",") + "\n";
    for row in &rows {
        let cells = columns
            .iter()
            .map(|name| row.get(*name).map_or(String::new(), |cell| quoted(cell)));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join(","));
    }
    text
}

fn row(event: &Event) -> Option<BTreeMap<String, String>> {
    let mut row = BTreeMap::new();
    let mut put = |name: &str, value: String| {
        row.insert(name.to_string(), value);
    };
    match event {
        Event::Step(report) => {
            put("event", "step".into());
            put("epoch", report.epoch.to_string());
            put("step", report.total_steps.to_string());
            put("seconds", report.clock.seconds.to_string());
            put("learning_rate", report.learning_rate.to_string());
            put("epsilon", report.epsilon.to_string());
            report
                .figures
                .iter()
                .for_each(|(name, value)| put(name, value.to_string()));
        }
        Event::Epoch(report) => {
            put("event", "epoch".into());
            put("epoch", report.epoch.to_string());
            put("step", report.total_steps.to_string());
            put("seconds", report.clock.seconds.to_string());
            // As a step spells it, so that the column holds numbers alone.
            let radius = report.epsilon.parse::<Magnitude>();
            let radius = radius.map(|radius| f64::from(radius.value()).to_string());
            put("epsilon", radius.unwrap_or_else(|_| report.epsilon.clone()));
            put("n", report.n.to_string());
            report
                .train
                .iter()
                .for_each(|(name, value)| put(name, value.to_string()));
            for (attack, accuracy) in &report.accuracy {
                put(&format!("{}/{attack}", report.split), accuracy.to_string());
            }
        }
        _ => return None,
    }
    Some(row)
}

/// A cell as RFC 4180 writes it.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn rows_share_columns_and_lack_what_they_lack() {
        let events: Vec<crate::engine::Event> = serde_json::from_value(serde_json::json!([
            { "event": "step", "epoch": 1, "step": 2, "total_steps": 2, "learning_rate": 0.01, "epsilon": 0.3,
              "figures": { "loss": 2.25 }, "clock": { "seconds": 1.5, "evaluating": 0.0 } },
            { "event": "epoch", "epoch": 1, "epochs": 1, "total_steps": 2, "train": { "loss": 2.5 },
              "accuracy": { "natural": 0.5, "square:a,b": 0.25 }, "split": "held-out", "n": 4, "epsilon": "8/255",
              "best": true, "clock": { "seconds": 2.0, "evaluating": 0.0 } },
            { "event": "warning", "epoch": 1, "kind": "k", "message": "m", "advice": "a" },
        ]))
        .unwrap();
        assert_eq!(
            super::table(&events),
            "event,epoch,step,seconds,learning_rate,epsilon,n,held-out/natural,\"held-out/square:a,b\",loss\n\
             step,1,2,1.5,0.01,0.3,,,,2.25\n\
             epoch,1,2,2,,0.0313725508749485,4,0.5,0.25,2.5\n"
        );
    }
}
