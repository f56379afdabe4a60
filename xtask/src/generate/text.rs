//! Made texts.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Number, Value};

/// The first line of every made file.
const HEAD: &str = "# Made by `cargo xtask gen`; do not edit.\n";

/// A YAML document.
pub(super) fn yaml(value: &Value) -> Result<String> {
    Ok(format!("{HEAD}{}", document(value)?))
}

/// A stream of YAML documents.
pub(super) fn documents(values: &[Value]) -> Result<String> {
    let documents: Vec<String> = values.iter().map(document).collect::<Result<_>>()?;
    Ok(format!("{HEAD}{}", documents.join("---\n")))
}

fn document(value: &Value) -> Result<String> {
    let value = whole_numbers(value.clone());
    let text = serde_saphyr::to_string(&value).context("cannot write YAML")?;
    let read: Value = serde_saphyr::from_str(&text).context("cannot read what was written")?;
    ensure!(read == value, "YAML reads back as something else:\n{text}");
    Ok(text)
}

/// Schemas hold their bounds as floating-point numbers, and nobody wants to read `65535.0`.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, whole_numbers(value)))
            .collect(),
        Value::Number(number) => Value::Number(whole(number)),
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

fn whole(number: Number) -> Number {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
            format!("{float:.0}")
                .parse::<i64>()
                .map_or(number, Number::from)
        }
        _ => number,
    }
}
