//! What `windlass helpers` prints, out of the table itself.

use super::{BLOCKS, BY_NAME, Def, FAMILIES, call_line};
use crate::source::nearest;

/// All helpers, a line each, by family.
pub fn list() -> String {
    let mut out =
        String::from("Helpers: {{name argument …}} in templates, `name argument …` in `when` and its like.\n");
    let width = FAMILIES.iter().flat_map(|(_, d)| d.iter()).map(|d| d.name.len()).max().unwrap_or(0);
    for (family, defs) in FAMILIES {
        out.push_str(&format!("\n{family}\n"));
        for d in *defs {
            out.push_str(&format!("  {:width$}  {}\n", d.name, d.doc));
        }
    }
    out.push_str(&format!("\nOf the engine itself: {}\n", BLOCKS.join(", ")));
    out
}

/// One helper's page; the error names the one that may be meant.
pub fn page(name: &str) -> Result<String, String> {
    match BY_NAME.get(name) {
        Some(d) => Ok(describe(d)),
        None => Err(match nearest(name, super::names()) {
            Some(n) => format!("did you mean `{n}`?"),
            None => "`windlass helpers` lists them all".into(),
        }),
    }
}

fn describe(d: &Def) -> String {
    let family = FAMILIES.iter().find(|(_, all)| all.iter().any(|x| x.name == d.name)).map_or("", |(f, _)| *f);
    let mut out = format!("{} ({family})\n\n{}\n\n  {}\n", d.name, d.doc, call_line(d));
    if d.lenient {
        out.push_str("  Its arguments may be undefined.\n");
    }
    out.push_str(&format!("\nExample\n  {}\n  gives {}\n", d.example.0, d.example.1));
    out
}
