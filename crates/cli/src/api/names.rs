//! `*.localhost` is this machine (RFC 6761). glibc's resolver does not know it, so we do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tonic::transport::Uri;

/// Names below `localhost`; `localhost` itself is in every hosts file.
fn is_below_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host.ends_with(".localhost")
}

/// Whether an address is this machine's own: no proxy leads there.
pub(crate) fn is_loopback(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || is_below_localhost(host)
        || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Where to connect instead of the address itself, when its name is one below `localhost`.
pub(super) fn dialled(uri: &Uri) -> Option<Uri> {
    if !is_below_localhost(uri.host()?) {
        return None;
    }
    let usual = match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let port = uri.port_u16().unwrap_or(usual);
    Uri::builder()
        .scheme(uri.scheme()?.clone())
        .authority(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string())
        .path_and_query("/")
        .build()
        .ok()
}

/// The resolver of uploads.
#[derive(Debug)]
pub(crate) struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str();
            if is_below_localhost(host) {
                let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let addresses: Addrs = Box::new(std::iter::once(own));
                return Ok(addresses);
            }
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_localhost_are_dialled_at_loopback() {
        for (uri, expected) in [
            ("http://api.localhost:8090", Some("http://127.0.0.1:8090/")),
            ("http://api.localhost", Some("http://127.0.0.1:80/")),
            ("https://a.b.LOCALHOST", Some("https://127.0.0.1:443/")),
            ("http://localhost:8090", None),
            ("http://notlocalhost:8090", None),
            ("http://localhost.example.org", None),
        ] {
            let dialled = dialled(&uri.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(dialled.as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn no_proxy_leads_to_this_machine() {
        for host in ["localhost", "127.0.0.1", "[::1]", "docs.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        assert!(!is_loopback("example.org"));
    }
}
