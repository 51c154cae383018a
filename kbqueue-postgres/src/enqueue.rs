//! Documents come in.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use kbqueue_core::error::BoxError;
use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::store::{Enqueued, Result};
use kbqueue_core::{DocumentId, NewDocument, Notice, QueueName, SealedPassword, State};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::batch::{change, int, json};
use crate::codec;
use crate::error::{failed, malformed};
use crate::session::Session;
use crate::text::{escape, hash, line};

/// Takes documents in. Answers in their order, and with what to tell subscribers after the commit.
///
/// Inserts those that come first by id and by key, then looks for what stands for the others, until each
/// has its answer. It takes more than one round only where a document that stood for another went away in
/// between, or for a batch that repeats itself in an odd way.
pub(crate) async fn enqueue(
    session: &mut Session<'_>,
    documents: &[NewDocument],
    admission: Admission,
) -> Result<Option<(Vec<Enqueued>, Vec<Notice>)>> {
    let keys: Vec<Option<Vec<u8>>> = documents
        .iter()
        .map(|document| document.dedupe_key().as_deref().map(hash))
        .collect();
    let mut answers: Vec<Option<Enqueued>> = vec![None; documents.len()];
    let mut notices = Vec::new();
    let mut limited = false;
    loop {
        let open: Vec<usize> = (0..answers.len())
            .filter(|i| answers[*i].is_none())
            .collect();
        if open.is_empty() {
            break;
        }
        let mut ids = HashSet::new();
        let mut seen = HashSet::new();
        let mut first = Vec::with_capacity(open.len());
        for index in open {
            let (document, key) = (&documents[index], keys[index].as_deref());
            let is_new = ids.insert(document.id);
            // Noted in any case: it may be that one that is found by its id does not take its key.
            if key.is_none_or(|key| seen.insert((&document.queue, key))) && is_new {
                first.push(index);
            }
        }
        let inserted = insert(session, documents, &keys, &first).await?;
        if inserted.limited && session.alone {
            return Ok(None);
        }
        limited |= inserted.limited;
        let made = inserted.made;
        for index in first {
            let document = &documents[index];
            if made.contains(&document.id.0) {
                answers[index] = Some(Enqueued {
                    id: document.id,
                    state: State::Queued,
                    created: true,
                });
                notices.push(notice(document));
            }
        }
        let open: Vec<usize> = (0..answers.len())
            .filter(|i| answers[*i].is_none())
            .collect();
        for (index, id, state) in existing(session, documents, &keys, &open).await? {
            let created = false;
            answers[index] = Some(Enqueued { id, state, created });
        }
    }
    let answers: Vec<Enqueued> = answers.into_iter().flatten().collect();
    if limited {
        admit(session, documents, &answers, admission).await?;
    }
    Ok(Some((answers, notices)))
}

/// How it is counted what a queue that takes in no more than so many has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// One after the other: nobody else counts before this transaction is over.
    Exact,
    /// Nobody waits for this transaction.
    Rough,
}

/// Checks that those of a batch that were just made may be. (Afterwards, as an insert may wait for somebody's
/// transaction, and nobody is to wait for that with it. The transaction is rolled back where they may not.)
async fn admit(
    session: &mut Session<'_>,
    documents: &[NewDocument],
    answers: &[Enqueued],
    admission: Admission,
) -> Result<()> {
    let mut made: BTreeMap<&QueueName, u64> = BTreeMap::new();
    for (document, answer) in documents.iter().zip(answers) {
        *made.entry(&document.queue).or_default() += u64::from(answer.created);
    }
    let queues: Vec<&str> = made.keys().map(|queue| queue.as_str()).collect();
    let query = session.query(|sql| match admission {
        Admission::Exact => &sql.enqueue_limits,
        Admission::Rough => &sql.enqueue_limits_roughly,
    });
    for row in &session.all(query.bind(queues)).await? {
        let name: &str = row.try_get("name").map_err(failed)?;
        let settings = codec::settings(row, name)?;
        let Some((queue, made)) = made.iter().find(|(queue, _)| queue.as_str() == name) else {
            continue;
        };
        let query = session.query(|sql| &sql.stats).bind(name).bind(session.now);
        let row = session.one(query).await?;
        let queued: i64 = row.try_get("queued").map_err(failed)?;
        let queued = u64::try_from(queued).unwrap_or(0);
        settings.admit(queue, queued.saturating_sub(*made), *made)?;
    }
    Ok(())
}

/// What an insert did.
struct Inserted {
    made: HashSet<Uuid>,
    /// Whether a queue takes in no more than so many. Then nothing was made by a statement that is a transaction
    /// of its own.
    limited: bool,
}

