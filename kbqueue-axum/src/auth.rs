//! Bearer tokens and what their holders may do.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use crate::problem::Problem;
use crate::state::ApiState;

/// One bearer token for each role. With none set, everybody may do everything except for web pages of
/// other sites, which may not change anything, and a token that is sent is ignored. An empty token is as
/// good as none.
#[derive(Clone, Default)]
pub struct Tokens {
    /// Everything.
    pub admin: Option<String>,
    /// What a reader may, and to upload and start batches.
    pub uploader: Option<String>,
    /// To look.
    pub reader: Option<String>,
}

/// What somebody may do; each role includes those before it.
///
/// With [`ApiOptions::roles_from_host`](crate::ApiOptions::roles_from_host), a layer of the host's puts
/// one into the extensions of each request that it lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To look.
    Reader,
    /// What a reader may, and to upload and start batches.
    Uploader,
    /// Everything.
    Admin,
}

impl fmt::Debug for Tokens {
    /// Says which are set, and never what they are: options end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<Role> = self.all().map(|(role, _)| role).collect();
        write!(f, "Tokens({roles:?})")
    }
}

impl Tokens {
    /// Whether any token is set.
    #[must_use]
    pub fn any(&self) -> bool {
        self.all().next().is_some()
    }

    fn all(&self) -> impl Iterator<Item = (Role, &str)> {
        let tokens = [
            (Role::Admin, &self.admin),
            (Role::Uploader, &self.uploader),
            (Role::Reader, &self.reader),
        ];
        tokens
            .into_iter()
            .filter_map(|(role, token)| Some((role, token.as_deref()?)))
            .filter(|(_, token)| !token.is_empty())
    }

    /// The token that opens `role`, where one is set.
    pub(crate) fn of(&self, role: Role) -> Option<&str> {
        self.all()
            .find(|(one, _)| *one == role)
            .map(|(_, token)| token)
    }

    /// The highest role that `token` opens.
    pub(crate) fn role_of(&self, token: &str) -> Option<Role> {
        // Every token is compared, whichever matched, and each in constant time: how long it takes
        // says nothing about how much of a guess was right.
        self.all()
            .filter(|(_, known)| known.as_bytes().ct_eq(token.as_bytes()).into())
            .map(|(role, _)| role)
            .max()
    }
}

/// What [`require`] needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) state: ApiState,
    pub(crate) role: Role,
}

/// Lets those through who hold the guard's role, and not more often than they may.
pub(crate) async fn require(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let options = &guard.state.options;
    let role = if options.roles_from_host {
        let given = request.extensions().get::<Role>().copied();
        given.ok_or_else(|| Problem::unauthorized("who called is not known"))?
    } else if options.tokens.any() {
        let token = bearer(request.headers())
            .ok_or_else(|| Problem::unauthorized("send a token as: Authorization: Bearer TOKEN"))?;
        let role = options.tokens.role_of(token);
        role.ok_or_else(|| Problem::unauthorized("this token is not known here"))?
    } else {
        // A page of any site can send requests from a browser on this machine.
        if guard.role > Role::Reader && is_foreign(request.headers()) {
            return Err(Problem::foreign_origin());
        }
        Role::Admin
    };
    if role < guard.role {
        return Err(Problem::forbidden(role, guard.role));
    }
    // Each role has one token. A host that knows more of its callers limits them itself.
    if !options.roles_from_host {
        guard.state.limiter.take(role)?;
    }
    Ok(next.run(request).await)
}

/// Whether a browser says that a page of another site sends this. What is not from a browser says nothing.
fn is_foreign(headers: &HeaderMap) -> bool {
    if headers.contains_key("sec-fetch-site") {
        return !same_origin(headers);
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (headers.get(ORIGIN), text(HOST)) {
        (None, _) => false,
        (Some(origin), Some(host)) => {
            let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
            origin.is_none_or(|(_, site)| !site.eq_ignore_ascii_case(host))
        }
        (Some(_), None) => true,
    }
}

/// Whether a browser says that a request comes from this very site, or from nobody's page. Those that say
/// nothing are old, or no browsers.
pub(crate) fn same_origin(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_none_or(|site| site == "same-origin" || site == "none")
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_open_their_own_role_and_stay_out_of_logs() {
        let tokens = Tokens {
            admin: Some("secret-a".into()),
            uploader: None,
            reader: Some("secret-r".into()),
        };
        assert_eq!(tokens.role_of("secret-a"), Some(Role::Admin));
        assert_eq!(tokens.role_of("secret-r"), Some(Role::Reader));
        assert_eq!(tokens.role_of("secret"), None);
        assert_eq!(tokens.role_of(""), None);
        assert_eq!(format!("{tokens:?}"), "Tokens([Admin, Reader])");
    }

    #[test]
    fn the_same_token_for_two_roles_opens_the_higher_one() {
        let tokens = Tokens {
            admin: None,
            uploader: Some("t".into()),
            reader: Some("t".into()),
        };
        assert_eq!(tokens.role_of("t"), Some(Role::Uploader));
    }

    #[test]
    fn an_empty_token_opens_nothing() {
        let tokens = Tokens {
            admin: Some(String::new()),
            ..Tokens::default()
        };
        assert!(!tokens.any());
        assert_eq!(tokens.role_of(""), None);
    }
}
