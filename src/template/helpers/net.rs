//! Addresses and networks.

use super::args::{as_text, as_whole, is_full, kind_of, shown};
use super::{Args, Def, Fail, def};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const ALL: &[Def] = &[
    def(
        "ipaddr",
        "value [question]",
        "The address if it is one, else false; of a list, those that are. The question picks a part (address, network, netmask, prefix, host, size, subnet, broadcast, first_usable, revdns …), the nth address of the network, or those within a network.",
        (r#"{{ipaddr "192.168.1.5/24" "network"}}"#, r#""192.168.1.0""#),
        |a| asked(a, None),
    ),
    def(
        "ipv4",
        "value [question]",
        "As `ipaddr`, for IPv4 only.",
        (r#"{{ipv4 (list "10.0.0.1" "fe80::1")}}"#, r#"["10.0.0.1"]"#),
        |a| asked(a, Some(false)),
    ),
    def(
        "ipv6",
        "value [question]",
        "As `ipaddr`, for IPv6 only.",
        (r#"{{ipv6 (list "10.0.0.1" "fe80::1")}}"#, r#"["fe80::1"]"#),
        |a| asked(a, Some(true)),
    ),
    def(
        "ipwrap",
        "value",
        "An IPv6 address in brackets; everything else as it is.",
        (r#"{{ipwrap "fe80::1"}}"#, r#""[fe80::1]""#),
        |a| match &a[0] {
            Value::Array(l) => Ok(l.iter().map(wrapped).collect()),
            v => Ok(wrapped(v)),
        },
    ),
    def(
        "ipsubnet",
        "value [size] [index]",
        "The network of an address; with a size how many networks of it there are, or the one of that index; with a network its number within that.",
        (r#"{{ipsubnet "192.168.0.0/16" 20 1}}"#, r#""192.168.16.0/20""#),
        subnet,
    ),
    def(
        "nthhost",
        "network n",
        "The nth address of a network; negative: from the end. false where there is none.",
        (r#"{{nthhost "10.0.0.0/8" 305}}"#, r#""10.0.1.49""#),
        |a| {
            let n = net(a, 0)?;
            Ok(n.nth(a.whole(1)?).map_or(json!(false), |x| json!(n.show(x))))
        },
    ),
    def(
        "ipmath",
        "address n",
        "The address so many after it, or before.",
        (r#"{{ipmath "192.168.1.5" 5}}"#, r#""192.168.1.10""#),
        |a| {
            let n = net(a, 0)?;
            n.plus(n.addr, a.whole(1)?)
                .map(|x| json!(n.show(x)))
                .ok_or_else(|| "it leads out of the address space".into())
        },
    ),
    def(
        "next_nth_usable",
        "address n",
        "The nth address after it that a host can have.",
        (r#"{{next_nth_usable "192.168.122.5/24" 2}}"#, r#""192.168.122.7""#),
        |a| neighbour(a, 1),
    ),
    def(
        "previous_nth_usable",
        "address n",
        "The nth address before it that a host can have.",
        (r#"{{previous_nth_usable "192.168.122.5/24" 2}}"#, r#""192.168.122.3""#),
        |a| neighbour(a, -1),
    ),
    def(
        "usable_range",
        "network",
        "All addresses of a network and their number: usable_ips, number_of_ips.",
        (r#"{{usable_range "10.0.0.0/31"}}"#, r#"{"usable_ips":["10.0.0.0","10.0.0.1"],"number_of_ips":2}"#),
        |a| {
            let n = net(a, 0)?;
            let size = n.size().filter(|s| *s <= 65_536).ok_or("it lists networks of up to 65536 addresses")?;
            let all: Vec<String> = (0..size).map(|i| n.show(n.network() + i)).collect();
            Ok(json!({ "usable_ips": all, "number_of_ips": size as u64 }))
        },
    ),
    def(
        "network_in_network",
        "network address",
        "Whether an address or a network is within the network.",
        (r#"{{network_in_network "10.0.0.0/8" "10.1.0.0/16"}}"#, "true"),
        |a| Ok(json!(net(a, 1)?.is_within(&net(a, 0)?))),
    ),
    def(
        "in_network",
        "address network",
        "Whether an address or a network is within the network.",
        (r#"{{in_network "10.1.0.1" "10.0.0.0/8"}}"#, "true"),
        |a| Ok(json!(net(a, 0)?.is_within(&net(a, 1)?))),
    ),
    def(
        "network_in_usable",
        "network address",
        "Whether an address or a network is among those that hosts can have.",
        (r#"{{network_in_usable "10.0.0.0/24" "10.0.0.255"}}"#, "false"),
        |a| {
            let (all, some) = (net(a, 0)?, net(a, 1)?);
            Ok(json!(
                some.is_within(&all)
                    && all.usable().is_some_and(|(first, last)| some.network() >= first && some.last() <= last)
            ))
        },
    ),
    def(
        "reduce_on_network",
        "list network",
        "The addresses that are within the network.",
        (r#"{{reduce_on_network (list "10.0.0.1" "1.1.1.1") "10.0.0.0/8"}}"#, r#"["10.0.0.1"]"#),
        |a| {
            let all = net(a, 1)?;
            Ok(a.list(0)?.iter().filter(|v| Net::of(v).is_some_and(|n| n.is_within(&all))).cloned().collect())
        },
    ),
    def(
        "cidr_merge",
        "list [action]",
        "The fewest networks that are the same; \"span\": the one network that holds all.",
        (r#"{{cidr_merge (list "10.0.0.0/25" "10.0.0.128/25")}}"#, r#"["10.0.0.0/24"]"#),
        merge,
    )
    .named(&["action"]),
    def(
        "ip4_hex",
        "address [separator]",
        "An IPv4 address in hexadecimal digits.",
        (r#"{{ip4_hex "192.168.1.5"}}"#, r#""c0a80105""#),
        |a| {
            let n = net(a, 0)?;
            if n.v6 {
                return Err("it takes an IPv4 address".into());
            }
            let parts: Vec<String> = (n.addr as u32).to_be_bytes().iter().map(|b| format!("{b:02x}")).collect();
            Ok(json!(parts.join(&a.text(1))))
        },
    ),
    def(
        "hwaddr",
        "value [format]",
        "A hardware address in another form: unix (unless said), linux, cisco, bare, eui48, pgsql; null if it is none.",
        (r#"{{hwaddr "1A2B3C4D5E6F" "cisco"}}"#, r#""1a2b.3c4d.5e6f""#),
        hardware,
    ),
    def(
        "macaddr",
        "value [format]",
        "The same as `hwaddr`.",
        (r#"{{macaddr "1a-2b-3c-4d-5e-6f" "linux"}}"#, r#""1a:2b:3c:4d:5e:6f""#),
        hardware,
    ),
    def("is_ip", "value", "Whether it is an address or a network.", (r#"{{is_ip "10.0.0.0/8"}}"#, "true"), |a| {
        Ok(json!(Net::of(&a[0]).is_some()))
    }),
    def(
        "is_ip_address",
        "value",
        "Whether it is an address, without a prefix.",
        (r#"{{is_ip_address "10.0.0.0/8"}}"#, "false"),
        |a| Ok(json!(Net::of(&a[0]).is_some_and(|n| !n.given))),
    ),
    def(
        "is_ipv4_address",
        "value",
        "Whether it is an IPv4 address, without a prefix.",
        (r#"{{is_ipv4_address "10.0.0.1"}}"#, "true"),
        |a| Ok(json!(Net::of(&a[0]).is_some_and(|n| !n.given && !n.v6))),
    ),
    def(
        "is_ipv6_address",
        "value",
        "Whether it is an IPv6 address, without a prefix.",
        (r#"{{is_ipv6_address "10.0.0.1"}}"#, "false"),
        |a| Ok(json!(Net::of(&a[0]).is_some_and(|n| !n.given && n.v6))),
    ),
];

/// An address with the network it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Net {
    addr: u128,
    prefix: u32,
    v6: bool,
    /// The prefix was written.
    given: bool,
}

impl Net {
    fn of(v: &Value) -> Option<Net> {
        match v {
            Value::Number(n) => {
                let n = n.as_u64()?;
                let v6 = n > u64::from(u32::MAX);
                Some(Net { addr: n.into(), prefix: if v6 { 128 } else { 32 }, v6, given: false })
            }
            Value::String(s) => Net::read(s),
            _ => None,
        }
    }

    fn read(s: &str) -> Option<Net> {
        if super::args::is_python() && s.trim() != s {
            return None;
        }
        let (addr, prefix) = s.trim().split_once('/').map_or((s.trim(), None), |(a, p)| (a, Some(p)));
        let (addr, v6) = match addr.parse().ok()? {
            IpAddr::V4(a) => (u128::from(u32::from(a)), false),
            IpAddr::V6(a) => (u128::from(a), true),
        };
        let bits = if v6 { 128 } else { 32 };
        let prefix = match prefix {
            None => return Some(Net { addr, prefix: bits, v6, given: false }),
            Some(p) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => p.parse().ok()?,
            // A netmask.
            Some(p) => {
                let mask = u32::from(p.parse::<Ipv4Addr>().ok().filter(|_| !v6)?);
                Some(mask.leading_ones()).filter(|n| *n == mask.count_ones())?
            }
        };
        (prefix <= bits).then_some(Net { addr, prefix, v6, given: true })
    }

    fn bits(&self) -> u32 {
        if self.v6 { 128 } else { 32 }
    }
    /// The bits behind the prefix.
    fn hostmask(&self) -> u128 {
        let free = self.bits() - self.prefix;
        if free == 128 { u128::MAX } else { (1 << free) - 1 }
    }
    fn netmask(&self) -> u128 {
        let all = if self.v6 { u128::MAX } else { u128::from(u32::MAX) };
        all ^ self.hostmask()
    }
    fn network(&self) -> u128 {
        self.addr & !self.hostmask()
    }
    fn last(&self) -> u128 {
        self.addr | self.hostmask()
    }
    /// None for the whole of IPv6.
    fn size(&self) -> Option<u128> {
        self.hostmask().checked_add(1)
    }
    fn show(&self, addr: u128) -> String {
        if self.v6 { Ipv6Addr::from(addr).to_string() } else { Ipv4Addr::from(addr as u32).to_string() }
    }
    fn cidr(&self, addr: u128) -> String {
        format!("{}/{}", self.show(addr), self.prefix)
    }
    fn written(&self) -> String {
        if self.given { self.cidr(self.addr) } else { self.show(self.addr) }
    }
    /// It names a network, no address in it. The two addresses of a /31 are both.
    fn is_network(&self) -> bool {
        self.hostmask() > 0 && self.addr == self.network()
    }
    fn is_host(&self) -> bool {
        self.hostmask() <= 1 || self.addr != self.network()
    }
    fn usable(&self) -> Option<(u128, u128)> {
        match self.hostmask() {
            0 => None,
            1 => Some((self.network(), self.last())),
            _ => Some((self.network() + 1, self.last() - 1)),
        }
    }
    fn plus(&self, addr: u128, n: i64) -> Option<u128> {
        let x = addr.checked_add_signed(n.into())?;
        (self.v6 || x <= u128::from(u32::MAX)).then_some(x)
    }
    fn nth(&self, n: i64) -> Option<u128> {
        let x = if n < 0 {
            self.last().checked_sub(u128::from(n.unsigned_abs()) - 1)?
        } else {
            self.network().checked_add(n as u128)?
        };
        (self.network()..=self.last()).contains(&x).then_some(x)
    }
    fn is_within(&self, other: &Net) -> bool {
        self.v6 == other.v6 && self.network() >= other.network() && self.last() <= other.last()
    }
    fn with_prefix(&self, prefix: u32) -> Net {
        let n = Net { prefix, given: true, ..*self };
        Net { addr: n.network(), ..n }
    }
    fn is_in(&self, networks: &[&str]) -> bool {
        networks.iter().filter_map(|n| Net::read(n)).any(|n| self.is_within(&n))
    }
    fn is_multicast(&self) -> bool {
        self.is_in(&["224.0.0.0/4", "ff00::/8"])
    }
    fn is_loopback(&self) -> bool {
        self.is_in(&["127.0.0.0/8", "::1/128"])
    }
    fn is_private(&self) -> bool {
        self.is_in(PRIVATE)
    }
}

/// What is not routed in the Internet, by IANA's lists.
const PRIVATE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/29",
    "192.0.0.170/31",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "::1/128",
    "::/128",
    "::ffff:0:0/96",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "fc00::/7",
    "fe80::/10",
];

fn net(a: &Args, i: usize) -> Result<Net, Fail> {
    Net::of(&a[i]).ok_or_else(|| {
        Fail::Wrong(format!(
            "its {} argument must be an address or a network such as 10.0.0.0/8, not {}",
            super::args::nth(i),
            shown(&a[i])
        ))
    })
}

fn number(n: u128) -> Value {
    u64::try_from(n).map_or_else(|_| json!(n.to_string()), |n| json!(n))
}

fn asked(a: &Args, v6: Option<bool>) -> Result<Value, Fail> {
    let question = a.text(1);
    let one = |v: &Value| match Net::of(v).filter(|n| v6.is_none_or(|v6| v6 == n.v6)) {
        None => Ok(json!(false)),
        Some(n) => answer(&n, question.trim()),
    };
    match &a[0] {
        Value::Array(l) => {
            let all = l.iter().map(one).collect::<Result<Vec<_>, _>>()?;
            Ok(all.into_iter().filter(is_full).collect())
        }
        Value::Object(_) => {
            Err(Fail::Wrong(format!("its first argument must be text or a list, not {}", kind_of(&a[0]))))
        }
        v => one(v),
    }
}

fn answer(n: &Net, question: &str) -> Result<Value, Fail> {
    let when = |yes: bool, v: String| if yes { json!(v) } else { Value::Null };
    // What only a host in its network has.
    let inside = n.given && n.hostmask() > 0 && n.is_host();
    let usable = || {
        if n.given {
            Ok(n.usable())
        } else {
            Err(Fail::Wrong(format!("`{}` has no prefix: write it as {}/24", n.written(), n.written())))
        }
    };
    let or_null = |x: Option<u128>| x.map_or(Value::Null, |x| json!(n.show(x)));
    Ok(match question {
        "" => json!(n.written()),
        "bool" => json!(true),
        "address" | "ip" => when(n.is_host() || n.v6, n.show(n.addr)),
        "host" => when(n.is_host(), n.cidr(n.addr)),
        "network" | "network_id" => json!(n.show(n.network())),
        "netmask" => json!(n.show(n.netmask())),
        "hostmask" | "wildcard" => json!(n.show(n.hostmask())),
        "prefix" => json!(n.prefix),
        "size" => n.size().map_or_else(|| json!("340282366920938463463374607431768211456"), number),
        "subnet" | "network/prefix" => json!(n.cidr(n.network())),
        "net" => when(n.is_network(), n.cidr(n.addr)),
        "cidr" => json!(n.cidr(n.addr)),
        "type" => json!(if n.is_network() { "network" } else { "address" }),
        "version" => json!(if n.v6 { 6 } else { 4 }),
        "broadcast" => when(n.hostmask() > 1, n.show(n.last())),
        "multicast" => when(n.is_multicast(), n.written()),
        "unicast" => when(!n.is_multicast(), n.written()),
        "loopback" | "lo" => when(n.is_loopback(), n.written()),
        "link-local" => when(n.is_in(&["169.254.0.0/16", "fe80::/10"]), n.written()),
        "private" => when(n.is_private(), n.written()),
        "public" => when(!n.is_private() && !n.is_loopback() && !n.is_multicast(), n.written()),
        "int" if n.given => json!(format!("{}/{}", n.addr, n.prefix)),
        "int" => number(n.addr),
        "ip/prefix" => when(inside, n.cidr(n.addr)),
        "ip_netmask" => when(inside, format!("{} {}", n.show(n.addr), n.show(n.netmask()))),
        "host/prefix" | "address/prefix" | "gateway" | "gw" | "router" => {
            if n.is_host() && (n.hostmask() <= 1 || n.addr != n.last()) { json!(n.cidr(n.addr)) } else { json!(false) }
        }
        "network_netmask" => json!(format!("{} {}", n.show(n.network()), n.show(n.netmask()))),
        "network_wildcard" => json!(format!("{} {}", n.show(n.network()), n.show(n.hostmask()))),
        "first_usable" => or_null(usable()?.map(|(f, _)| f)),
        "last_usable" => or_null(usable()?.map(|(_, l)| l)),
        "range_usable" => usable()?.map_or(Value::Null, |(f, l)| json!(format!("{}-{}", n.show(f), n.show(l)))),
        "size_usable" => n.usable().map_or(json!(0), |(f, l)| number(l - f + 1)),
        "next_usable" => or_null(usable()?.filter(|(_, l)| n.addr < *l).map(|_| n.addr + 1)),
        "previous_usable" => or_null(usable()?.filter(|(f, _)| n.addr > *f).map(|_| n.addr - 1)),
        "peer" => match n.hostmask() {
            1 => json!(n.show(n.addr ^ 1)),
            3 if (1..=2).contains(&(n.addr & 3)) => json!(n.show(n.addr ^ 3)),
            _ => {
                return Err(Fail::Wrong(format!(
                    "`{}` is no address of a link of two: of a /31, or one of the middle two of a /30",
                    n.written()
                )));
            }
        },
        "wrap" if n.v6 && n.given => json!(format!("[{}]/{}", n.show(n.addr), n.prefix)),
        "wrap" if n.v6 => json!(format!("[{}]", n.show(n.addr))),
        "wrap" => json!(n.written()),
        "revdns" if n.v6 => {
            let digits: Vec<String> = format!("{:032x}", n.addr).chars().rev().map(String::from).collect();
            json!(format!("{}.ip6.arpa.", digits.join(".")))
        }
        "revdns" => {
            let parts: Vec<String> = (n.addr as u32).to_le_bytes().iter().map(u8::to_string).collect();
            json!(format!("{}.in-addr.arpa.", parts.join(".")))
        }
        "ipv4" | "v4" | "ipv6" | "v6" if n.v6 == question.ends_with('6') => json!(n.written()),
        "ipv6" | "v6" => json!(format!("{}/{}", Ipv4Addr::from(n.addr as u32).to_ipv6_mapped(), n.prefix + 96)),
        "ipv4" | "v4" => match Ipv6Addr::from(n.addr).to_ipv4_mapped() {
            Some(v4) if n.prefix >= 96 => json!(format!("{v4}/{}", n.prefix - 96)),
            _ => json!(false),
        },
        other => match (other.parse::<i64>(), Net::read(other)) {
            (Ok(_), _) if n.hostmask() == 0 => json!(n.written()),
            (Ok(i), _) => n.nth(i).map_or(json!(false), |x| json!(n.cidr(x))),
            (_, Some(network)) => when(n.is_within(&network), n.written()),
            _ => {
                return Err(Fail::Wrong(format!(
                    "it knows no question `{other}`: it takes a part such as network or prefix, a number, or a network"
                )));
            }
        },
    })
}

fn wrapped(v: &Value) -> Value {
    match v.as_str().and_then(Net::read) {
        Some(n) if n.v6 => answer(&n, "wrap").unwrap_or_else(|_| v.clone()),
        _ => v.clone(),
    }
}

fn subnet(a: &Args) -> Result<Value, Fail> {
    let Some(n) = Net::of(&a[0]) else { return Ok(json!(false)) };
    let Some(size) = a.get(1).filter(|v| !matches!(v.as_str(), Some(""))) else {
        return Ok(json!(n.cidr(n.network())));
    };
    if let Some(all) = size.as_str().filter(|s| s.contains('/')).and_then(Net::read) {
        if !n.is_within(&all) {
            return Err(Fail::Wrong(format!("{} is not within {}", n.written(), shown(size))));
        }
        let place = (n.network() - all.network()) >> (n.bits() - n.prefix);
        return Ok(json!((place + 1).to_string()));
    }
    let prefix = u32::try_from(as_whole(size)?)
        .ok()
        .filter(|p| *p <= n.bits())
        .ok_or_else(|| format!("{} is no prefix: it is between 0 and {}", shown(size), n.bits()))?;
    let index = a.get(2).map(as_whole).transpose()?;
    // Networks around it, the widest first.
    if n.prefix == n.bits() || prefix < n.prefix {
        let wanted = i64::from(prefix) + index.unwrap_or(0);
        let wanted =
            if index.is_some_and(|i| i < 0) { wanted - i64::from(prefix) + i64::from(n.prefix) } else { wanted };
        return Ok(match u32::try_from(wanted) {
            Ok(p) if p >= prefix && p <= n.prefix => {
                let w = n.with_prefix(p);
                json!(w.cidr(w.addr))
            }
            _ => json!(false),
        });
    }
    let step = n.bits() - prefix;
    let count = n.hostmask().checked_shr(step).unwrap_or(0);
    match index {
        None => {
            Ok(json!(count.checked_add(1).map_or("340282366920938463463374607431768211456".into(), |c| c.to_string())))
        }
        Some(i) => {
            let place = if i < 0 { count.checked_sub(u128::from(i.unsigned_abs()) - 1) } else { Some(i as u128) };
            Ok(match place.filter(|p| *p <= count) {
                Some(p) => {
                    let at = n.network() + p.checked_shl(step).unwrap_or(0);
                    json!(Net { prefix, ..n }.cidr(at))
                }
                None => json!(false),
            })
        }
    }
}

fn neighbour(a: &Args, sign: i64) -> Result<Value, Fail> {
    let n = net(a, 0)?;
    let (first, last) = n.usable().ok_or("the address needs a prefix that leaves room: 192.168.1.5/24")?;
    let by = a.whole(1)?.checked_mul(sign).ok_or("the number is too large")?;
    Ok(match n.plus(n.addr, by).filter(|x| (first..=last).contains(x)) {
        Some(x) => json!(n.show(x)),
        None => Value::Null,
    })
}

/// The networks that make up a range, the first first.
fn cover(mut first: u128, last: u128, v6: bool) -> Vec<Net> {
    let bits = if v6 { 128 } else { 32 };
    let mut out = vec![];
    loop {
        let mut n = Net { addr: first, prefix: bits, v6, given: true };
        while n.prefix > 0 {
            let wider = Net { prefix: n.prefix - 1, ..n };
            if wider.network() != first || wider.last() > last {
                break;
            }
            n = wider;
        }
        out.push(n);
        match n.last().checked_add(1) {
            Some(next) if next <= last => first = next,
            _ => return out,
        }
    }
}

fn merge(a: &Args) -> Result<Value, Fail> {
    let action = a.either(1, "action").map(as_text).unwrap_or("merge".into());
    let mut all = a
        .list(0)?
        .iter()
        .map(|v| Net::of(v).ok_or_else(|| Fail::Wrong(format!("{} is no address or network", shown(v)))))
        .collect::<Result<Vec<_>, _>>()?;
    all.sort_by_key(|n| (n.v6, n.network(), n.last()));
    match action.as_ref() {
        "merge" => {
            let mut ranges: Vec<(bool, u128, u128)> = vec![];
            for n in all {
                match ranges.last_mut() {
                    Some((v6, _, last)) if *v6 == n.v6 && n.network() <= last.saturating_add(1) => {
                        *last = n.last().max(*last)
                    }
                    _ => ranges.push((n.v6, n.network(), n.last())),
                }
            }
            Ok(ranges.into_iter().flat_map(|(v6, f, l)| cover(f, l, v6)).map(|n| json!(n.cidr(n.addr))).collect())
        }
        "span" => {
            let Some(first) = all.first().copied() else { return Ok(Value::Null) };
            if all.iter().any(|n| n.v6 != first.v6) {
                return Err("a span is of IPv4 or of IPv6, not of both".into());
            }
            let last = all.iter().map(Net::last).max().unwrap_or_default();
            let mut n = first.with_prefix(first.prefix);
            while n.last() < last {
                n = n.with_prefix(n.prefix - 1);
            }
            Ok(json!(n.cidr(n.addr)))
        }
        other => Err(Fail::Wrong(format!("its action is merge or span, not `{other}`"))),
    }
}

fn hardware(a: &Args) -> Result<Value, Fail> {
    let s = a.text(0).to_lowercase();
    let hex: String = s.chars().filter(|c| c.is_ascii_hexdigit()).collect();
    let marks_only = s.chars().all(|c| c.is_ascii_hexdigit() || ":-.".contains(c));
    let question = a.text(1);
    if hex.len() != 12 || !marks_only {
        return Ok(if question == "bool" { json!(false) } else { Value::Null });
    }
    let by = |n: usize, sign: &str| {
        hex.as_bytes().chunks(n).map(|c| String::from_utf8_lossy(c).into_owned()).collect::<Vec<_>>().join(sign)
    };
    Ok(match question.as_ref() {
        "" if super::args::is_python() => a[0].clone(),
        "" | "unix" | "linux" => json!(by(2, ":")),
        "cisco" => json!(by(4, ".")),
        "bare" => json!(hex.to_uppercase()),
        "eui48" | "win" => json!(by(2, "-").to_uppercase()),
        "pgsql" | "postgresql" | "psql" => json!(by(6, ":")),
        "bool" => json!(true),
        other => return Err(Fail::Wrong(format!("it knows unix, linux, cisco, bare, eui48 and pgsql, not `{other}`"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some() -> impl Strategy<Value = Net> {
        prop_oneof![
            (any::<u32>(), 0u32..=32).prop_map(|(a, p)| Net { addr: a.into(), prefix: p, v6: false, given: true }),
            (any::<u128>(), 0u32..=128).prop_map(|(a, p)| Net { addr: a, prefix: p, v6: true, given: true }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(n in some()) {
            prop_assert_eq!(Net::read(&n.written()), Some(n));
        }

        #[test]
        fn an_address_is_within_its_network(n in some(), i in any::<i64>()) {
            prop_assert!(n.network() <= n.addr && n.addr <= n.last());
            prop_assert!(n.is_within(&n.with_prefix(n.prefix)));
            prop_assert_eq!(n.network() | n.hostmask(), n.last());
            prop_assert_eq!(n.nth(0), Some(n.network()));
            prop_assert_eq!(n.nth(-1), Some(n.last()));
            if let Some(x) = n.nth(i) {
                prop_assert!((n.network()..=n.last()).contains(&x));
            }
        }

        #[test]
        fn a_range_is_covered_without_gap_or_overlap(a in any::<u32>(), b in any::<u32>()) {
            let (first, last) = (a.min(b).into(), a.max(b).into());
            let mut next = first;
            for n in cover(first, last, false) {
                prop_assert_eq!(n.network(), next);
                prop_assert!(n.last() <= last);
                next = n.last() + 1;
            }
            prop_assert_eq!(next, last + 1);
        }

        #[test]
        fn no_question_makes_it_panic(n in some(), q in "[a-z/_0-9.:-]{0,12}", known in 0usize..8) {
            let q = ["first_usable", "next_usable", "previous_usable", "size_usable", "size", "peer", "revdns", &q][known].to_string();
            let _ = answer(&n, &q);
        }
    }
}
