//! What is known of a value before it is there: which fields it can have.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The fields a value can have.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Nothing is known.
    Any,
    /// A mapping; `open`: with others as well.
    Fields { fields: Arc<BTreeMap<String, Shape>>, open: bool },
    /// A list of such, or a mapping of such by whatever keys.
    Each(Arc<Shape>),
    /// A field that cannot be there, and what to do about it.
    Never(&'static str),
}

/// A key that leads nowhere.
#[derive(Debug, PartialEq)]
pub struct Miss {
    pub key: String,
    /// What is there instead.
    pub names: Vec<String>,
    /// What to do, where that is known better than by names.
    pub hint: Option<String>,
    /// Such values have it, this one does not: where something else may have been asked first, that is no mistake.
    pub here_only: bool,
}

/// Whether a name helps a reader who looks for another: what any result can have does not.
fn is_telling(name: &str) -> bool {
    const OF_ALL: [&str; 9] = [
        "ansible_job_id",
        "ansible_loop_var",
        "attempts",
        "false_condition",
        "finished",
        "item",
        "results_file",
        "skip_reason",
        "started",
    ];
    !OF_ALL.contains(&name)
}

impl Shape {
    /// A mapping with these fields and no others.
    pub fn fields(fields: impl IntoIterator<Item = (String, Shape)>) -> Shape {
        Shape::Fields { fields: Arc::new(fields.into_iter().collect()), open: false }
    }
    /// A mapping with these fields and perhaps others.
    pub fn open(fields: impl IntoIterator<Item = (String, Shape)>) -> Shape {
        Shape::Fields { fields: Arc::new(fields.into_iter().collect()), open: true }
    }
    /// A list of such.
    pub fn each(self) -> Shape {
        Shape::Each(Arc::new(self))
    }
    /// A mapping with fields of which nothing more is known.
    pub fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Shape {
        Shape::fields(names.into_iter().map(|n| (n.into(), Shape::Any)))
    }
    /// That of a value of its kind. Of a list the first element speaks for all.
    pub fn of(example: &Value) -> Shape {
        match example {
            Value::Object(o) => Shape::fields(o.iter().map(|(k, v)| (k.clone(), Shape::of(v)))),
            Value::Array(a) => a.first().map_or(Shape::Any, Shape::of).each(),
            _ => Shape::Any,
        }
    }

    /// What a key leads to; `None`: nothing, in any case.
    pub fn at(&self, key: &str) -> Option<Shape> {
        match self {
            Shape::Any => Some(Shape::Any),
            Shape::Each(s) => Some((**s).clone()),
            Shape::Fields { fields, open } => match fields.get(key) {
                Some(Shape::Never(_)) => None,
                Some(s) => Some(s.clone()),
                None => open.then_some(Shape::Any),
            },
            Shape::Never(_) => None,
        }
    }
    /// What a row of keys leads to.
    pub fn walk(&self, keys: &[String]) -> Option<Shape> {
        keys.iter().try_fold(self.clone(), |s, k| s.at(k))
    }
    /// The first of the keys that leads nowhere.
    pub fn miss(&self, keys: &[String]) -> Option<Miss> {
        let mut at = self.clone();
        for key in keys {
            match at.at(key) {
                Some(s) => at = s,
                None => {
                    let names = match &at {
                        Shape::Fields { fields, .. } => fields.keys().filter(|n| is_telling(n)).cloned().collect(),
                        _ => vec![],
                    };
                    if let Shape::Fields { fields, .. } = &at
                        && let Some(Shape::Never(hint)) = fields.get(key)
                    {
                        let hint = Some(hint.to_string());
                        return Some(Miss { key: key.clone(), names: vec![], hint, here_only: true });
                    }
                    let of_loop = names.iter().any(|n| n == "results") && names.len() < 10;
                    let hint = of_loop.then(|| {
                        format!(
                            "it is the result of a loop: `{key}` is in each of its `results`, as in results.[0].{key}"
                        )
                    });
                    return Some(Miss {
                        key: key.clone(),
                        names,
                        here_only: false,
                        hint: hint.filter(|_| crate::source::nearest(key, at.names_of()).is_none()),
                    });
                }
            }
        }
        None
    }
    fn names_of(&self) -> impl Iterator<Item = &str> {
        let fields = match self {
            Shape::Fields { fields, .. } => Some(fields.keys().map(String::as_str)),
            _ => None,
        };
        fields.into_iter().flatten()
    }

    /// What either can have.
    pub fn or(self, other: Shape) -> Shape {
        match (self, other) {
            (Shape::Fields { fields: a, open: x }, Shape::Fields { fields: b, open: y }) => {
                let mut all = (*a).clone();
                for (k, v) in b.iter() {
                    let merged = match all.remove(k) {
                        Some(mine) => mine.or(v.clone()),
                        None => v.clone(),
                    };
                    all.insert(k.clone(), merged);
                }
                Shape::Fields { fields: Arc::new(all), open: x || y }
            }
            (Shape::Each(a), Shape::Each(b)) => (*a).clone().or((*b).clone()).each(),
            (Shape::Never(a), Shape::Never(_)) => Shape::Never(a),
            _ => Shape::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(path: &str) -> Vec<String> {
        path.split('.').map(str::to_string).collect()
    }

    #[test]
    fn what_can_be_there_and_what_cannot() {
        let s = Shape::of(&json!({"os": {"name": "x"}, "mounts": [{"mount": "/"}], "n": 1}));
        for there in ["os", "os.name", "os.name.deeper", "mounts.0.mount", "n"] {
            assert_eq!(s.miss(&keys(there)), None, "{there}");
        }
        let miss = s.miss(&keys("os.nmae")).unwrap();
        assert_eq!((miss.key.as_str(), miss.names), ("nmae", vec!["name".to_string()]));
        assert_eq!(s.miss(&keys("mounts.0.path.x")).unwrap().key, "path");
        assert_eq!(s.walk(&keys("mounts.1")), Some(Shape::names(["mount"])));
        assert_eq!(Shape::Any.miss(&keys("a.b")), None);
    }

    #[test]
    fn two_shapes_have_the_fields_of_both() {
        let both = Shape::names(["a"]).or(Shape::names(["b"]));
        assert!(both.at("a").is_some() && both.at("b").is_some() && both.at("c").is_none());
        assert_eq!(Shape::names(["a"]).or(Shape::Any), Shape::Any);
        assert!(Shape::names(["a"]).or(Shape::open([])).at("c").is_some());
    }
}