/// What subscribers hear of a new document; they are told no time.
fn notice(document: &NewDocument) -> Notice {
    let life = Lifecycle::new(Timestamp::UNIX_EPOCH);
    Notice::Document(change(document.id, &document.queue, &life))
}

/// Inserts the documents of these places where nothing stands in their way; answers with the ids of those
/// that were.
async fn insert(
    session: &mut Session<'_>,
    documents: &[NewDocument],
    keys: &[Option<Vec<u8>>],
    places: &[usize],
) -> Result<Inserted> {
    let given: Vec<&NewDocument> = places.iter().map(|place| &documents[*place]).collect();
    let notices: Vec<Notice> = given.iter().map(|document| notice(document)).collect();
    let texts = |of: fn(&NewDocument) -> &str| -> Vec<String> {
        given.iter().map(|d| escape(of(d)).into_owned()).collect()
    };
    let tenant = |d: &&NewDocument| d.tenant.as_deref().map(|t| escape(t).into_owned());
    // As the specification rounds it.
    let available_at = |at| Lifecycle::new(at).available_at.as_microsecond();
    let query = session
        .query(|sql| &sql.enqueue_insert)
        .bind(given.iter().map(|d| d.id.0).collect::<Vec<_>>())
        .bind(given.iter().map(|d| d.queue.as_str()).collect::<Vec<_>>())
        .bind(
            given
                .iter()
                .map(|d| line(d.tenant.as_deref()))
                .collect::<Vec<_>>(),
        )
        .bind(given.iter().map(tenant).collect::<Vec<_>>())
        .bind(given.iter().map(|d| d.priority).collect::<Vec<_>>())
        .bind(
            given
                .iter()
                .map(|d| d.available_at.map(available_at))
                .collect::<Vec<_>>(),
        )
        .bind(
            places
                .iter()
                .map(|place| keys[*place].clone())
                .collect::<Vec<_>>(),
        )
        .bind(texts(|d| &d.filename))
        .bind(texts(|d| &d.media_type))
        .bind(texts(|d| &d.blob.sha256))
        .bind(
            given
                .iter()
                .map(|d| int(d.blob.size_bytes))
                .collect::<Vec<_>>(),
        )
        .bind(
            given
                .iter()
                .map(|d| d.chunking.as_ref().map(json))
                .collect::<Vec<_>>(),
        )
        .bind(given.iter().map(|d| json(&d.metadata)).collect::<Vec<_>>())
        .bind(session.now)
        .bind(session.sender.channel())
        .bind(session.sender.message(&notices))
        .bind(session.sender.look_again())
        .bind(session.alone)
        .bind(
            given
                .iter()
                .map(|d| d.password.as_ref().map(SealedPassword::as_str))
                .collect::<Vec<_>>(),
        );
    let rows = session.all(query).await?;
    let (mut made, mut lost) = (HashSet::with_capacity(rows.len()), Vec::new());
    let mut limited = false;
    for row in &rows {
        let id: Option<Uuid> = row.try_get("id").map_err(failed)?;
        let Some(id) = id else {
            limited = true;
            continue;
        };
        if row.try_get("kept").map_err(failed)? {
            made.insert(id);
        } else {
            lost.push(id);
        }
    }
    if !lost.is_empty() {
        let query = session.query(|sql| &sql.enqueue_withdraw).bind(lost);
        session.run(query).await?;
    }
    Ok(Inserted { made, limited })
}

/// What stands for the documents of these places: place, id, state.
async fn existing(
    session: &mut Session<'_>,
    documents: &[NewDocument],
    keys: &[Option<Vec<u8>>],
    places: &[usize],
) -> Result<Vec<(usize, DocumentId, State)>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = places.iter().map(|place| documents[*place].id.0).collect();
    let queues = places.iter().map(|place| documents[*place].queue.as_str());
    let queues: Vec<&str> = queues.collect();
    let keys: Vec<_> = places.iter().map(|place| keys[*place].clone()).collect();
    let query = session
        .query(|sql| &sql.enqueue_existing)
        .bind(ids)
        .bind(queues)
        .bind(keys);
    let rows = session.all(query).await?;
    let decode = |row: &PgRow| -> std::result::Result<_, BoxError> {
        let place = usize::try_from(row.try_get::<i64, _>("place")? - 1)?;
        let id = DocumentId(row.try_get("id")?);
        Ok((places[place], id, codec::decode_state(row)?))
    };
    rows.iter()
        .map(|row| {
            decode(row).map_err(|error| malformed("a document that may stand for a new one", error))
        })
        .collect()
}
