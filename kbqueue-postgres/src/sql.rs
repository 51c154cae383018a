//! The statements of `queries/`, with the schema's name in them.

use std::sync::Arc;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

/// The name that stands for the schema in the files.
const PLACEHOLDER: &str = "kbqueue.";

/// A query that is being put together.
pub(crate) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Puts the schema's name, which the options have checked, into a file of SQL.
pub(crate) fn splice(sql: &str, schema: &str) -> String {
    sql.replace(PLACEHOLDER, &format!("{schema}."))
}

/// A statement for the server: without the comments, of which it would keep a thousand characters for its
/// administrators and cut the statement off, but with its name.
fn statement(name: &str, file: &str, schema: &str) -> Arc<str> {
    let lines = file
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"));
    let sql = lines.fold(format!("/* {PLACEHOLDER}{name} */"), |sql, line| {
        sql + "\n" + line
    });
    splice(&sql, schema).into()
}

macro_rules! statements {
    ($($name:ident,)*) => {
        /// Every statement by the name of its file.
        #[derive(Debug)]
        pub(crate) struct Sql {
            persistent: bool,
            $(pub(crate) $name: Arc<str>,)*
        }

        impl Sql {
            /// The statements of a checked schema. `persistent` ones are prepared once per connection.
            pub(crate) fn new(schema: &str, persistent: bool) -> Self {
                Self {
                    persistent,
                    $($name: statement(
                        stringify!($name),
                        include_str!(concat!("../queries/", stringify!($name), ".sql")),
                        schema,
                    ),)*
                }
            }
        }
    };
}

statements! {
    checkpoint_chunks,
    checkpoint_images,
    checkpoint_pages,
    checkpoint_properties,
    chunks,
    claim_candidates,
    claim_front,
    claim_going_on,
    claim_limits,
    claim_next_due,
    claim_processing,
    claim_promote,
    claim_spend,
    cluster,
    configure,
    configure_lock,
    control_details,
    control_document,
    control_priority,
    deliveries,
    deliveries_front,
    deliveries_load,
    deliveries_lock,
    deliveries_purge,
    deliveries_replay,
    deliveries_save,
    depart,
    document,
    documents,
    endpoint_delete,
    endpoint_deliveries_delete,
    endpoint_lock,
    endpoint_put,
    endpoints,
    enqueue_existing,
    enqueue_insert,
    enqueue_limits,
    enqueue_limits_roughly,
    enqueue_withdraw,
    fold,
    fold_lock,
    images,
    key_holder,
    keys_free,
    keys_take,
    load,
    pages,
    purge_arrivals,
    purge_chunks,
    purge_documents,
    purge_done,
    purge_entries,
    purge_images,
    purge_pages,
    purge_totals,
    purge_turns,
    purge_workers,
    reap,
    renew_worker,
    save,
    save_obsolete,
    schedule_delete,
    schedule_fire,
    schedule_put,
    schedules,
    schema_version,
    stats,
    tell,
}

impl Sql {
    /// A query of one of these statements.
    pub(crate) fn query<'q>(&self, statement: &Arc<str>) -> Statement<'q> {
        // Safe: all that was ever put into it is the checked name of the schema.
        sqlx::query(AssertSqlSafe(Arc::clone(statement))).persistent(self.persistent)
    }
}
