//! Method and field options: the REST mapping, the role, the guarded fields.

use candlefish_proto::access::Role;
use http::Method as HttpMethod;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, Kind, MethodDescriptor, Value,
};

use super::{Error, Guarded, Method, Owner, Route, Template};
use crate::comments;

const HTTP: &str = "google.api.http";
const ACCESS: &str = "candlefish.access.v1.access";
const ROLE_TO_SET: &str = "candlefish.access.v1.role_to_set";

/// Knows the extensions of one pool.
pub(super) struct Reader {
    http: ExtensionDescriptor,
    access: ExtensionDescriptor,
    role_to_set: ExtensionDescriptor,
}

/// What the access option says.
enum Access {
    Internal,
    From(Role),
}

impl Reader {
    pub(super) fn new(pool: &DescriptorPool) -> Result<Self, Error> {
        let extension = |name| pool.get_extension_by_name(name).ok_or(Error::Missing(name));
        Ok(Self {
            http: extension(HTTP)?,
            access: extension(ACCESS)?,
            role_to_set: extension(ROLE_TO_SET)?,
        })
    }

    /// The method as the table holds it; nothing for an internal one.
    pub(super) fn method(&self, method: &MethodDescriptor) -> Result<Option<Method>, Error> {
        let full = method.full_name().to_owned();
        let options = method.options();
        let role = match self.access(&options) {
            Some(Access::Internal) => return Ok(None),
            Some(Access::From(role)) => role,
            None => return Err(Error::NoAccess(full)),
        };
        if method.is_client_streaming() {
            return Err(Error::ClientStream(full));
        }
        let service = method.parent_service();
        let owner =
            Owner::of(service.package_name()).ok_or_else(|| Error::NoOwner(full.clone()))?;
        let path = format!("/{}/{}", service.full_name(), method.name());
        Ok(Some(Method {
            path: path
                .parse()
                .map_err(|_error| Error::NoOwner(full.clone()))?,
            name: method.name().to_owned(),
            service: service.full_name().to_owned(),
            owner,
            role,
            input: method.input(),
            output: method.output(),
            streams: method.is_server_streaming(),
            guarded: Guarded::read(&method.input(), &self.role_to_set),
            routes: self.routes(&options, method, &full)?,
            creates: None,
            stream_ids: None,
            keeps: None,
            comment: comments::of(method.parent_file().file_descriptor_proto(), method.path()),
        }))
    }

    fn access(&self, options: &DynamicMessage) -> Option<Access> {
        if !options.has_extension(&self.access) {
            return None;
        }
        let access = options.get_extension(&self.access);
        let access = access.as_message()?;
        if access.get_field_by_name("internal")?.as_bool()? {
            return Some(Access::Internal);
        }
        let role = access.get_field_by_name("role")?.as_enum_number()?;
        match Role::try_from(role) {
            Ok(Role::Unspecified) | Err(_) => None,
            Ok(role) => Some(Access::From(role)),
        }
    }

    fn routes(
        &self,
        options: &DynamicMessage,
        method: &MethodDescriptor,
        full: &str,
    ) -> Result<Vec<Route>, Error> {
        if !options.has_extension(&self.http) {
            return Ok(Vec::new());
        }
        let http = options.get_extension(&self.http);
        let Some(rule) = http.as_message() else {
            return Ok(Vec::new());
        };
        let mut routes = Vec::new();
        routes.extend(route(rule, method, full)?);
        if let Some(more) = rule.get_field_by_name("additional_bindings") {
            for rule in more
                .as_list()
                .unwrap_or_default()
                .iter()
                .filter_map(Value::as_message)
            {
                routes.extend(route(rule, method, full)?);
            }
        }
        Ok(routes)
    }
}

fn route(
    rule: &DynamicMessage,
    method: &MethodDescriptor,
    full: &str,
) -> Result<Option<Route>, Error> {
    let text = |name: &str| {
        rule.get_field_by_name(name)
            .and_then(|value| value.as_str().map(str::to_owned))
            .filter(|text| !text.is_empty())
    };
    let verbs = [
        ("get", HttpMethod::GET),
        ("put", HttpMethod::PUT),
        ("post", HttpMethod::POST),
        ("delete", HttpMethod::DELETE),
        ("patch", HttpMethod::PATCH),
    ];
    let Some((verb, path)) = verbs
        .into_iter()
        .find_map(|(name, verb)| text(name).map(|path| (verb, path)))
    else {
        return Ok(None);
    };
    let template = Template::parse(&path).map_err(|source| Error::Template {
        method: full.to_owned(),
        source,
    })?;
    for name in template.fields() {
        let known = method.input().get_field_by_name(name);
        if !known.is_some_and(|field| field.kind() == Kind::String && !field.is_list()) {
            return Err(Error::PathField {
                method: full.to_owned(),
                template: path,
                field: name.to_owned(),
            });
        }
    }
    let body = match text("body").as_deref() {
        None => false,
        Some("*") => true,
        Some(body) => {
            return Err(Error::Body {
                method: full.to_owned(),
                body: body.to_owned(),
            });
        }
    };
    Ok(Some(Route {
        verb,
        template,
        body,
    }))
}
