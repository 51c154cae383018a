//! The scripts, one operation a file.

use std::sync::LazyLock;

use kbqueue_core::store::Result;
use redis::{Cmd, FromRedisValue, ToRedisArgs};

use crate::connection::Connection;
use crate::error::failed;

/// A script, with the name under which the server keeps it.
#[derive(Debug)]
pub(crate) struct Script(LazyLock<redis::Script>, &'static str);

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(crate) static $name: Script = Script(
            LazyLock::new(|| redis::Script::new(include_str!(concat!("../scripts/", $file)))),
            include_str!(concat!("../scripts/", $file)),
        );
    };
}

script!(CLAIM, "claim.lua");
script!(COMMIT, "commit.lua");
script!(DELETE_ENDPOINT, "delete_endpoint.lua");
script!(DELIVERIES, "deliveries.lua");
script!(DOCUMENTS, "documents.lua");
script!(ENQUEUE, "enqueue.lua");
script!(FORGET, "forget.lua");
script!(LOAD, "load.lua");
script!(NOW, "now.lua");
script!(OUTBOX, "outbox.lua");
script!(OUTPUTS, "outputs.lua");
script!(PURGE, "purge.lua");
script!(REAP, "reap.lua");
script!(STATS, "stats.lua");

impl Script {
    /// Runs it on `key`, of which all other keys are made.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        connection: &Connection,
        key: &str,
        arguments: impl ToRedisArgs,
    ) -> Result<T> {
        let call = |how: &str, script: &str| {
            let mut call = Cmd::new();
            call.arg(how).arg(script).arg(1).arg(key).arg(&arguments);
            call
        };
        match connection.call(&call("EVALSHA", self.0.get_hash())).await {
            // Restarted, failed over or flushed: it is sent once more as a whole, and kept again.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                connection.call(&call("EVAL", self.1)).await
            }
            answer => answer,
        }
        .map_err(failed)
    }
}
