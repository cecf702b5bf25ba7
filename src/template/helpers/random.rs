//! Chance. With `seed=` the same numbers as Ansible's, and the same at every run.

use super::args::{as_whole, kind_of};
use super::{Args, Def, Fail, def};
use serde_json::{Value, json};
use sha2::Digest as _;

pub const ALL: &[Def] = &[
    def(
        "random",
        "limit_or_list [start] [step]",
        "A number below the limit, or an element of the list. Give seed= (inventory_hostname): without it every evaluation gives another.",
        (r#"{{random 59 seed="node1"}}"#, "36"),
        |a| {
            let mut dice = Dice::new(a)?;
            match &a[0] {
                Value::Number(_) => {
                    let start = a.either(1, "start").map_or(Ok(0), as_whole)?;
                    let step = a.either(2, "step").map_or(Ok(1), as_whole)?;
                    let span = a.whole(0)?.saturating_sub(start);
                    if step == 0 || span == 0 || (span > 0) != (step > 0) {
                        return Err("there is no number between its start and its limit".into());
                    }
                    let count = span.unsigned_abs().div_ceil(step.unsigned_abs());
                    Ok(json!(start + step * dice.below(count)? as i64))
                }
                Value::Array(l) if l.is_empty() => Err(Fail::Undefined("the list is empty".into())),
                Value::Array(l) => Ok(l[dice.below(l.len() as u64)? as usize].clone()),
                other => Err(Fail::Wrong(format!("its first argument must be a number or a list, not {}", kind_of(other)))),
            }
        },
    )
    .named(&["seed", "start", "step"]),
    def("shuffle", "list", "The list in another order; give seed=, or it is another one at every evaluation.", (r#"{{sort (shuffle (list 1 2 3) seed="x")}}"#, "[1,2,3]"), |a| {
        let mut l = a.list(0)?.to_vec();
        let mut dice = Dice::new(a)?;
        for i in (1..l.len()).rev() {
            let j = dice.below(i as u64 + 1)? as usize;
            l.swap(i, j);
        }
        Ok(Value::Array(l))
    })
    .named(&["seed"]),
    def("random_mac", "prefix", "A hardware address that begins with the prefix; give seed=.", (r#"{{length (random_mac "52:54:00" seed="x")}}"#, "17"), |a| {
        let prefix = a.text(0).to_lowercase();
        let parts = prefix.split(':').filter(|p| !p.is_empty()).count();
        let right = |p: &str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
        if !(1..=5).contains(&parts) || !prefix.split(':').filter(|p| !p.is_empty()).all(right) {
            return Err(Fail::Wrong(format!("`{prefix}` is no beginning of a hardware address; write 1 to 5 parts: 52:54:00")));
        }
        let mut dice = Dice::new(a)?;
        // The number that fills the rest has as many digits as it, the first no nought.
        let width = 12 - parts as u32 * 2;
        let low = 68_719_476_736u64;
        let number = low + dice.below(1_099_511_627_776 - low)?;
        let digits: Vec<char> = format!("{number:x}").chars().collect();
        let rest: Vec<String> = digits.chunks(2).map(|c| c.iter().collect()).take(width as usize / 2).collect();
        Ok(json!(format!("{}:{}", prefix.trim_end_matches(':'), rest.join(":"))))
    })
    .named(&["seed"]),
    def(
        "random_token",
        "[length]",
        "Letters and digits by chance (32), another one at every evaluation: keep it with set_fact, `register` or a file. chars= names others.",
        (r#"{{length (random_token 20)}}"#, "20"),
        |a| {
            let n = a.either(0, "length").map_or(Ok(32), as_whole)?;
            let n = usize::try_from(n).ok().filter(|n| (1..=4096).contains(n)).ok_or("its length is between 1 and 4096")?;
            let chars = a.named_text("chars").unwrap_or(LETTERS_AND_DIGITS.into());
            token(n, &chars).map(Value::String)
        },
    )
    .named(&["length", "chars"]),
    def("random_uuid", "", "A UUID by chance, another one at every evaluation.", ("{{length (random_uuid)}}", "36"), |_| {
        let h = token(32, "0123456789abcdef")?;
        let variant = token(1, "89ab")?;
        Ok(json!(format!("{}-{}-4{}-{variant}{}-{}", &h[..8], &h[8..12], &h[13..16], &h[17..20], &h[20..])))
    }),
];

pub const LETTERS_AND_DIGITS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Characters by chance, each as likely as the others, of the system's own source.
pub fn token(length: usize, chars: &str) -> Result<String, Fail> {
    let chars: Vec<char> = chars.chars().collect();
    if chars.is_empty() {
        return Err("there are no characters to choose from".into());
    }
    let mut dice = Dice::System;
    (0..length).map(|_| Ok(chars[dice.below(chars.len() as u64)? as usize])).collect()
}

/// Characters that are always the same for the same seed: those of Ansible.
pub fn seeded(length: usize, chars: &str, seed: &str) -> Result<String, Fail> {
    let chars: Vec<char> = chars.chars().collect();
    let mut dice = Dice::Seeded(Box::new(Twister::of_text(seed)));
    (0..length).map(|_| Ok(chars[dice.below(chars.len() as u64)? as usize])).collect()
}

enum Dice {
    System,
    Seeded(Box<Twister>),
}

impl Dice {
    fn new(a: &Args) -> Result<Dice, Fail> {
        Ok(match a.named("seed") {
            None | Some(Value::Null) => Dice::System,
            Some(Value::String(s)) => Dice::Seeded(Box::new(Twister::of_text(s))),
            Some(Value::Number(n)) if n.is_i64() || n.is_u64() => {
                let n = n.as_u64().unwrap_or_else(|| n.as_i64().unwrap_or(0).unsigned_abs());
                Dice::Seeded(Box::new(Twister::of_bytes(&n.to_be_bytes())))
            }
            Some(other) => {
                return Err(Fail::Wrong(format!("its seed is text or a whole number, not {}", kind_of(other))));
            }
        })
    }

    fn bits(&mut self, k: u32) -> Result<u64, Fail> {
        match self {
            Dice::System => {
                let mut b = [0; 8];
                getrandom::fill(&mut b).map_err(|e| format!("this machine gives no random bytes: {e}"))?;
                Ok(u64::from_le_bytes(b) >> (64 - k))
            }
            Dice::Seeded(t) => Ok(t.bits(k)),
        }
    }

    /// A number from 0 to before `n`: so many bits as `n` has, until they are few enough.
    fn below(&mut self, n: u64) -> Result<u64, Fail> {
        let k = 64 - n.leading_zeros();
        if n == 0 {
            return Err("there is nothing to choose from".into());
        }
        loop {
            let r = self.bits(k)?;
            if r < n {
                return Ok(r);
            }
        }
    }
}

/// The Mersenne Twister (MT19937), seeded as Python seeds it.
struct Twister {
    state: [u32; 624],
    next: usize,
}

impl Twister {
    fn of_text(s: &str) -> Twister {
        let mut bytes = s.as_bytes().to_vec();
        bytes.extend_from_slice(&sha2::Sha512::digest(s.as_bytes()));
        Twister::of_bytes(&bytes)
    }

    /// Seeded with a number, its highest byte first.
    fn of_bytes(bytes: &[u8]) -> Twister {
        let mut key: Vec<u32> = bytes.rchunks(4).map(|c| c.iter().fold(0, |n, b| n << 8 | u32::from(*b))).collect();
        while key.len() > 1 && key.last() == Some(&0) {
            key.pop();
        }
        let mut t = Twister::of_number(19_650_218);
        let s = &mut t.state;
        let (mut i, mut j) = (1, 0);
        for _ in 0..key.len().max(624) {
            s[i] = (s[i] ^ (s[i - 1] ^ s[i - 1] >> 30).wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            i += 1;
            j = (j + 1) % key.len();
            if i == 624 {
                s[0] = s[623];
                i = 1;
            }
        }
        for _ in 0..623 {
            s[i] = (s[i] ^ (s[i - 1] ^ s[i - 1] >> 30).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i == 624 {
                s[0] = s[623];
                i = 1;
            }
        }
        s[0] = 0x8000_0000;
        t
    }

    fn of_number(n: u32) -> Twister {
        let mut state = [0; 624];
        state[0] = n;
        for i in 1..624 {
            let before: u32 = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ before >> 30).wrapping_add(i as u32);
        }
        Twister { state, next: 624 }
    }

    fn word(&mut self) -> u32 {
        if self.next == 624 {
            let s = &mut self.state;
            for i in 0..624 {
                let y = s[i] & 0x8000_0000 | s[(i + 1) % 624] & 0x7fff_ffff;
                s[i] = s[(i + 397) % 624] ^ y >> 1 ^ if y & 1 == 1 { 0x9908_b0df } else { 0 };
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }

    /// So many bits, the lower words first.
    fn bits(&mut self, k: u32) -> u64 {
        if k <= 32 {
            return u64::from(self.word() >> (32 - k));
        }
        let low = u64::from(self.word());
        low | u64::from(self.word() >> (64 - k)) << 32
    }
}
