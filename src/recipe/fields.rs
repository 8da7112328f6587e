//! A recipe as fields by name, as `--set` names them.

use std::collections::BTreeMap;

use super::Recipe;

impl Recipe {
    /// Every field that the recipe states, by its dotted name (`attack.step_size`), with its value as TOML writes it.
    pub fn fields(&self) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        if let Ok(table) = self.to_toml().parse::<toml::Table>() {
            collect("", &table, &mut fields);
        }
        fields
    }

    /// Where another recipe differs from this one, field by field: `epochs = 1, not 10`, this one's value first.
    pub fn differences(&self, other: &Recipe) -> Vec<String> {
        let (own, others) = (self.fields(), other.fields());
        let names: std::collections::BTreeSet<&String> = own.keys().chain(others.keys()).collect();
        let of =
            |fields: &BTreeMap<String, String>, name| fields.get(name).map_or("nothing".to_string(), String::clone);
        names
            .into_iter()
            .map(|name| (name, of(&own, name), of(&others, name)))
            .filter(|(_, own, other)| own != other)
            .map(|(name, own, other)| format!("{name} = {own}, not {other}"))
            .collect()
    }
}

fn collect(prefix: &str, table: &toml::Table, fields: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => collect(&format!("{prefix}{key}."), inner, fields),
            plain => {
                fields.insert(format!("{prefix}{key}"), plain.to_string());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::recipe::preset;

    #[test]
    fn recipes_differ_field_by_field_and_one_field_more_shifts_nothing() {
        let run = preset("glyphs-standard").unwrap();
        let mut asked = run.clone();
        assert!(run.differences(&asked).is_empty());
        asked.data.limit_train = Some(32);
        asked.epochs = 77;
        let own = run.epochs;
        assert_eq!(
            run.differences(&asked),
            [
                "data.limit_train = nothing, not 32".to_string(),
                format!("epochs = {own}, not 77")
            ]
        );
        assert_eq!(asked.differences(&run)[0], "data.limit_train = 32, not nothing");
    }
}
