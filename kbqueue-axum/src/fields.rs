//! The form fields before an upload's files, which say how these are to be treated.

use axum::extract::multipart::Field;
use jiff::Timestamp;
use kbqueue_core::Password;
use serde_json::Value;

use crate::problem::Problem;

/// The longest form field, in bytes.
const MAX_FIELD_BYTES: usize = 64 * 1024;
const MAX_TENANT_BYTES: usize = 255;

/// How the files of one upload are to be treated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) tenant: Option<String>,
    pub(crate) priority: i16,
    pub(crate) metadata: Value,
    pub(crate) available_at: Option<Timestamp>,
    pub(crate) password: Option<Password>,
}

impl Settings {
    /// Takes one field in. A name that is not known is refused: a misspelt one would go unnoticed.
    /// `has_key`: whether passwords can be sealed here.
    pub(crate) async fn take(&mut self, field: Field<'_>, has_key: bool) -> Result<(), Problem> {
        let name = field.name().unwrap_or_default().to_owned();
        let invalid = |why: &dyn std::fmt::Display| Problem::invalid(format!("{name}: {why}"));
        match name.as_str() {
            "tenant" => {
                let tenant = text(field).await?;
                if tenant.is_empty()
                    || tenant.len() > MAX_TENANT_BYTES
                    || tenant.chars().any(char::is_control)
                {
                    return Err(invalid(
                        &"takes 1 to 255 bytes of text without control characters",
                    ));
                }
                self.tenant = Some(tenant);
            }
            "priority" => {
                self.priority = text(field)
                    .await?
                    .parse()
                    .map_err(|_| invalid(&"takes a whole number from -32768 to 32767"))?;
            }
            "metadata" => {
                self.metadata =
                    serde_json::from_str(&text(field).await?).map_err(|error| invalid(&error))?;
            }
            "available_at" => {
                let time = text(field).await?.parse();
                self.available_at =
                    Some(time.map_err(|_| invalid(&"takes a time such as 2026-01-31T12:00:00Z"))?);
            }
            "password" => {
                let password = text(field).await?;
                // A form that has the field sends it empty where nobody filled it in.
                if password.is_empty() {
                    return Ok(());
                }
                if !has_key {
                    return Err(invalid(
                        &"this server has no secret key to seal it with: set KBQUEUE_SECRET_KEY for it and \
                          its workers, or upload the file without its encryption",
                    ));
                }
                self.password = Some(Password::new(password).map_err(|error| invalid(&error))?);
            }
            _ => {
                return Err(Problem::invalid(format!(
                    "there is no field {name:?}; files go into parts named files"
                )));
            }
        }
        Ok(())
    }
}

async fn text(mut field: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(more) = field.chunk().await? {
        bytes.extend_from_slice(&more);
        if bytes.len() > MAX_FIELD_BYTES {
            return Err(Problem::too_large(
                "a form field is larger than 64 KiB; files go into parts named files",
            ));
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::invalid("a form field is not UTF-8"))
}
