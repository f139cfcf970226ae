//! Which crate may use which: the workspace's shape, as docs/STYLE.md draws it.

use crate::check::{Outcome, faultless};
use crate::workspace::{Metadata, Workspace};

/// Services meet in `proto`; they never know each other.
const SERVICE: &[&str] = &[
    "candlefish-runtime",
    "candlefish-messaging",
    "candlefish-blobs",
    "candlefish-manifest",
    "candlefish-proto",
    "candlefish-ids",
    "candlefish-clock",
];

/// Each crate and what it may use of ours.
const ALLOWED: &[(&str, &[&str])] = &[
    ("gateway", SERVICE),
    ("deploy-orchestrator", SERVICE),
    ("edge", SERVICE),
    (
        "candlefish-cli",
        &["candlefish-manifest", "candlefish-proto", "candlefish-ids"],
    ),
    ("candlefish-manifest", &["candlefish-ids"]),
    (
        "candlefish-runtime",
        &["candlefish-proto", "candlefish-clock"],
    ),
    (
        "candlefish-messaging",
        &["candlefish-proto", "candlefish-ids", "candlefish-clock"],
    ),
    ("candlefish-blobs", &["candlefish-ids"]),
    ("candlefish-ids", &[]),
    ("candlefish-clock", &[]),
    ("candlefish-proto", &[]),
    ("candlefish-devstack", &[]),
    ("candlefish-testkit", SERVICE),
    ("xtask", &["candlefish-devstack"]),
    ("e2e", E2E),
];

/// The journeys see the platform as its users do, and judge it by its stores.
const E2E: &[&str] = &[
    "candlefish-devstack",
    "candlefish-testkit",
    "candlefish-proto",
    "candlefish-ids",
    "candlefish-manifest",
    "candlefish-clock",
];

/// What only tests may use.
const DEV_ONLY: &str = "candlefish-testkit";

pub(super) fn check(workspace: &Workspace) -> Outcome {
    faultless(faults(&workspace.metadata()?))
}

fn faults(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some((_, allowed)) = ALLOWED.iter().find(|(of, _)| *of == name) else {
            faults.push(format!(
                "{name}: a new crate; say in check/arrows.rs what it may use"
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|used| used.path.is_some())
        {
            let used = dependency.name.as_str();
            let in_tests = dependency.kind.as_deref() == Some("dev");
            let may = allowed.contains(&used) || (in_tests && used == DEV_ONLY);
            if !may {
                faults.push(format!("{name} must not use {used}"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Package};

    fn uses(name: &str, used: &str, kind: Option<&str>) -> Vec<String> {
        let dependency = Dependency {
            name: used.to_owned(),
            kind: kind.map(str::to_owned),
            path: Some("crates/x".into()),
        };
        let package = Package {
            name: name.to_owned(),
            manifest_path: "crates/y/Cargo.toml".into(),
            dependencies: vec![dependency],
            targets: Vec::new(),
        };
        faults(&Metadata {
            packages: vec![package],
        })
    }

    #[test]
    fn a_service_that_uses_a_service_is_a_fault() {
        assert_eq!(uses("gateway", "edge", None), ["gateway must not use edge"]);
        assert_eq!(uses("gateway", "edge", Some("dev")).len(), 1);
        assert!(uses("gateway", "candlefish-proto", None).is_empty());
    }

    #[test]
    fn the_testkit_is_for_tests_only() {
        assert!(uses("edge", "candlefish-testkit", Some("dev")).is_empty());
        assert_eq!(uses("edge", "candlefish-testkit", None).len(), 1);
    }

    #[test]
    fn a_crate_that_nobody_placed_is_a_fault() {
        assert_eq!(uses("common", "candlefish-ids", None).len(), 1);
    }
}
