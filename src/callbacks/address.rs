//! Which addresses a callback may be sent to: public ones, and those that an admin lists.
//!
//! A service inside a company's network that calls whatever URL a client names would be the client's arm into
//! that network. So an address is refused unless it is one of the public internet's or lies in a range that
//! the configuration allows for this target. Pure: nothing here resolves a name or connects.
//!
//! Invariant: whatever is in no table is refused too, unless it is IPv4 unicast or in 2000::/3, the global
//! unicast addresses of IPv6. An IPv4 address that is written inside an IPv6 one is refused, whatever it is,
//! unless the IPv6 form itself is allowed: a range for the one must not open the other.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// An address that nothing is sent to, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is {reason} ({range}): if it is meant, an admin adds it to `allow_cidrs` of the target or the \
     allow entry, as in `allow_cidrs = [\"{address}/{}\"]`",
    bits(.address)
)]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// What kind of address it is.
    pub reason: Reason,
    /// The range that it is in, and who reserved it.
    pub range: &'static str,
}

/// What kind of address is not sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This machine.
    Loopback,
    /// No address at all; Linux connects to itself.
    Unspecified,
    /// This link only.
    LinkLocal,
    /// Where clouds tell a machine its own secrets.
    Metadata,
    /// Private, shared or unique local: inside somebody's network.
    Private,
    /// Reserved for protocols, tests or documentation, or not assigned.
    Reserved,
    /// Everybody on a network.
    Broadcast,
    /// A group of receivers.
    Multicast,
    /// An IPv4 address inside an IPv6 one: mapped, compatible, translated or tunnelled.
    EmbeddedIpv4,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Loopback => "this machine itself",
            Reason::Unspecified => "no address of a receiver",
            Reason::LinkLocal => "a link-local address",
            Reason::Metadata => "a cloud's metadata address",
            Reason::Private => "a private address",
            Reason::Reserved => "a reserved address",
            Reason::Broadcast => "a broadcast address",
            Reason::Multicast => "a multicast address",
            Reason::EmbeddedIpv4 => "an IPv4 address inside an IPv6 one",
        })
    }
}

