//! Who looks at the dashboard: browsers paste a token once, and get a signed cookie for it.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::auth::{Role, Tokens, bearer};
use crate::text::hex;

/// How long a browser stays signed in, in seconds.
const LIFETIME_S: i64 = 7 * 24 * 3600;
const COOKIE_NAME: &str = "kbqueue_session";
const THEME_COOKIE: &str = "kbqueue_theme";

/// Somebody who may be shown pages.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) role: Role,
    /// Whether there is a session to end.
    pub(crate) signed_in: bool,
    /// What only this browser knows: forms prove with it that they come from here.
    secret: String,
}

impl Visitor {
    /// The visitor that a request's cookie or bearer token stands for. `None` where a token has to be
    /// pasted first.
    pub(crate) fn of(tokens: &Tokens, headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let given = cookie(headers, COOKIE_NAME);
        if let Some(role) = bearer(headers).and_then(|token| tokens.role_of(token)) {
            return Some(Self::with(role, false, nonce()));
        }
        let session = given?;
        let role = verified_role(tokens, session, now)?;
        Some(Self::with(role, true, session.to_owned()))
    }

    /// Somebody whose role does not depend on a token, and the cookie that remembers their forms' secret
    /// where this browser has none yet.
    pub(crate) fn known(role: Role, headers: &HeaderMap) -> (Self, Option<String>) {
        if let Some(secret) = cookie(headers, COOKIE_NAME).filter(|value| is_nonce(value)) {
            return (Self::with(role, false, secret.to_owned()), None);
        }
        let secret = nonce();
        let set = set_cookie(&secret, LIFETIME_S, headers);
        (Self::with(role, false, secret), Some(set))
    }

    fn with(role: Role, signed_in: bool, secret: String) -> Self {
        Self {
            role,
            signed_in,
            secret,
        }
    }

    /// What each form of this visitor carries, so that no other site can send one in their name.
    pub(crate) fn form_token(&self) -> String {
        sign(&self.secret, "kbqueue dashboard form")
    }

    pub(crate) fn owns_form_token(&self, token: &str) -> bool {
        self.form_token().as_bytes().ct_eq(token.as_bytes()).into()
    }
}

/// The cookie of a new session, for who knows one of the tokens.
pub(crate) fn sign_in(
    tokens: &Tokens,
    token: &str,
    headers: &HeaderMap,
    now: Timestamp,
) -> Option<String> {
    let role = tokens.role_of(token)?;
    let claims = format!(
        "{}.{}.{}",
        name(role),
        now.as_second() + LIFETIME_S,
        nonce()
    );
    let session = format!("{claims}.{}", session_mac(token, &claims));
    Some(set_cookie(&session, LIFETIME_S, headers))
}

/// The cookie that ends a session.
pub(crate) fn sign_out(headers: &HeaderMap) -> String {
    set_cookie("", 0, headers)
}

/// The theme that this browser chose, if any.
pub(crate) fn theme(headers: &HeaderMap) -> Option<&'static str> {
    match cookie(headers, THEME_COOKIE)? {
        "dark" => Some("dark"),
        "light" => Some("light"),
        _ => None,
    }
}

fn verified_role(tokens: &Tokens, session: &str, now: Timestamp) -> Option<Role> {
    let (claims, mac) = session.rsplit_once('.')?;
    let mut parts = claims.split('.');
    let role = [Role::Reader, Role::Uploader, Role::Admin]
        .into_iter()
        .find(|role| Some(name(*role)) == parts.clone().next())?;
    let expires: i64 = parts.nth(1)?.parse().ok()?;
    // Signed with the role's own token: who knows a lesser one can sign nothing higher, a token that is
    // taken back ends its sessions, and a restart ends none.
    let expected = session_mac(tokens.of(role)?, claims);
    let genuine = bool::from(expected.as_bytes().ct_eq(mac.as_bytes()));
    (genuine && expires > now.as_second()).then_some(role)
}

fn session_mac(token: &str, claims: &str) -> String {
    let key = sign(token, "kbqueue dashboard session");
    sign(&key, claims)
}

/// HMAC-SHA-256 in hexadecimal digits.
fn sign(key: &str, text: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length will do");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn set_cookie(value: &str, max_age_s: i64, headers: &HeaderMap) -> String {
    // Behind a proxy that speaks TLS the cookie stays on TLS; a plain connection could not return it.
    let tls = headers
        .get("x-forwarded-proto")
        .is_some_and(|proto| proto == "https");
    let secure = if tls { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}")
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn nonce() -> String {
    Uuid::new_v4().simple().to_string()
}

fn is_nonce(value: &str) -> bool {
    value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Reader => "reader",
        Role::Uploader => "uploader",
        Role::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn tokens(admin: &str, reader: &str) -> Tokens {
        Tokens {
            admin: Some(admin.into()),
            uploader: None,
            reader: Some(reader.into()),
        }
    }

    fn with_cookie(set_cookie: &str) -> HeaderMap {
        let pair = set_cookie.split(';').next().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(
            COOKIE,
            HeaderValue::from_str(&format!("a=b; {pair}")).unwrap(),
        );
        headers
    }

    fn role(tokens: &Tokens, cookie: &str, now: Timestamp) -> Option<Role> {
        Visitor::of(tokens, &with_cookie(cookie), now).map(|visitor| visitor.role)
    }

    #[test]
    fn a_session_lasts_as_long_as_its_own_token() {
        let now = Timestamp::UNIX_EPOCH;
        let known = tokens("a", "r");
        let plain = HeaderMap::new();
        let admin = sign_in(&known, "a", &plain, now).unwrap();
        let reader = sign_in(&known, "r", &plain, now).unwrap();
        assert!(sign_in(&known, "x", &plain, now).is_none());
        assert_eq!(role(&known, &admin, now), Some(Role::Admin));
        assert_eq!(role(&known, &reader, now), Some(Role::Reader));
        let changed = tokens("b", "r");
        assert_eq!(role(&changed, &admin, now), None);
        assert_eq!(role(&changed, &reader, now), Some(Role::Reader));
        let later = Timestamp::from_second(LIFETIME_S).unwrap();
        assert_eq!(role(&known, &admin, later), None);
    }

    #[test]
    fn a_session_cannot_be_made_into_a_higher_one() {
        let now = Timestamp::UNIX_EPOCH;
        let known = tokens("a", "r");
        let reader = sign_in(&known, "r", &HeaderMap::new(), now).unwrap();
        assert_eq!(
            role(&known, &reader.replace("=reader", "=admin"), now),
            None
        );
        let claims = format!("admin.{LIFETIME_S}.{}", nonce());
        let forged = format!("{COOKIE_NAME}={claims}.{}", session_mac("r", &claims));
        assert_eq!(role(&known, &forged, now), None);
    }

    #[test]
    fn a_form_token_is_of_one_browser() {
        let (one, _) = Visitor::known(Role::Admin, &HeaderMap::new());
        let (other, _) = Visitor::known(Role::Admin, &HeaderMap::new());
        assert!(one.owns_form_token(&one.form_token()));
        assert!(!one.owns_form_token(&other.form_token()));
        assert!(!one.owns_form_token(""));
    }
}
