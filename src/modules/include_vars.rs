//! `include_vars`: variables from a file, for the rest of the run. Nothing on the host.

use super::args::Text;
use super::{ArgError, Ctx, Decision, Local, Module, Report, Stop};
use crate::probe::Observed;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Reads variables from YAML or JSON files, for the host and the rest of the run. Files may be encrypted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncludeVars {
    /// The file: in the role's `vars/`, the role, or beside the playbook.
    file: Option<Text>,
    /// A folder of files, read in the order of their names: its own, then those of each folder in it.
    dir: Option<Text>,
    /// Put all of it into this one variable.
    name: Option<Text>,
    /// Go so many levels into the folder; 0: all.
    #[serde(default)]
    depth: super::whole::Whole,
    /// Of the folder, only files whose name matches this regular expression.
    files_matching: Option<Text>,
    /// Of the folder, leave out files whose names end like this (regular expressions; in a text, blanks part them).
    #[serde(default)]
    ignore_files: Ends,
    /// Of the folder, only files with these extensions.
    #[serde(default = "extensions")]
    extensions: Vec<String>,
    #[serde(skip)]
    brought: Map<String, Value>,
    #[serde(skip)]
    files: Vec<String>,
}

/// A list, or a text of words.
#[derive(Debug, Default, JsonSchema)]
#[schemars(with = "Vec<String>")]
struct Ends(Vec<String>);

impl<'de> Deserialize<'de> for Ends {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a list of regular expressions")]
        enum Either {
            Words(String),
            List(Vec<String>),
        }
        Ok(Ends(match Either::deserialize(d)? {
            Either::Words(s) => s.split_whitespace().map(str::to_string).collect(),
            Either::List(l) => l,
        }))
    }
}

fn extensions() -> Vec<String> {
    ["yaml", "yml", "json"].map(String::from).to_vec()
}

impl IncludeVars {
    fn wants(&self, file: &str) -> Result<bool, ArgError> {
        let plain = |t: &str| t.trim_start_matches("./").trim_end_matches('/').to_string();
        let Some(dir) = &self.dir else { return Ok(self.file.as_ref().is_some_and(|f| plain(&f.0) == file)) };
        let Some(inside) = file.strip_prefix(&format!("{}/", plain(&dir.0))) else { return Ok(false) };
        let name = inside.rsplit('/').next().unwrap_or(inside);
        let bare = name.trim_end_matches(".age");
        let matches = |pattern: &str, param: &str| {
            let re = super::regex::line_regex(param, pattern)?;
            Ok::<bool, ArgError>([name, bare].iter().any(|n| re.is_match(n).unwrap_or(false)))
        };
        for pattern in &self.ignore_files.0 {
            if matches(&format!("{pattern}$"), "ignore_files")? {
                return Ok(false);
            }
        }
        if let Some(p) = &self.files_matching
            && !matches(&p.0, "files_matching")?
        {
            return Ok(false);
        }
        let deep = inside.matches('/').count() + 1;
        let extension = bare.rsplit_once('.').map_or("", |(_, e)| e);
        Ok((self.depth.0 == 0 || deep as u64 <= self.depth.0) && self.extensions.iter().any(|e| e == extension))
    }
}

impl Module for IncludeVars {
    const NAME: &'static str = "include_vars";
    const HARMLESS: bool = true;
    const FREE_FORM: Option<&'static str> = Some("file");

    fn prepare(&mut self, local: &dyn Local) -> Result<(), ArgError> {
        match (&self.file, &self.dir) {
            (None, None) => return Err(ArgError::new("", "`include_vars` needs `file` or `dir`").hint("add `file:`")),
            (Some(_), Some(_)) => return Err(ArgError::new("dir", "`file` and `dir` exclude each other")),
            _ => {}
        }
        let there = local.files_of_variables();
        let mut wanted = vec![];
        for f in &there {
            if self.wants(f)? {
                wanted.push(f.clone());
            }
        }
        if let (Some(file), true) = (&self.file, wanted.is_empty()) {
            let e = ArgError::new("file", format!("there is no file `{}`", file.0));
            let near = crate::source::nearest(&file.0, there.iter().map(String::as_str));
            return Err(match near {
                Some(n) => e.hint(format!("did you mean `{n}`?")),
                None if there.is_empty() => {
                    e.hint("files of variables lie in the role's `vars/`, or beside the playbook")
                }
                None => e.hint(format!("there is: {}", there.join(", "))),
            });
        }
        // A folder's own files come before those of the folders in it.
        wanted.sort_by(|a: &String, b| {
            let parts =
                |f: &'_ str| f.rsplit_once('/').map_or((String::new(), f.to_string()), |(d, n)| (d.into(), n.into()));
            parts(a).cmp(&parts(b))
        });
        for f in &wanted {
            self.brought.extend(local.variables(f)?);
        }
        self.files = wanted;
        Ok(())
    }

