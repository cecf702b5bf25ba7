//! A whole number as a parameter.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;

/// A whole number, not negative; its text is taken too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Whole(pub u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let v = Value::deserialize(d)?;
        let n = match &v {
            Value::Number(n) => n.as_u64(),
            Value::String(s) => s.trim().parse().ok(),
            _ => None,
        };
        n.map(Whole).ok_or_else(|| de::Error::custom(format!("expected a whole number from 0 up, found {v}")))
    }
}

impl JsonSchema for Whole {
    fn schema_name() -> Cow<'static, str> {
        "Whole".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"], "minimum": 0})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_their_text() {
        assert_eq!(serde_json::from_value::<Whole>(json!(5)).unwrap(), Whole(5));
        assert_eq!(serde_json::from_value::<Whole>(json!("60")).unwrap(), Whole(60));
        assert!(serde_json::from_value::<Whole>(json!(-1)).is_err());
        assert!(serde_json::from_value::<Whole>(json!("x")).is_err());
    }
}
