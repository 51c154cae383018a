//! The description of the API, from the code that answers it.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder,
};

/// What any call may answer, whatever it is about.
const COMMON: [(&str, &str); 11] = [
    ("400", "The request cannot be understood"),
    ("401", "A valid token is needed"),
    ("403", "The token does not allow this"),
    ("404", "Not found"),
    ("405", "The path has no such method"),
    ("408", "The request came too slowly"),
    ("413", "The request is too large"),
    ("422", "A value is not valid"),
    (
        "429",
        "Too many requests, or a full queue; Retry-After says when to try again",
    ),
    ("500", "Something went wrong here"),
    (
        "503",
        "The store is away; Retry-After says when to try again",
    ),
];

/// Completes what the routes say about themselves.
pub(crate) fn complete(mut api: OpenApi) -> OpenApi {
    api.info = InfoBuilder::new()
        .title("kbqueue")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Takes documents in and gives their text back in chunks. Errors are problem details (RFC 9457).",
        ))
        .build();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    api.components
        .get_or_insert_with(Components::new)
        .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    // Either: a server without tokens asks for none.
    api.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new("bearer", [""; 0]),
    ]);
    for item in api.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
        ];
        for operation in operations.into_iter().flatten() {
            add_common(operation);
        }
    }
    api
}

fn add_common(operation: &mut Operation) {
    for (status, description) in COMMON {
        let schema = Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", content)
            .build();
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert(RefOr::T(response));
    }
}
