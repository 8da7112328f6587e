//! Figures as people read them, the same in the terminal, the window and the pages.

/// `; did you mean NAME?` where a known name is near to one that is unknown, else nothing.
pub fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    /// Two names that share most of their letters in their order.
    const NEAR: f64 = 0.8;
    let name = name.to_lowercase();
    let near = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&name, &known.to_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    near.map_or(String::new(), |(_, known)| format!("; did you mean {known}?"))
}

/// An attack's name in a sentence, a legend or a table's head.
pub fn attack_name(attack: &str) -> &str {
    match attack {
        "worst-case" => "worst case",
        attack => attack,
    }
}

/// A share as per cent with one decimal: `87.1 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Seconds: `3.2 s`, `59 s`, `1 min 01 s`, `1 h 01 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// A whole number with its thousands apart: `60,000`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_string();
    for start in (first..digits.len()).step_by(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text += &digits[start..start + 3];
    }
    text
}

/// A number of things: `1 epoch`, `2 epochs`.
pub fn counted(number: usize, one: &str, more: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(3.21), "3.2 s");
        assert_eq!(duration(9.96), "10 s");
        assert_eq!(duration(59.0), "59 s");
        assert_eq!(duration(59.7), "1 min 00 s");
        assert_eq!(duration(61.0), "1 min 01 s");
        assert_eq!(duration(3700.0), "1 h 01 min");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(60_000), "60,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "epoch", "epochs"), "1 epoch");
        assert_eq!(counted(0, "epoch", "epochs"), "0 epochs");
    }
}
