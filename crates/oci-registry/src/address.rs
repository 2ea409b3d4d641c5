//! Which addresses requests may go to, and a resolver that yields no others.
//!
//! A user names registries, and registries name further hosts: without this, both could make the gateway ask services
//! inside the site (server-side request forgery). The addresses that were checked are the ones connected to.

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Resolves names to public addresses only.
#[derive(Debug)]
pub(crate) struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (public, refused): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| is_public(address.ip()));
            match refused.first() {
                Some(address) if public.is_empty() => {
                    Err(RefusedAddress { host: name.as_str().to_owned(), address: address.ip() }
                        .into())
                }
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// Makes sure that a URL with an address in place of a name goes to a public one; names are the resolver's business.
pub(crate) fn check_literal(url: &Url) -> Result<(), RefusedAddress> {
    // Url has already read `127.1` and `0x7f000001` as what they are.
    let literal = url.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']'));
    match literal.and_then(|host| host.parse::<IpAddr>().ok()) {
        Some(address) if !is_public(address) => {
            Err(RefusedAddress { host: address.to_string(), address })
        }
        _ => Ok(()),
    }
}

/// A host has no public address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedAddress {
    host: String,
    address: IpAddr,
}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "host {} has the address {}, which is not public, and the site does not list this registry as internal",
            self.host, self.address
        )
    }
}

impl std::error::Error for RefusedAddress {}

/// Tells whether an address is one of the public internet (IANA special-purpose address registries).
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || (a == 100 && b & 0xc0 == 64) // shared by a provider's customers, RFC 6598
        || (a == 192 && b == 0 && c == 0) // protocol assignments, RFC 6890
        || (a == 192 && b == 88 && c == 99) // 6to4 relays, RFC 7526
        || (a == 198 && b & 0xfe == 18) // benchmarks, RFC 2544
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // NAT64, RFC 6052: the last four bytes are an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments with Teredo and ORCHID, documentation, 6to4 with an IPv4 address inside, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] => false,
        [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast; this leaves out loopback, mapped IPv4, unique local, link-local and multicast addresses.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_pass() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.254",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00::1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn addresses_in_urls_are_seen_in_every_spelling() {
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "https://[::1]:5000/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fe80::1]/",
            "https://①②⑦.0.0.1/",
        ] {
            assert!(check_literal(&text.parse().unwrap()).is_err(), "{text}");
        }
        for text in ["https://1.1.1.1/", "https://localhost/", "https://[2606:4700::1111]/"] {
            assert!(check_literal(&text.parse().unwrap()).is_ok(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused() {
        let error = PublicResolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(error.downcast_ref::<RefusedAddress>().is_some(), "{error}");
    }
}