    fn decide(&self, _: &Observed, _: &Ctx) -> Result<Decision, Stop> {
        let facts = match &self.name {
            Some(n) => Map::from_iter([(n.0.clone(), Value::Object(self.brought.clone()))]),
            None => self.brought.clone(),
        };
        let mut result = Map::new();
        result.insert("ansible_facts".into(), Value::Object(facts.clone()));
        result.insert("ansible_included_var_files".into(), json!(self.files));
        Ok(Decision::Satisfied(Report { result, facts, ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::*;
    use super::*;

    #[test]
    fn which_files_of_a_folder_are_wanted() {
        let all = ["d/a.yml", "d/b.json", "d/c.txt", "d/s/e.yml", "d/s/t/f.yaml", "d/vault.yml.age", "x.yml"];
        let wanted = |params: &str| {
            // It looks for no file before it is told which there are.
            let m: IncludeVars = bind(&format!("{{dir: ./d/{params}}}"));
            all.into_iter().filter(|f| m.wants(f).unwrap()).map(|f| &f[2..]).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(wanted(""), "a.yml b.json s/e.yml s/t/f.yaml vault.yml.age");
        assert_eq!(wanted(", depth: 1"), "a.yml b.json vault.yml.age");
        assert_eq!(wanted(", depth: 2"), "a.yml b.json s/e.yml vault.yml.age");
        assert_eq!(wanted(", extensions: [txt]"), "c.txt");
        assert_eq!(wanted(", files_matching: '^[ae]'"), "a.yml s/e.yml");
        assert_eq!(wanted(", ignore_files: ['^a', json]"), "a.yml s/e.yml s/t/f.yaml vault.yml.age");
        assert_eq!(wanted(", ignore_files: ['^a.*', vault.yml]"), "b.json s/e.yml s/t/f.yaml");
        assert_eq!(wanted(", ignore_files: 'a.yml e.yml', depth: '2'"), "b.json vault.yml.age");
        let m: IncludeVars = bind("{dir: d, name: all}");
        assert_eq!(satisfied(m.decide(&seen([]), &ctx())).facts, json!({"all": {}}).as_object().unwrap().clone());
    }

    #[test]
    fn a_folder_s_own_files_come_first() {
        struct Files;
        impl Local for Files {
            fn find(&self, _: super::super::FileKind, name: &str) -> Result<std::path::PathBuf, ArgError> {
                Ok(name.into())
            }
            fn read(&self, _: &std::path::Path) -> Result<Vec<u8>, ArgError> {
                Ok(vec![])
            }
            fn render(
                &self,
                _: &std::path::Path,
                text: &str,
                _: &crate::template::Settings,
            ) -> Result<String, ArgError> {
                Ok(text.into())
            }
            fn files_of_variables(&self) -> Vec<String> {
                ["d/a/x.yml", "d/b.yml", "d/a/y.yml", "d/c.yml"].map(String::from).to_vec()
            }
            fn variables(&self, name: &str) -> Result<Map<String, Value>, ArgError> {
                Ok(Map::from_iter([("from".to_string(), json!(name))]))
            }
            fn host(&self) -> &str {
                "node"
            }
            fn folder(&self) -> std::path::PathBuf {
                "/".into()
            }
        }
        let mut m: IncludeVars = serde_json::from_value(json!({"dir": "d"})).unwrap();
        m.prepare(&Files).unwrap();
        assert_eq!(m.files, ["d/b.yml", "d/c.yml", "d/a/x.yml", "d/a/y.yml"]);
        assert_eq!(m.brought["from"], json!("d/a/y.yml"));
    }

    #[test]
    fn a_file_or_a_folder() {
        assert!(try_bind::<IncludeVars>("{file: a, dir: b}").unwrap_err().message.contains("exclude each other"));
        let e = try_bind::<IncludeVars>("{file: a.yml}").unwrap_err();
        assert_eq!(e.message, "there is no file `a.yml`");
    }
}
