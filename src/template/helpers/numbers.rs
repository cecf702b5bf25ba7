//! Arithmetic. Whole numbers stay whole.

use super::args::{as_number, as_text, as_whole, at_path, is_python, order, shown, without_underscores};
use super::{Args, Def, Fail, def};
use serde_json::{Value, json};
use std::cmp::Ordering;

pub const ALL: &[Def] = &[
    def("add", "a b […]", "The sum.", ("{{add 1 2}}", "3"), |a| fold(a, i64::checked_add, |x, y| x + y)),
    def("sub", "a b", "The difference.", ("{{sub 5 2}}", "3"), |a| fold(a, i64::checked_sub, |x, y| x - y)),
    def("mul", "a b […]", "The product.", ("{{mul 2 3.5}}", "7.0"), |a| fold(a, i64::checked_mul, |x, y| x * y)),
    def(
        "div",
        "a b",
        "How often b goes into a, rounded down (Jinja's `//`); `truediv` keeps the rest.",
        ("{{div 7 2}}", "3"),
        |a| {
            not_nought(a)?;
            fold(a, floor_div, |x, y| (x / y).floor())
        },
    ),
    def("truediv", "a b", "a divided by b, with what is behind the point.", ("{{truediv 7 2}}", "3.5"), |a| {
        not_nought(a)?;
        float(number(a, 0)? / number(a, 1)?)
    }),
    def("mod", "a b", "The rest of a divided by b; it has the sign of b.", ("{{mod 7 3}}", "1"), |a| {
        not_nought(a)?;
        // Of the lowest number the product can be too large by less than the difference takes back.
        fold(a, |x, y| floor_div(x, y).map(|q| x.wrapping_sub(q.wrapping_mul(y))), |x, y| x - y * (x / y).floor())
    }),
    def("pow", "a b", "a to the power of b.", ("{{pow 2 10}}", "1024"), |a| match (as_int(&a[0]), as_int(&a[1])) {
        (Some(x), Some(y)) if y >= 0 && !is_python() => {
            let p = u32::try_from(y).ok().and_then(|y| x.checked_pow(y)).ok_or("the result is too large")?;
            Ok(json!(p))
        }
        _ => float(number(a, 0)?.powf(number(a, 1)?)),
    }),
    def("root", "a [n]", "The square root, or the nth.", ("{{root 9}}", "3.0"), |a| {
        let n = if a.len() > 1 { number(a, 1)? } else { 2.0 };
        let x = number(a, 0)?;
        float(if n == 2.0 { x.sqrt() } else { x.powf(1.0 / n) })
    }),
    def("log", "a [base]", "The natural logarithm, or that to a base.", ("{{log 8 2}}", "3.0"), |a| {
        let x = number(a, 0)?;
        let base = if a.len() > 1 { number(a, 1)? } else { std::f64::consts::E };
        float(match base {
            10.0 => x.log10(),
            2.0 => x.log2(),
            b if b == std::f64::consts::E => x.ln(),
            b => x.ln() / b.ln(),
        })
    }),
    def("abs", "a", "The number without its sign.", ("{{abs -3}}", "3"), |a| match as_int(&a[0]) {
        Some(i) => Ok(json!(i.checked_abs().ok_or("the number is too large")?)),
        None => float(number(a, 0)?.abs()),
    }),
    def(
        "round",
        "a [digits] [method]",
        "Rounded to so many digits behind the point; method: common (half goes to the even neighbour), ceil, floor.",
        (r#"{{round 2.25 1 "ceil"}}"#, "2.3"),
        |a| {
            let digits = a.either(1, "precision").map_or(Ok(0), as_whole)?;
            let by = 10f64.powi(i32::try_from(digits).map_err(|_| "its second argument is too large")?);
            if let (Some(n), true) = (as_int(&a[0]), a.either(2, "method").is_none_or(|m| *m == "common")) {
                return Ok(json!(rounded(n, digits).ok_or("the number is too large")?));
            }
            let x = number(a, 0)?;
            let method = a.either(2, "method").map(as_text).unwrap_or("common".into());
            float(match method.as_ref() {
                // By way of text: what is written is what is rounded, not its binary neighbour times ten.
                "common" if (0..=300).contains(&digits) => format!("{x:.*}", digits as usize).parse().unwrap_or(x),
                "common" => (x * by).round_ties_even() / by,
                "ceil" => (x * by).ceil() / by,
                "floor" => (x * by).floor() / by,
                other => return Err(Fail::Wrong(format!("its method is common, ceil or floor, not `{other}`"))),
            })
        },
    )
    .named(&["precision", "method"]),
    def(
        "int",
        "value [otherwise] [base]",
        "A whole number of a number or of text; `otherwise` where it is none.",
        (r#"{{int "42"}}"#, "42"),
        |a| {
            let base = a.either(2, "base").map_or(Ok(10), as_whole)?;
            if let (true, Some(f)) = (is_python(), as_number(&a[0]))
                && f.is_finite()
                && f.abs() >= 9.2e18
                && as_whole(&a[0]).is_err()
            {
                return Err(Fail::Wrong(format!("{} is too large", shown(&a[0]))));
            }
            let read = match (&a[0], base) {
                (v @ (Value::Number(_) | Value::Bool(_)), _) if is_python() => as_whole(v),
                (v, 10) => as_whole(v),
                (v, base) => in_base(as_text(v).trim(), base).or_else(|e| match is_python() {
                    true => as_whole(v).map_err(|_| e),
                    false => Err(e),
                }),
            };
            match (read, a.either(1, "default")) {
                (Err(_), Some(otherwise)) => Ok(otherwise.clone()),
                (read, _) => Ok(json!(read?)),
            }
        },
    )
    .named(&["default", "base"]),
    def(
        "float",
        "value [otherwise]",
        "A number with a point of a number or of text; `otherwise` where it is none.",
        (r#"{{float "1.5"}}"#, "1.5"),
        |a| {
            let read = match &a[0] {
                Value::String(s) if is_python() => without_underscores(s.trim()).parse().ok(),
                v => as_number(v),
            };
            match (read, a.either(1, "default")) {
                (None, Some(otherwise)) => Ok(otherwise.clone()),
                (None, None) => number(a, 0).and_then(float),
                (Some(n), _) => float(n),
            }
        },
    )
    .named(&["default"]),
    def("min", "list […]", "The smallest of a list, or of its arguments.", ("{{min 3 1 2}}", "1"), |a| {
        extreme(a, Ordering::Less)
    })
    .named(&["attribute", "case_sensitive"]),
    def("max", "list […]", "The largest of a list, or of its arguments.", ("{{max (list 3 1 2)}}", "3"), |a| {
        extreme(a, Ordering::Greater)
    })
    .named(&["attribute", "case_sensitive"]),
    def("sum", "list", "The sum of a list, or of a field of its elements.", ("{{sum (list 1 2 3)}}", "6"), |a| {
        let mut all = vec![];
        for (i, v) in a.list(0)?.iter().enumerate() {
            all.push(match a.named("attribute") {
                None => v,
                Some(p) => at_path(v, as_text(p).as_ref()).ok_or_else(|| format!("element {i} has no {}", shown(p)))?,
            });
        }
        if let Some(Value::Array(start)) = a.named("start") {
            // One list of several.
            let mut out = start.clone();
            for v in all {
                out.extend(super::args::as_list(v, 0)?.iter().cloned());
            }
            return Ok(Value::Array(out));
        }
        let start = json!(0);
        let mut values = vec![a.named("start").unwrap_or(&start)];
        values.extend(all);
        fold(&Args { values, named: vec![], missing: 0, outside: None }, i64::checked_add, |x, y| x + y)
    })
    .named(&["attribute", "start"]),
    def(
        "human_readable",
        "bytes",
        "A size for people; unit= forces one, isbits=true counts bits.",
        ("{{human_readable 1048576}}", r#""1.00 MB""#),
        |a| {
            let bits = a.flag("isbits", false)?;
            let base = if bits { "bits" } else { "Bytes" };
            let size = number(a, 0)?;
            let unit = a.named_text("unit").map(|u| u.to_uppercase());
            for (letter, power) in UNITS {
                let limit = 1024f64.powi(power);
                if unit.as_deref().map_or(size >= limit, |u| u.starts_with(letter)) {
                    let end = if bits { "b" } else { "B" };
                    return Ok(json!(format!("{:.2} {letter}{end}", size / limit)));
                }
            }
            Ok(json!(format!("{size:.2} {base}")))
        },
    )
    .named(&["isbits", "unit"]),
    def(
        "human_to_bytes",
        "size",
        "Bytes of a size that people write: 2G, 10 MB, 512k.",
        (r#"{{human_to_bytes "1.5 MB"}}"#, "1572864"),
        |a| {
            let s = a.text(0);
            let s = s.trim();
            let digits = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
            let wrong = || Fail::Wrong(format!("`{s}` is no size; write it as 10M or 1.5 GB"));
            let n: f64 = s[..digits].parse().map_err(|_| wrong())?;
            let given = s[digits..].trim().to_uppercase();
            let unit = match (&given[..], a.named_text("default_unit")) {
                ("", Some(d)) => d.to_uppercase(),
                (g, _) => g.to_string(),
            };
            let power = match unit.trim_end_matches("IB").trim_end_matches('B') {
                "" => 0,
                "BYTE" | "BYTES" => 0,
                letter => UNITS.iter().find(|(l, _)| *l == letter).map(|(_, p)| *p).ok_or_else(wrong)?,
            };
            Ok(json!((n * 1024f64.powi(power)).round_ties_even() as i64))
        },
    )
    .named(&["default_unit"]),
];

const UNITS: [(&str, i32); 8] = [("Y", 8), ("Z", 7), ("E", 6), ("P", 5), ("T", 4), ("G", 3), ("M", 2), ("K", 1)];

/// A whole number in whatever way it is given; text with a point is none.
fn as_int(v: &Value) -> Option<i64> {
    match v {
        Value::String(_) if is_python() => None,
        Value::String(s) => s.trim().parse().ok(),
        Value::Bool(b) if is_python() => Some(i64::from(*b)),
        other => other.as_i64(),
    }
}

/// A whole number rounded to so many digits behind the point, or in front of it; half goes to the even neighbour.
fn rounded(n: i64, digits: i64) -> Option<i64> {
    if digits >= 0 {
        return Some(n);
    }
    let Some(unit) = u32::try_from(digits.unsigned_abs()).ok().and_then(|d| 10i64.checked_pow(d)) else {
        return Some(0);
    };
    let (down, rest) = (n.div_euclid(unit), n.rem_euclid(unit));
    let up = match rest.cmp(&(unit - rest)) {
        Ordering::Equal => down % 2 != 0,
        o => o.is_gt(),
    };
    (down + i64::from(up)).checked_mul(unit)
}

fn number(a: &Args, i: usize) -> Result<f64, Fail> {
    // Text is no number to Python.
    let read = if is_python() && a[i].is_string() { None } else { as_number(&a[i]) };
    read.ok_or_else(|| Fail::Wrong(format!("{} is not a number", shown(&a[i]))))
}

fn float(f: f64) -> Result<Value, Fail> {
    serde_json::Number::from_f64(f).map(Value::Number).ok_or_else(|| "the result is no number".into())
}

fn not_nought(a: &Args) -> Result<(), Fail> {
    if number(a, 1)? == 0.0 { Err("it cannot divide by 0".into()) } else { Ok(()) }
}

fn floor_div(x: i64, y: i64) -> Option<i64> {
    let q = x.checked_div(y)?;
    Some(if x % y != 0 && (x < 0) != (y < 0) { q - 1 } else { q })
}

fn fold(a: &Args, whole: fn(i64, i64) -> Option<i64>, broken: fn(f64, f64) -> f64) -> Result<Value, Fail> {
    if let Some(ints) = a.values.iter().map(|v| as_int(v)).collect::<Option<Vec<i64>>>() {
        let r = ints.into_iter().map(Some).reduce(|x, y| whole(x?, y?)).flatten();
        return r.map(|r| json!(r)).ok_or_else(|| "the result is too large".into());
    }
    let all = (0..a.len()).map(|i| number(a, i)).collect::<Result<Vec<f64>, _>>()?;
    float(all.into_iter().reduce(broken).unwrap_or(0.0))
}

fn extreme(a: &Args, wanted: Ordering) -> Result<Value, Fail> {
    let all: Vec<&Value> = if a.len() > 1 { a.values.clone() } else { a.list(0)?.iter().collect() };
    let sensitive = a.flag("case_sensitive", false)?;
    let mut best: Option<(&Value, Value)> = None;
    for v in all {
        let by = match a.named("attribute") {
            None => v,
            Some(p) => at_path(v, as_text(p).as_ref()).ok_or_else(|| format!("an element has no {}", shown(p)))?,
        };
        let by = match by {
            Value::String(s) if !sensitive => json!(s.to_lowercase()),
            other => other.clone(),
        };
        if best.as_ref().map_or(Ok(true), |(_, b)| order(&by, b).map(|o| o == wanted))? {
            best = Some((v, by));
        }
    }
    best.map(|(v, _)| v.clone()).ok_or_else(|| Fail::Undefined("the list is empty".into()))
}

fn in_base(s: &str, base: i64) -> Result<i64, Fail> {
    let clean = without_underscores(s);
    let (minus, digits) = match clean.strip_prefix('-') {
        Some(d) => ("-", d),
        None => ("", clean.strip_prefix('+').unwrap_or(&clean)),
    };
    let marked = |mark: [&str; 2]| mark.iter().find_map(|m| digits.strip_prefix(m));
    let (hex, octal, binary) = (marked(["0x", "0X"]), marked(["0o", "0O"]), marked(["0b", "0B"]));
    let (base, digits) = match (base, hex, octal, binary) {
        (0 | 16, Some(d), ..) => (16, d),
        (0 | 8, _, Some(d), _) => (8, d),
        (0 | 2, .., Some(d)) => (2, d),
        // Without a mark nothing but noughts begins with one.
        (0, ..) if digits.starts_with('0') && digits.contains(|c| c != '0') => (0, digits),
        (0, ..) => (10, digits),
        (b, ..) => (b, digits),
    };
    let no = || Fail::Wrong(format!("`{s}` is no number to the base {base}"));
    let radix = match u32::try_from(base) {
        Ok(0) => return Err(no()),
        Ok(b) if (2..=36).contains(&b) => b,
        _ => return Err("its base is between 2 and 36".into()),
    };
    if digits.starts_with(['-', '+']) {
        return Err(no());
    }
    i64::from_str_radix(&format!("{minus}{digits}"), radix)
        .map_err(|_| Fail::Wrong(format!("`{s}` is no number to the base {base}")))
}
