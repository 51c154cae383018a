//! What surrounds every page.

use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::request::Parts;
use kbqueue_core::{DocumentId, QueueStats};

use super::session::{self, Visitor};
use super::{Base, assets};
use crate::auth::Role;
use crate::problem::Problem;

/// The entry of the navigation that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Documents,
    Images,
    Search,
    Upload,
    None,
}

/// Whoever may see a page, and where it is: what a handler needs to make a [`Shell`].
#[derive(Debug, Clone)]
pub(crate) struct Around {
    pub(crate) base: String,
    pub(crate) visitor: Visitor,
    headers: HeaderMap,
    said: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Around {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let visitor = parts.extensions.get::<Visitor>().cloned();
        let visitor = visitor.ok_or_else(|| Problem::unauthorized("sign in with a token first"))?;
        let base = parts.extensions.get::<Base>();
        Ok(Self {
            base: base.map(|base| base.0.clone()).unwrap_or_default(),
            visitor,
            headers: parts.headers.clone(),
            said: parts.uri.query().and_then(said),
        })
    }
}

impl Around {
    /// A path of this server as an address, to be shown in a command that may be copied into a shell: so
    /// nothing is taken over that a host name cannot contain.
    pub(crate) fn url(&self, path: &str) -> String {
        let named = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let host = self.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.filter(|host| host.chars().all(named));
        let tls = self.headers.get("x-forwarded-proto");
        let scheme = if tls.is_some_and(|proto| proto == "https") {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}{path}", host.unwrap_or("127.0.0.1:8080"))
    }
}

/// What surrounds every page, for its template.
#[derive(Debug, Clone)]
pub(crate) struct Shell {
    pub(crate) base: String,
    section: Section,
    pub(crate) can_change: bool,
    pub(crate) can_upload: bool,
    pub(crate) known: bool,
    pub(crate) signed_in: bool,
    pub(crate) role: &'static str,
    pub(crate) form_token: String,
    pub(crate) theme: Option<&'static str>,
    pub(crate) version: &'static str,
    pub(crate) workers: Option<Workers>,
    /// Where the script hears of changes; nothing changes by itself on a page without.
    pub(crate) live: Option<String>,
    /// Whether a browser without JavaScript loads the page again every few seconds.
    pub(crate) refresh: bool,
    /// What the last action did.
    pub(crate) said: Option<String>,
}

/// How the workers stand, for the badge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workers {
    pub(crate) live: u64,
    pub(crate) paused: bool,
}

impl Shell {
    pub(crate) fn bare(
        base: &str,
        section: Section,
        visitor: Option<&Visitor>,
        headers: &HeaderMap,
    ) -> Self {
        let role = visitor.map(|visitor| visitor.role);
        Self {
            base: base.to_owned(),
            section,
            can_change: role >= Some(Role::Admin),
            can_upload: role >= Some(Role::Uploader),
            known: visitor.is_some(),
            signed_in: visitor.is_some_and(|visitor| visitor.signed_in),
            role: match role {
                Some(Role::Admin) => "Admin",
                Some(Role::Uploader) => "Uploader",
                Some(Role::Reader) => "Reader",
                None => "",
            },
            form_token: visitor.map(Visitor::form_token).unwrap_or_default(),
            theme: session::theme(headers),
            version: &assets::VERSION,
            workers: None,
            live: None,
            refresh: false,
            said: None,
        }
    }

    /// A page that shows how the queues stand, and keeps itself up to date.
    pub(crate) fn live(around: &Around, section: Section, stats: &QueueStats) -> Self {
        let mut shell = Self::still(around, section, stats);
        shell.live = Some(format!("{}/live", around.base));
        shell.refresh = true;
        shell
    }

    /// A live page that only changes with one document.
    pub(crate) fn of_document(around: &Around, stats: &QueueStats, id: DocumentId) -> Self {
        let mut shell = Self::live(around, Section::Documents, stats);
        shell.live = Some(format!("{}/live?document={id}", around.base));
        shell
    }

    /// A page that nothing changes by itself.
    pub(crate) fn still(around: &Around, section: Section, stats: &QueueStats) -> Self {
        let mut shell = Self::bare(
            &around.base,
            section,
            Some(&around.visitor),
            &around.headers,
        );
        shell.workers = Some(Workers {
            live: stats.live_workers,
            paused: stats.settings.paused,
        });
        shell.said.clone_from(&around.said);
        shell
    }

    /// The first page.
    pub(crate) fn home(&self) -> &str {
        if self.base.is_empty() {
            "/"
        } else {
            &self.base
        }
    }

    /// What marks the navigation's entry of this page.
    pub(crate) fn current(&self, section: &str) -> impl fmt::Display + use<> {
        let here = match self.section {
            Section::Overview => "overview",
            Section::Documents => "documents",
            Section::Images => "images",
            Section::Search => "search",
            Section::Upload => "upload",
            Section::None => "",
        };
        if here == section { "page" } else { "false" }
    }
}

/// What an action that led here did. Only these sentences can be said, whatever an address claims.
pub(crate) fn said(query: &str) -> Option<String> {
    let mut done = None;
    let mut count: u64 = 1;
    let mut left: u64 = 0;
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("done", what)) => done = Some(what),
            Some(("n", number)) => count = number.parse().ok()?,
            Some(("left", number)) => left = number.parse().ok()?,
            _ => {}
        }
    }
    let verb = match done? {
        "paused" => return Some("Paused. Nothing new is started.".to_owned()),
        "resumed" => return Some("Resumed.".to_owned()),
        "process" => return Some("Looking for work.".to_owned()),
        "limits" => return Some("Limits set.".to_owned()),
        "change" => return Some("Changed.".to_owned()),
        "rechunk" => return Some("Queued, to be cut into chunks again.".to_owned()),
        "retry" => "queued again",
        "cancel" => "cancelled",
        "delete" => "deleted",
        "upload" => "uploaded",
        _ => return None,
    };
    let plural = |n: u64| if n == 1 { "" } else { "s" };
    let mut text = format!("{count} document{} {verb}.", plural(count));
    if left > 0 {
        text += &format!(
            " {left} document{} left alone, because the state forbids it.",
            plural(left)
        );
    }
    Some(text)
}
