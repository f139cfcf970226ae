//! The host that a request names.

use std::borrow::Cow;

use http::{header, request::Parts};

/// The host asked for, in lower case, without port. Two `host` headers are none.
pub(super) fn host(request: &Parts) -> Option<Cow<'_, str>> {
    let name = if let Some(authority) = request.uri.authority() {
        authority.host()
    } else {
        let mut values = request.headers.get_all(header::HOST).iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        without_port(value)
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 {
        return None;
    }
    Some(if name.bytes().any(|b| b.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // `[::1]:8080` and `[::1]` keep their colons.
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn host_of(uri: &str, hosts: &[&str]) -> Option<String> {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        host(&request.body(()).unwrap().into_parts().0).map(Cow::into_owned)
    }

    #[test]
    fn hosts_are_read_without_case_port_and_dot() {
        let docs = Some("docs.localhost".to_owned());
        assert_eq!(host_of("/", &["docs.localhost"]), docs);
        assert_eq!(host_of("/", &["Docs.LOCALHOST:8080"]), docs);
        assert_eq!(host_of("/", &["docs.localhost.:80"]), docs);
        assert_eq!(host_of("http://docs.localhost:8080/x", &["other"]), docs);
        assert_eq!(host_of("/", &["[::1]:8080"]), Some("[::1]".to_owned()));
        assert_eq!(host_of("/", &["[::1]"]), Some("[::1]".to_owned()));
        assert_eq!(host_of("/", &[]), None);
        assert_eq!(host_of("/", &["a", "b"]), None);
        assert_eq!(host_of("/", &[""]), None);
        assert_eq!(host_of("/", &[&"a".repeat(254)]), None);
    }
}
