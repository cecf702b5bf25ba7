//! What lies outside the template: the environment, files on this machine, other variables. A helper only asks for it;
//! the engine, which knows where files are searched and what a plan may do, answers.

use super::args::{as_text, as_whole};
use super::{Args, Def, Fail, def};
use serde_json::{Value, json};

pub const ALL: &[Def] = &[
    def("env", "name [otherwise]", "A variable of this machine's environment; undefined, or `otherwise`, where it is not set.", (r#"{{env "NOT_SET_ANYWHERE" "x"}}"#, r#""x""#), |a| {
        match (std::env::var(a.text(0).as_ref()), a.either(1, "default")) {
            (Ok(v), _) => Ok(json!(v)),
            (Err(_), Some(otherwise)) => Ok(otherwise.clone()),
            (Err(_), None) => Err(Fail::Undefined(format!("`{}` is not set in the environment", a.text(0)))),
        }
    })
    .named(&["default"]),
    def(
        "file",
        "path",
        "The text of a file on this machine, searched in the role's files/, the role, the playbook's files/ and beside the playbook; rstrip=false keeps the newlines at its end, lstrip=true takes white space off its beginning.",
        (r#"{{default (file "no/such/file") "x"}}"#, r#""x""#),
        |a| {
            let got = asked(a, Ask::File(a.text(0).into_owned()))?;
            let mut s = as_text(&got);
            if a.flag("rstrip", true)? {
                s = s.trim_end().to_string().into();
            }
            if a.flag("lstrip", false)? {
                s = s.trim_start().to_string().into();
            }
            Ok(json!(s))
        },
    )
    .named(&["rstrip", "lstrip"]),
    def(
        "template",
        "path",
        "A template file of this machine rendered where it stands, searched in the role's templates/ and so on as `file` does.",
        (r#"{{default (template "no/such/file") "x"}}"#, r#""x""#),
        |a| asked(a, Ask::Template(a.text(0).into_owned())),
    ),
    def(
        "first_found",
        "paths […]",
        "The first of the files that is there, searched as `file` does; undefined where none is, or \"\" with skip=true.",
        (r#"{{default (first_found "no/such/file") "x"}}"#, r#""x""#),
        |a| {
            let mut all = vec![];
            for v in &a.values {
                match v {
                    Value::Array(l) => all.extend(l.iter().map(super::text)),
                    one => all.push(super::text(one)),
                }
            }
            match asked(a, Ask::FirstFound(all)) {
                Err(Fail::Undefined(_)) if a.flag("skip", false)? => Ok(json!("")),
                other => other,
            }
        },
    )
    .named(&["skip"]),
    def("fileglob", "pattern […]", "The files of this machine that a pattern names (`*`, `?` in the last part), sorted; searched as `file` does.", (r#"{{fileglob "no/such/*"}}"#, "[]"), |a| {
        let mut all = vec![];
        for v in &a.values {
            if let Value::Array(l) = asked(a, Ask::Glob(super::text(v)))? {
                all.extend(l);
            }
        }
        Ok(Value::Array(all))
    }),
    def(
        "password",
        "path",
        "The password in a file here; where it is not there, apply makes one by chance and keeps it (mode 0600). length= (20), chars= (letters and digits), seed= (always the same); encrypt= (sha512_crypt, sha256_crypt) gives its hash. `/dev/null`: not kept.",
        (r#"{{length "see the text"}}"#, "12"),
        |a| {
            let length = a.named("length").map_or(Ok(20), as_whole)?;
            let length = usize::try_from(length).ok().filter(|n| (1..=1024).contains(n)).ok_or("its length is between 1 and 1024")?;
            let chars = a.named_text("chars").unwrap_or(super::random::LETTERS_AND_DIGITS.into()).into_owned();
            if chars.is_empty() || chars.contains('\n') {
                return Err("its chars= names the characters to choose from".into());
            }
            let encrypt = match a.named_text("encrypt") {
                None => None,
                Some(kind) if ["sha512_crypt", "sha256_crypt"].contains(&kind.as_ref()) => Some(kind.into_owned()),
                Some(kind) => return Err(Fail::Wrong(format!("its encrypt= is sha512_crypt or sha256_crypt, not `{kind}`"))),
            };
            let seed = a.named_text("seed").map(|s| s.into_owned());
            asked(a, Ask::Password { path: a.text(0).into_owned(), length, chars, encrypt, seed })
        },
    )
    .named(&["length", "chars", "encrypt", "seed"]),
    def("vars", "name [otherwise]", "The variable with this name, which may be put together: `vars (concat \"port_\" x)`.", (r#"{{vars "not_set" 1}}"#, "1"), |a| {
        match (asked(a, Ask::Variable(a.text(0).into_owned())), a.either(1, "default")) {
            (Err(Fail::Undefined(_)), Some(otherwise)) => Ok(otherwise.clone()),
            (got, _) => got,
        }
    })
    .named(&["default"]),
];

/// Something that a helper needs from outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Variable(String),
    File(String),
    Template(String),
    FirstFound(Vec<String>),
    Glob(String),
    Password { path: String, length: usize, chars: String, encrypt: Option<String>, seed: Option<String> },
}

impl Ask {
    /// Under what name the answer is kept.
    pub fn key(&self) -> String {
        format!("{self:?}")
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "needs something from outside: {self:?}")
    }
}

impl std::error::Error for Ask {}

/// The answer, if it was given already. It is a list of one, or text that says why there is none.
fn asked(a: &Args, ask: Ask) -> Result<Value, Fail> {
    match a.outside.and_then(|o| o.get(ask.key())) {
        Some(Value::Array(l)) => Ok(l.first().cloned().unwrap_or_default()),
        Some(why) => Err(Fail::Undefined(super::text(why))),
        None => Err(Fail::Outside(ask)),
    }
}
