//! What is remembered of a lab: its network, image and nodes' addresses. Whether they run is never remembered.

use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::tool;
use crate::error::{Error, Result};

/// `lab.json` in a lab's state directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub name: String,
    pub image: PathBuf,
    pub bridge: String,
    pub subnet: Subnet,
    pub inventory: PathBuf,
    pub nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    pub address: Ipv4Addr,
}

impl State {
    /// Reads a lab's state; `None` if there is none.
    pub fn load(lab: &Path) -> Result<Option<State>> {
        let path = lab.join("lab.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(tool::at("read", &path)(e)),
        };
        serde_json::from_str(&text).map(Some).map_err(|e| {
            let name = lab.file_name().unwrap_or_default().to_string_lossy();
            Error::environment(format!("{} is not a lab's state", path.display()))
                .because(e)
                .hint(super::command("down", &name))
        })
    }

    pub fn save(&self, lab: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::internal("lab state").because(e))?;
        tool::write(&lab.join("lab.json"), &(text + "\n"), 0o644)
    }
}

/// A /24 network. `.1` is the bridge, nodes start at `.11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    net: [u8; 3],
}

impl Subnet {
    /// The most nodes a lab can have.
    pub const NODES: usize = 200;

    pub(super) const fn new(a: u8, b: u8, c: u8) -> Self {
        Subnet { net: [a, b, c] }
    }

    fn host(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, last)
    }

    /// The bridge's address: the nodes' way out.
    pub fn gateway(self) -> Ipv4Addr {
        self.host(1)
    }

    /// The address of node number `number`, from 1 to [`Subnet::NODES`].
    pub fn node(self, number: usize) -> Ipv4Addr {
        self.host((10 + number.min(Self::NODES)) as u8)
    }

    /// Whether any address is in both this network and `address/prefix`.
    pub(super) fn overlaps(self, address: Ipv4Addr, prefix: u8) -> bool {
        let bits = u32::from(prefix.min(24));
        let mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
        u32::from(self.host(0)) & mask == u32::from(address) & mask
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/24", self.host(0))
    }
}

impl FromStr for Subnet {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a /24 network");
        let address: Ipv4Addr = text.strip_suffix("/24").ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
        match address.octets() {
            [a, b, c, 0] => Ok(Subnet::new(a, b, c)),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let lab = tempfile::tempdir().unwrap();
        assert_eq!(State::load(lab.path()).unwrap(), None);
        let subnet = Subnet::new(10, 213, 7);
        let state = State {
            name: "lab".into(),
            image: "/cache/image-1".into(),
            bridge: "wl-abc".into(),
            subnet,
            inventory: "/p/inventories/lab".into(),
            nodes: vec![Node { name: "node1".into(), address: subnet.node(1) }],
        };
        state.save(lab.path()).unwrap();
        assert_eq!(State::load(lab.path()).unwrap(), Some(state));
        assert!(fs::read_to_string(lab.path().join("lab.json")).unwrap().contains("\"10.213.7.0/24\""));
    }

    #[test]
    fn a_torn_state_says_what_to_do() {
        let lab = tempfile::tempdir().unwrap();
        fs::write(lab.path().join("lab.json"), "{\"name\":").unwrap();
        let error = State::load(lab.path()).unwrap_err();
        let hint = error.hint.unwrap();
        assert!(hint.starts_with("windlass lab down --name "), "{hint}");
    }

    #[test]
    fn subnets() {
        let subnet: Subnet = "10.213.7.0/24".parse().unwrap();
        assert_eq!(subnet.gateway().to_string(), "10.213.7.1");
        assert_eq!(subnet.node(1).to_string(), "10.213.7.11");
        for wrong in ["10.213.7.0", "10.213.7.1/24", "10.213.7.0/16", "x/24"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        assert!(subnet.overlaps(ip("10.0.0.0"), 8));
        assert!(subnet.overlaps(ip("10.213.7.128"), 25));
        assert!(subnet.overlaps(ip("10.213.7.9"), 32));
        assert!(!subnet.overlaps(ip("10.213.8.0"), 24));
        assert!(subnet.overlaps(ip("0.0.0.0"), 0));
    }
}