fn bits(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

type Range4 = (Ipv4Addr, u32, Reason, &'static str);
type Range6 = (Ipv6Addr, u32, Reason, &'static str);

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

const fn v6(a: u16, b: u16, c: u16, h: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, 0, 0, 0, 0, h)
}

/// The registry of special IPv4 addresses (RFC 6890, kept by IANA), the narrow ranges first.
const RANGES_4: &[Range4] = &[
    (v4(0, 0, 0, 0), 32, Reason::Unspecified, "0.0.0.0, RFC 1122"),
    (v4(255, 255, 255, 255), 32, Reason::Broadcast, "255.255.255.255, RFC 919"),
    (v4(169, 254, 169, 254), 32, Reason::Metadata, "169.254.169.254"),
    (v4(169, 254, 170, 2), 32, Reason::Metadata, "169.254.170.2"),
    (v4(100, 100, 100, 200), 32, Reason::Metadata, "100.100.100.200"),
    (v4(168, 63, 129, 16), 32, Reason::Metadata, "168.63.129.16"),
    (v4(0, 0, 0, 0), 8, Reason::Reserved, "0.0.0.0/8, RFC 791"),
    (v4(10, 0, 0, 0), 8, Reason::Private, "10.0.0.0/8, RFC 1918"),
    (v4(100, 64, 0, 0), 10, Reason::Private, "100.64.0.0/10, RFC 6598"),
    (v4(127, 0, 0, 0), 8, Reason::Loopback, "127.0.0.0/8, RFC 1122"),
    (v4(169, 254, 0, 0), 16, Reason::LinkLocal, "169.254.0.0/16, RFC 3927"),
    (v4(172, 16, 0, 0), 12, Reason::Private, "172.16.0.0/12, RFC 1918"),
    (v4(192, 0, 0, 0), 24, Reason::Reserved, "192.0.0.0/24, RFC 6890"),
    (v4(192, 0, 2, 0), 24, Reason::Reserved, "192.0.2.0/24, RFC 5737"),
    (v4(192, 88, 99, 0), 24, Reason::Reserved, "192.88.99.0/24, RFC 7526"),
    (v4(192, 168, 0, 0), 16, Reason::Private, "192.168.0.0/16, RFC 1918"),
    (v4(198, 18, 0, 0), 15, Reason::Reserved, "198.18.0.0/15, RFC 2544"),
    (v4(198, 51, 100, 0), 24, Reason::Reserved, "198.51.100.0/24, RFC 5737"),
    (v4(203, 0, 113, 0), 24, Reason::Reserved, "203.0.113.0/24, RFC 5737"),
    (v4(224, 0, 0, 0), 4, Reason::Multicast, "224.0.0.0/4, RFC 5771"),
    (v4(240, 0, 0, 0), 4, Reason::Reserved, "240.0.0.0/4, RFC 1112"),
];

/// The registry of special IPv6 addresses (RFC 6890, kept by IANA), the narrow ranges first.
const RANGES_6: &[Range6] = &[
    (v6(0, 0, 0, 0), 128, Reason::Unspecified, "::, RFC 4291"),
    (v6(0, 0, 0, 1), 128, Reason::Loopback, "::1, RFC 4291"),
    (v6(0xfd00, 0xec2, 0, 0x254), 128, Reason::Metadata, "fd00:ec2::254"),
    (
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
        96,
        Reason::EmbeddedIpv4,
        "IPv4-mapped, ::ffff:0:0/96, RFC 4291",
    ),
    (v6(0, 0, 0, 0), 96, Reason::EmbeddedIpv4, "IPv4-compatible, ::/96, RFC 4291"),
    (v6(0x64, 0xff9b, 0, 0), 96, Reason::EmbeddedIpv4, "NAT64, 64:ff9b::/96, RFC 6052"),
    (v6(0x64, 0xff9b, 1, 0), 48, Reason::EmbeddedIpv4, "NAT64, 64:ff9b:1::/48, RFC 8215"),
    (v6(0x100, 0, 0, 0), 64, Reason::Reserved, "discard only, 100::/64, RFC 6666"),
    (v6(0x2001, 0, 0, 0), 32, Reason::EmbeddedIpv4, "Teredo, 2001::/32, RFC 4380"),
    (v6(0x2001, 0, 0, 0), 23, Reason::Reserved, "protocols, 2001::/23, RFC 2928"),
    (v6(0x2001, 0xdb8, 0, 0), 32, Reason::Reserved, "documentation, 2001:db8::/32, RFC 3849"),
    (v6(0x2002, 0, 0, 0), 16, Reason::EmbeddedIpv4, "6to4, 2002::/16, RFC 3056"),
    (v6(0x3fff, 0, 0, 0), 20, Reason::Reserved, "documentation, 3fff::/20, RFC 9637"),
    (v6(0xfc00, 0, 0, 0), 7, Reason::Private, "unique local, fc00::/7, RFC 4193"),
    (v6(0xfe80, 0, 0, 0), 10, Reason::LinkLocal, "fe80::/10, RFC 4291"),
    (v6(0xfec0, 0, 0, 0), 10, Reason::Private, "site-local, fec0::/10, RFC 3879"),
    (v6(0xff00, 0, 0, 0), 8, Reason::Multicast, "ff00::/8, RFC 4291"),
];

/// Whether something may be sent to `address`: it is public, or in one of the ranges in `allow`.
///
/// # Errors
/// The address is neither. The error says which range it is in.
pub fn check(address: IpAddr, allow: &[IpNet]) -> Result<(), Refused> {
    // `IpNet` holds only addresses of its own family: 10.0.0.0/8 does not hold ::ffff:10.0.0.1.
    if allow.iter().any(|range| range.contains(&address)) {
        return Ok(());
    }
    match special(address) {
        Some((reason, range)) => Err(Refused { address, reason, range }),
        None => Ok(()),
    }
}

fn special(address: IpAddr) -> Option<(Reason, &'static str)> {
    match address {
        IpAddr::V4(address) => {
            let within = |network: Ipv4Addr, prefix: u32| {
                (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
            };
            let found = RANGES_4.iter().find(|(network, prefix, ..)| within(*network, *prefix));
            found.map(|(_, _, reason, range)| (*reason, *range))
        }
        IpAddr::V6(address) => {
            let within = |network: Ipv6Addr, prefix: u32| {
                (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
            };
            let found = RANGES_6.iter().find(|(network, prefix, ..)| within(*network, *prefix));
            let found = found.map(|(_, _, reason, range)| (*reason, *range));
            let outside = (Reason::Reserved, "outside of 2000::/3, RFC 4291");
            found.or_else(|| (!within(v6(0x2000, 0, 0, 0), 3)).then_some(outside))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(address: &str, allow: &[&str]) -> Option<Reason> {
        let allow: Vec<IpNet> = allow.iter().map(|range| range.parse().unwrap()).collect();
        check(address.parse().unwrap(), &allow).err().map(|refused| refused.reason)
    }

    #[test]
    fn first_and_last_address_of_each_range_and_their_neighbours() {
        use Reason as R;
        for (address, expected) in [
            ("0.0.0.0", Some(R::Unspecified)),
            ("0.0.0.1", Some(R::Reserved)),
            ("0.255.255.255", Some(R::Reserved)),
            ("1.0.0.0", None),
            ("9.255.255.255", None),
            ("10.0.0.0", Some(R::Private)),
            ("10.255.255.255", Some(R::Private)),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some(R::Private)),
            ("100.127.255.255", Some(R::Private)),
            ("100.128.0.0", None),
            ("100.100.100.200", Some(R::Metadata)),
            ("127.0.0.1", Some(R::Loopback)),
            ("127.255.255.254", Some(R::Loopback)),
            ("168.63.129.16", Some(R::Metadata)),
            ("169.253.255.255", None),
            ("169.254.0.1", Some(R::LinkLocal)),
            ("169.254.169.254", Some(R::Metadata)),
            ("172.15.255.255", None),
            ("172.16.0.0", Some(R::Private)),
            ("172.31.255.255", Some(R::Private)),
            ("172.32.0.0", None),
            ("192.0.0.8", Some(R::Reserved)),
            ("192.0.1.0", None),
            ("192.0.2.1", Some(R::Reserved)),
            ("192.88.99.1", Some(R::Reserved)),
            ("192.168.0.1", Some(R::Private)),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.18.0.0", Some(R::Reserved)),
            ("198.19.255.255", Some(R::Reserved)),
            ("198.51.100.7", Some(R::Reserved)),
            ("203.0.113.7", Some(R::Reserved)),
            ("223.255.255.255", None),
            ("224.0.0.1", Some(R::Multicast)),
            ("239.255.255.255", Some(R::Multicast)),
            ("240.0.0.1", Some(R::Reserved)),
            ("255.255.255.255", Some(R::Broadcast)),
            ("8.8.8.8", None),
        ] {
            assert_eq!(reason(address, &[]), expected, "{address}");
        }
    }

    #[test]
    fn every_ipv6_address_that_is_not_global_or_hides_an_ipv4_one() {
        use Reason as R;
        for (address, expected) in [
            ("::", Some(R::Unspecified)),
            ("::1", Some(R::Loopback)),
            ("::7f00:1", Some(R::EmbeddedIpv4)),
            ("::ffff:8.8.8.8", Some(R::EmbeddedIpv4)),
            ("::ffff:127.0.0.1", Some(R::EmbeddedIpv4)),
            ("64:ff9b::8.8.8.8", Some(R::EmbeddedIpv4)),
            ("64:ff9b:1::7f00:1", Some(R::EmbeddedIpv4)),
            ("100::1", Some(R::Reserved)),
            ("2001::1", Some(R::EmbeddedIpv4)),
            ("2001:20::1", Some(R::Reserved)),
            ("2001:db8::1", Some(R::Reserved)),
            ("2002:7f00:1::", Some(R::EmbeddedIpv4)),
            ("3fff::1", Some(R::Reserved)),
            ("4000::1", Some(R::Reserved)),
            ("5f00::1", Some(R::Reserved)),
            ("fc00::1", Some(R::Private)),
            ("fd00:ec2::254", Some(R::Metadata)),
            ("fe80::1", Some(R::LinkLocal)),
            ("fec0::1", Some(R::Private)),
            ("ff02::1", Some(R::Multicast)),
            ("2606:4700::1111", None),
            ("2a00:1450:4001::200e", None),
        ] {
            assert_eq!(reason(address, &[]), expected, "{address}");
        }
    }

    #[test]
    fn what_is_allowed_opens_its_own_family_only() {
        assert_eq!(reason("10.1.2.3", &["10.0.0.0/8"]), None);
        assert_eq!(reason("127.0.0.1", &["::/0", "127.0.0.1/32"]), None);
        assert_eq!(reason("127.0.0.2", &["127.0.0.1/32"]), Some(Reason::Loopback));
        let mapped = "::ffff:10.1.2.3";
        assert_eq!(reason(mapped, &["0.0.0.0/0"]), Some(Reason::EmbeddedIpv4));
        assert_eq!(reason(mapped, &["::ffff:10.0.0.0/104"]), None);
    }

    #[test]
    fn the_text_says_what_to_add_where() {
        let refused = check("192.168.7.9".parse().unwrap(), &[]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "192.168.7.9 is a private address (192.168.0.0/16, RFC 1918): if it is meant, an admin adds it \
             to `allow_cidrs` of the target or the allow entry, as in `allow_cidrs = [\"192.168.7.9/32\"]`"
        );
    }
}
