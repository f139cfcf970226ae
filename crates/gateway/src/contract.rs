//! What the descriptor set says about every method: where it is mounted, who may call it, whose it is.
//!
//! This is the only place that reads method and field options. Everything that answers a caller
//! (gRPC, REST, the `OpenAPI` document, the pages) looks here, so an RPC that is added to `proto/`
//! is on every surface without another line. A contract that cannot be served (a method without
//! access, a template that names no field) is refused at start, before a port is bound.

use std::{collections::HashMap, sync::Arc};

use candlefish_proto::access::Role;
use http::Method as HttpMethod;
use prost_reflect::prost_types::FileDescriptorSet;
use prost_reflect::{DescriptorPool, MessageDescriptor};

mod guard;
mod keeps;
mod options;
pub(crate) mod path;
mod shape;

pub(crate) use guard::Guarded;
pub(crate) use keeps::{Ended, Keeps};
use path::{Pieces, Template, TemplateError};
pub(crate) use shape::{Creates, StreamIds};

/// Why the descriptor set cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read the descriptor set")]
    Decode(#[source] prost_reflect::DescriptorError),
    #[error("the descriptor set does not declare {0}")]
    Missing(&'static str),
    #[error("{0} has no access option")]
    NoAccess(String),
    #[error("{0} is public and streams requests, which no surface can carry")]
    ClientStream(String),
    #[error("{0} is public and belongs to no backend")]
    NoOwner(String),
    #[error("{method} has a path that cannot be routed")]
    Template {
        method: String,
        #[source]
        source: TemplateError,
    },
    #[error("{method}: {template} names {field}, which is no text field of the request")]
    PathField {
        method: String,
        template: String,
        field: String,
    },
    #[error("{method}: only body \"*\" or none is served, not {body:?}")]
    Body { method: String, body: String },
    #[error("{first} and {second} are both at {route}")]
    Twice {
        route: String,
        first: String,
        second: String,
    },
}

/// Who answers a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A service in this process.
    Gateway,
    Orchestrator,
}

impl Owner {
    fn of(package: &str) -> Option<Self> {
        match package {
            "candlefish.access.v1" | "candlefish.event.v1" => Some(Self::Gateway),
            "candlefish.deploy.v1" => Some(Self::Orchestrator),
            _ => None,
        }
    }
}

/// One public method.
#[derive(Debug)]
pub(crate) struct Method {
    /// `/candlefish.deploy.v1.DeploymentService/GetDeployment`.
    pub(crate) path: http::uri::PathAndQuery,
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) owner: Owner,
    /// The lowest role that may call it.
    pub(crate) role: Role,
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
    /// Answers with a stream.
    pub(crate) streams: bool,
    /// Fields that only a higher role may set, in the request or in messages within it.
    pub(crate) guarded: Guarded,
    pub(crate) routes: Vec<Route>,
    /// What a call makes, when it makes something.
    pub(crate) creates: Option<Creates>,
    /// How a stream is resumed.
    pub(crate) stream_ids: Option<StreamIds>,
    /// How its answers say that they change no more.
    pub(crate) keeps: Option<Keeps>,
    /// The comment in `proto/`.
    pub(crate) comment: String,
}

impl Method {
    /// Changes nothing, so it may be sent again by itself.
    pub(crate) fn is_safe(&self) -> bool {
        self.routes
            .iter()
            .all(|route| route.verb == HttpMethod::GET)
    }
}

/// One REST mapping of a method.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) verb: HttpMethod,
    pub(crate) template: Template,
    /// The request comes as a JSON body; otherwise as query parameters.
    pub(crate) body: bool,
}

/// A route that fits a path.
#[derive(Debug)]
pub(crate) struct Hit<'a> {
    pub(crate) method: &'a Arc<Method>,
    pub(crate) route: &'a Route,
    /// Fields from the path, percent-decoded.
    pub(crate) fields: Vec<(&'a str, String)>,
}

/// What the table says about a path.
#[derive(Debug)]
pub(crate) enum Lookup<'a> {
    Hit(Hit<'a>),
    /// The path exists with these methods.
    OtherMethods(Vec<HttpMethod>),
    /// The path exists with these verbs after the colon.
    OtherVerbs(Vec<String>),
    Nothing,
}

