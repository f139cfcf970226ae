//! Host names: the platform's for each environment and release, and an environment's own. Pure.
//!
//! Two hyphens part the names within a label, which no slug has, so no two things share a host:
//!
//! | host | serves |
//! |---|---|
//! | `docs.<domain>` | production of docs |
//! | `staging--docs.<domain>` | another environment of docs |
//! | `<26 characters>--docs.<domain>` | a preview until it is closed, or a deployment's release until a week after its end |

use candlefish_ids::DeploymentId;

/// The environment whose host is the site's name alone.
pub(crate) const PRODUCTION: &str = "production";
/// Of all labels and dots, as DNS limits it.
const HOST_MAX: usize = 253;
const LABEL_MAX: usize = 63;
/// A label and more are put before it.
const DOMAIN_MAX: usize = 150;

/// The platform's host for an environment.
pub(crate) fn of_environment(site: &str, environment: &str, domain: &str) -> String {
    if environment == PRODUCTION {
        format!("{site}.{domain}")
    } else {
        format!("{environment}--{site}.{domain}")
    }
}

/// All hosts of an environment: the platform's first, then these of its own. One of its own may be the
/// platform's too, since the domain became another.
pub(crate) fn all_of_environment(
    site: &str,
    environment: &str,
    domain: &str,
    own: impl IntoIterator<Item = String>,
) -> Vec<String> {
    let mut hosts = vec![of_environment(site, environment, domain)];
    for host in own {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// The address of what a deployment staged: of that alone, as long as it is served.
pub(crate) fn of_deployment(site: &str, deployment: DeploymentId, domain: &str) -> String {
    format!("{}--{site}.{domain}", deployment.suffix())
}

/// The deployment whose own address a host is.
pub(crate) fn deployment(host: &str) -> Option<DeploymentId> {
    let (suffix, _) = host.split_once("--")?;
    DeploymentId::from_suffix(suffix).ok()
}

/// Where people see a host; `port` is where they reach the edges. By 443 that is through TLS, which ends
/// before them.
pub(crate) fn url(host: &str, port: u16) -> String {
    match port {
        80 => format!("http://{host}"),
        443 => format!("https://{host}"),
        port => format!("http://{host}:{port}"),
    }
}

/// What a text lacks to be a host name of an environment's own.
pub(super) fn check(host: &str, domain: &str) -> Result<(), &'static str> {
    if host.is_empty() || host.len() > HOST_MAX {
        return Err("must have 1 to 253 characters");
    }
    let labels: Vec<&str> = host.split('.').collect();
    if !labels.iter().all(|label| is_label(label)) {
        return Err(
            "must be labels of a-z, 0-9 and -, 1 to 63 characters each, with dots between, in lower case",
        );
    }
    if labels.len() < 2 {
        return Err("must have a dot: a name alone reaches no edge");
    }
    if labels
        .last()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err("must be a name, not an address");
    }
    let below = host
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if below {
        return Err("is below the platform's own domain, which names its hosts itself");
    }
    Ok(())
}

/// What a text lacks to be the platform's own domain: names of sites are put before it.
pub(crate) fn check_domain(domain: &str) -> Result<(), &'static str> {
    if domain.len() > DOMAIN_MAX {
        return Err("must have at most 150 characters: host names are put before it");
    }
    if !domain.split('.').all(is_label) {
        return Err(
            "must be labels of a-z, 0-9 and -, 1 to 63 characters each, with dots between, in lower \
             case, without a port",
        );
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_MAX).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_environment_has_its_host() {
        assert_eq!(
            of_environment("docs", "production", "localhost"),
            "docs.localhost"
        );
        assert_eq!(
            of_environment("docs", "staging", "localhost"),
            "staging--docs.localhost"
        );
        let deployment = "dep_01h455vb4pex5vsknk084sn02q".parse().unwrap();
        assert_eq!(
            of_deployment("docs", deployment, "localhost"),
            "01h455vb4pex5vsknk084sn02q--docs.localhost"
        );
    }

    #[test]
    fn an_environment_has_the_platforms_host_first_and_none_twice() {
        let own = ["docs.example.org", "docs.localhost", "old.example.org"];
        let hosts = |own: &[&str]| {
            let own = own.iter().map(ToString::to_string);
            all_of_environment("docs", "production", "localhost", own)
        };
        let all = ["docs.localhost", "docs.example.org", "old.example.org"];
        assert_eq!(hosts(&own), all);
        assert_eq!(hosts(&[]), ["docs.localhost"]);
    }

    #[test]
    fn the_own_address_of_a_deployment_names_it() {
        let id = "dep_01h455vb4pex5vsknk084sn02q".parse().unwrap();
        let own = of_deployment("docs", id, "localhost");
        assert_eq!(deployment(&own), Some(id));
        for other in [
            "docs.localhost",
            "staging--docs.localhost",
            "docs.example.com",
        ] {
            assert_eq!(deployment(other), None, "{other}");
        }
    }

    #[test]
    fn a_url_says_its_port_unless_it_is_the_usual_one() {
        assert_eq!(url("docs.localhost", 8080), "http://docs.localhost:8080");
        assert_eq!(url("docs.example.com", 80), "http://docs.example.com");
        assert_eq!(url("docs.example.com", 443), "https://docs.example.com");
    }

    #[test]
    fn a_host_of_ones_own_is_a_name_outside_the_platforms_domain() {
        for good in [
            "docs.example.com",
            "xn--bcher-kva.example",
            "a.b",
            "notlocalhost.com",
        ] {
            assert_eq!(check(good, "localhost"), Ok(()), "{good}");
        }
        assert_eq!(check("mydocs.pages.example", "docs.pages.example"), Ok(()));
        for (bad, why) in [
            ("", "1 to 253"),
            (&format!("{}.com", "a.".repeat(130)), "1 to 253"),
            ("docs", "a dot"),
            ("Docs.example.com", "lower case"),
            ("docs..example.com", "labels"),
            ("docs.example.com.", "labels"),
            ("-docs.example.com", "labels"),
            ("docs.example.com:8080", "labels"),
            (&format!("{}.com", "a".repeat(64)), "labels"),
            ("127.0.0.1", "not an address"),
            ("docs.localhost", "below the platform"),
            ("a.b.localhost", "below the platform"),
        ] {
            let message = check(bad, "localhost").unwrap_err();
            assert!(message.contains(why), "{bad:?}: {message}");
        }
        assert!(check("pages.example", "pages.example").is_err());
    }
}
