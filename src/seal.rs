//! A checksum inside a JSON file, for files that are read back and believed.
//!
//! The last field of the text is `"seal": "<MD5 of the text without it>"`. It is laid over the text and not over the values, so
//! that a changed digit, a torn end and a rewriting by another program are all noticed.

use md5::{Digest, Md5};

const FIELD: &str = ",\n  \"seal\": \"";
const END: &str = "\n}";

/// What became of a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// The text is what was written.
    Whole,
    /// It is not.
    Broken,
    /// It never had one: it is of a version that did not seal.
    Missing,
}

/// The MD5 of some bytes as 32 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    hex(Md5::new_with_prefix(bytes))
}

/// A digest as 32 hexadecimal digits.
pub fn hex(hash: Md5) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seals the text of a JSON object that is written over several lines, with some fields of text before the seal.
pub fn sealed(object: &str, fields: &[(&str, &str)]) -> String {
    let open = object.trim_end();
    let open = open.strip_suffix('}').unwrap_or(open).trim_end();
    let mut text = open.to_string();
    for (name, value) in fields {
        text.push_str(&format!(",\n  \"{name}\": {}", serde_json::Value::from(*value)));
    }
    let digest = digest(format!("{text}{END}").as_bytes());
    format!("{text}{FIELD}{digest}\"{END}\n")
}

/// Whether a text is what was sealed.
pub fn seal_of(text: &str) -> Seal {
    let Some(place) = text.rfind(FIELD) else {
        return if text.contains("\"seal\"") {
            Seal::Broken
        } else {
            Seal::Missing
        };
    };
    let (body, rest) = (&text[..place], &text[place + FIELD.len()..]);
    let expected = format!("{}\"{END}", digest(format!("{body}{END}").as_bytes()));
    if rest.trim_end() == expected {
        Seal::Whole
    } else {
        Seal::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_breaks_a_seal() {
        let text = sealed("{\n  \"a\": 0.1,\n  \"b\": [\n    1\n  ]\n}\n", &[("run", "x \"y\"")]);
        assert_eq!(seal_of(&text), Seal::Whole);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(
            (&value["a"], &value["run"]),
            (&serde_json::json!(0.1), &serde_json::json!("x \"y\""))
        );
        for place in 0..text.trim_end().len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            assert_ne!(seal_of(&changed), Seal::Whole, "byte {place}");
            let cut = &text[..place];
            assert_ne!(seal_of(cut), Seal::Whole, "{place} bytes");
        }
        assert_eq!(seal_of("{\n  \"a\": 1\n}\n"), Seal::Missing);
        assert_eq!(seal_of(&text.replace('\n', "")), Seal::Broken);
    }
}
