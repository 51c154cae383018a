//! Documents come in.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use kbqueue_core::error::BoxError;
use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::store::{Enqueued, Result};
use kbqueue_core::{DocumentId, NewDocument, Notice, QueueName, State};
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
    let mut admitted = false;
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
        let Some(made) = insert(session, documents, &keys, &first, admitted).await? else {
            if admission == Admission::None {
                return Ok(None);
            }
            admit(session, documents, &keys, admission).await?;
            admitted = true;
            continue;
        };
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
    let answers = answers.into_iter().flatten().collect();
    Ok(Some((answers, notices)))
}

/// How queues that take in no more than so many are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Not at all: where there is one, the enqueue answers `None`, and nothing was inserted.
    None,
    /// Nobody else can take up the room before the transaction is over.
    Exact,
    /// Nobody waits for the transaction.
    Rough,
}

/// Checks that all documents of a batch that would be made may be.
async fn admit(
    session: &mut Session<'_>,
    documents: &[NewDocument],
    keys: &[Option<Vec<u8>>],
    admission: Admission,
) -> Result<()> {
    let queues: BTreeSet<&str> = documents.iter().map(|d| d.queue.as_str()).collect();
    let query = session.query(|sql| match admission {
        Admission::Exact => &sql.enqueue_limits,
        Admission::None | Admission::Rough => &sql.enqueue_limits_roughly,
    });
    let query = query.bind(queues.into_iter().collect::<Vec<_>>());
    let limited = session.all(query).await?;
    let places: Vec<usize> = (0..documents.len()).collect();
    let existing = existing(session, documents, keys, &places).await?;
    let existing: HashSet<usize> = existing.into_iter().map(|(place, ..)| place).collect();
    let mut ids = HashSet::new();
    let mut seen = HashSet::new();
    let mut made: HashMap<&QueueName, u64> = HashMap::new();
    for place in places.into_iter().filter(|place| !existing.contains(place)) {
        let (document, key) = (&documents[place], keys[place].as_deref());
        let key = key.map(|key| (&document.queue, key));
        // Of the same in one batch, one is made.
        if !ids.contains(&document.id) && key.is_none_or(|key| !seen.contains(&key)) {
            ids.insert(document.id);
            seen.extend(key);
            *made.entry(&document.queue).or_default() += 1;
        }
    }
    for row in &limited {
        let name: &str = row.try_get("name").map_err(failed)?;
        let settings = codec::settings(row, name)?;
        let Some((queue, new)) = made.iter().find(|(queue, _)| queue.as_str() == name) else {
            continue;
        };
        let query = session.query(|sql| &sql.stats).bind(name).bind(session.now);
        let queued: i64 = session
            .one(query)
            .await?
            .try_get("queued")
            .map_err(failed)?;
        settings.admit(queue, u64::try_from(queued).unwrap_or(0), *new)?;
    }
    Ok(())
}

/// What subscribers hear of a new document; they are told no time.
fn notice(document: &NewDocument) -> Notice {
    let life = Lifecycle::new(Timestamp::UNIX_EPOCH);
    Notice::Document(change(document.id, &document.queue, &life))
}

/// Inserts the documents of these places where nothing stands in their way; answers with the ids of those
/// that were, or `None` where they have to be admitted.
async fn insert(
    session: &mut Session<'_>,
    documents: &[NewDocument],
    keys: &[Option<Vec<u8>>],
    places: &[usize],
    admitted: bool,
) -> Result<Option<HashSet<Uuid>>> {
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
        .bind(admitted);
    let rows = session.all(query).await?;
    let (mut made, mut lost) = (HashSet::with_capacity(rows.len()), Vec::new());
    for row in &rows {
        let id: Option<Uuid> = row.try_get("id").map_err(failed)?;
        let Some(id) = id else { return Ok(None) };
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
    Ok(Some(made))
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