/// The table of all public methods.
#[derive(Debug)]
pub(crate) struct Contract {
    pool: DescriptorPool,
    /// By service and name, as declared.
    methods: Vec<Arc<Method>>,
    by_path: HashMap<String, Arc<Method>>,
    /// Most precise template first.
    routes: Vec<(Route, Arc<Method>)>,
}

impl Contract {
    /// Reads an encoded `FileDescriptorSet` that keeps custom options and comments.
    pub(crate) fn read(descriptors: &[u8]) -> Result<Self, Error> {
        let pool = DescriptorPool::decode(descriptors).map_err(Error::Decode)?;
        let reader = options::Reader::new(&pool)?;
        let mut methods = Vec::new();
        for service in pool.services() {
            for method in service.methods() {
                if let Some(method) = reader.method(&method)? {
                    methods.push(method);
                }
            }
        }
        shape::add(&mut methods);
        Self::assemble(pool, methods)
    }

    fn assemble(pool: DescriptorPool, methods: Vec<Method>) -> Result<Self, Error> {
        let methods: Vec<Arc<Method>> = methods.into_iter().map(Arc::new).collect();
        let by_path = methods
            .iter()
            .map(|method| (method.path.as_str().to_owned(), Arc::clone(method)))
            .collect();
        let mut routes: Vec<(Route, Arc<Method>)> = Vec::new();
        for method in &methods {
            for route in &method.routes {
                if let Some((_, other)) = routes
                    .iter()
                    .find(|(known, _)| known.verb == route.verb && known.template == route.template)
                {
                    return Err(Error::Twice {
                        route: format!("{} {}", route.verb, route.template),
                        first: other.path.to_string(),
                        second: method.path.to_string(),
                    });
                }
                routes.push((route.clone(), Arc::clone(method)));
            }
        }
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.template.precision()));
        Ok(Self {
            pool,
            methods,
            by_path,
            routes,
        })
    }

    pub(crate) const fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The files without what is on no public surface, and without comments: for reflection.
    pub(crate) fn public_descriptors(&self) -> FileDescriptorSet {
        let public = |package: &str, service: &str, method: &str| {
            self.method(&format!("/{package}.{service}/{method}"))
                .is_some()
        };
        let file = self.pool.file_descriptor_protos().map(|file| {
            let mut file = file.clone();
            file.source_code_info = None;
            let package = file.package().to_owned();
            for service in &mut file.service {
                let name = service.name().to_owned();
                service
                    .method
                    .retain(|method| public(&package, &name, method.name()));
            }
            file.service.retain(|service| !service.method.is_empty());
            file
        });
        FileDescriptorSet {
            file: file.collect(),
        }
    }

    pub(crate) fn methods(&self) -> &[Arc<Method>] {
        &self.methods
    }

    /// By gRPC path. Internal methods are not here: they are on no public surface.
    pub(crate) fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.by_path.get(path)
    }

    /// By HTTP method and path.
    pub(crate) fn lookup(&self, verb: &HttpMethod, path: &str) -> Lookup<'_> {
        let pieces = Pieces::of(path);
        let mut other_methods = Vec::new();
        for (route, method) in &self.routes {
            let Some(fields) = route.template.matches(&pieces) else {
                continue;
            };
            if route.verb == *verb {
                return Lookup::Hit(Hit {
                    method,
                    route,
                    fields,
                });
            }
            other_methods.push(route.verb.clone());
        }
        if !other_methods.is_empty() {
            return Lookup::OtherMethods(other_methods);
        }
        let other_verbs: Vec<String> = self
            .routes
            .iter()
            .filter(|(route, _)| route.template.matches_without_verb(&pieces))
            .filter_map(|(route, _)| route.template.verb().map(str::to_owned))
            .collect();
        if other_verbs.is_empty() {
            Lookup::Nothing
        } else {
            Lookup::OtherVerbs(other_verbs)
        }
    }
}

#[cfg(test)]
mod tests;
