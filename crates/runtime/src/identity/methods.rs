//! Which methods an issuer may call, by what `proto/` says of each method.

use std::{collections::HashSet, sync::Arc};

use candlefish_proto::{DESCRIPTORS, access};
use prost::Message;

/// The methods that an issuer may call; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Allow {
    methods: Arc<HashSet<String>>,
    services: Arc<HashSet<String>>,
}

impl Allow {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Every method that has a role: the whole public API.
    #[must_use]
    pub fn public(mut self) -> Self {
        Arc::make_mut(&mut self.methods).extend(methods_with_a_role());
        self
    }

    /// Every method of a service, such as `candlefish.event.v1.FeedService`.
    #[must_use]
    pub fn service(mut self, name: &str) -> Self {
        Arc::make_mut(&mut self.services).insert(name.to_owned());
        self
    }

    /// One method, such as `/candlefish.deploy.v1.EdgeService/WatchRoutes`.
    #[must_use]
    pub fn method(mut self, path: &str) -> Self {
        Arc::make_mut(&mut self.methods).insert(path.to_owned());
        self
    }

    pub(super) fn permits(&self, path: &str) -> bool {
        let service = path
            .strip_prefix('/')
            .and_then(|rest| rest.split('/').next());
        self.methods.contains(path) || service.is_some_and(|name| self.services.contains(name))
    }
}

// `prost-types` drops options it does not know, so the descriptors are read by messages that know
// ours and nothing else.
#[derive(Message)]
struct Set {
    #[prost(message, repeated, tag = "1")]
    file: Vec<File>,
}

#[derive(Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    service: Vec<Service>,
}

#[derive(Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<Method>,
}

#[derive(Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    options: Option<Options>,
}

#[derive(Message)]
struct Options {
    #[prost(message, optional, tag = "51001")]
    access: Option<access::Access>,
}

fn methods_with_a_role() -> Vec<String> {
    let set = Set::decode(DESCRIPTORS).expect("the descriptors were encoded by our own build");
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let access = method
                    .options
                    .as_ref()
                    .and_then(|options| options.access.as_ref());
                if access.is_some_and(|a| a.role() != access::Role::Unspecified) {
                    paths.push(format!(
                        "/{}.{}/{}",
                        file.package, service.name, method.name
                    ));
                }
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_api_leaves_out_what_only_our_processes_call() {
        let public = Allow::none().public();
        assert!(public.permits("/candlefish.event.v1.EventService/WatchEvents"));
        assert!(!public.permits("/candlefish.event.v1.FeedService/Head"));
        assert!(!public.permits("/candlefish.deploy.v1.EdgeService/WatchRoutes"));
        assert!(!public.permits("/candlefish.event.v1.EventService/NoSuchMethod"));
        assert!(
            public
                .service("candlefish.event.v1.FeedService")
                .permits("/candlefish.event.v1.FeedService/Head")
        );
    }
}
