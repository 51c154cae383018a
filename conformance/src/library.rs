//! Reading across documents.

use kbqueue_core::library::{FoundImage, Hit, ImageQuery, Library, Position, SearchQuery};
use kbqueue_core::state::Outcome;
use kbqueue_core::store::Control;
use kbqueue_core::{ChunkOptions, DocumentId, NewDocument, QueueName, State, TestClock};

use crate::support::*;

/// Everything that a query finds, read at most `limit` at once.
async fn images(store: &dyn Library, mut query: ImageQuery, limit: u32) -> Vec<FoundImage> {
    query.limit = limit;
    let mut found = Vec::new();
    loop {
        let listing = store.all_images(query.clone()).await;
        let listing = listing.expect("images are listed");
        assert!(listing.items.len() <= limit as usize, "no more than asked");
        found.extend(listing.items);
        query.after = listing.next;
        if query.after.is_none() {
            return found;
        }
    }
}

async fn image_positions(store: &dyn Library, query: ImageQuery) -> Vec<Position> {
    let found = images(store, query, 100).await;
    found.iter().map(FoundImage::position).collect()
}

/// All hits, read at most `limit` at once.
async fn hits(store: &dyn Library, mut query: SearchQuery, limit: u32) -> Vec<Hit> {
    query.limit = limit;
    let mut found = Vec::new();
    loop {
        let listing = store.search(query.clone()).await;
        let listing = listing.expect("a search is answered");
        assert!(listing.items.len() <= limit as usize, "no more than asked");
        found.extend(listing.items);
        query.after = listing.next;
        if query.after.is_none() {
            return found;
        }
    }
}

async fn positions(store: &dyn Library, text: &str) -> Vec<Position> {
    let found = hits(store, SearchQuery::new(QueueName::default(), text), 100).await;
    found.iter().map(Hit::position).collect()
}

/// A completed document whose chunks have these texts.
async fn of_texts(store: &dyn Library, new: NewDocument, texts: &[&str]) -> DocumentId {
    let mut holder = started(store, new).await;
    for text in texts {
        let mut checkpoint = holder.next();
        checkpoint.chunks[0].text = (*text).to_owned();
        holder.send(checkpoint).await;
    }
    holder.settle_to(Outcome::Complete, State::Completed).await;
    holder.id
}

async fn started(store: &dyn Library, new: NewDocument) -> Holder<'_> {
    let queues = [new.queue.clone()];
    put(store, new).await;
    Holder::claim_with(store, request_of(worker_of("worker", &queues), 1)).await
}

fn elsewhere() -> NewDocument {
    with(document(), |d| d.queue = queue("other"))
}

/// Images of a queue are listed newest document first, then by ordinal, whole, page by page.
pub async fn all_images_are_listed_newest_first(store: &dyn Library, _: &TestClock) {
    let default = QueueName::default();
    let none = image_positions(store, ImageQuery::new(default.clone())).await;
    assert_eq!(none, []);
    let older = bring_to(store, document(), State::Completed, 3).await;
    let newer = bring_to(store, document(), State::Completed, 2).await;
    let other = of_texts(store, elsewhere(), &["text"]).await;
    let expected: Vec<_> = [(newer, 0), (newer, 1), (older, 0), (older, 1), (older, 2)]
        .into_iter()
        .map(|(document, ordinal)| FoundImage {
            document,
            image: image(ordinal),
        })
        .collect();
    for limit in [1, 2, 5, 100] {
        let found = images(store, ImageQuery::new(default.clone()), limit).await;
        assert_eq!(found, expected, "{limit} at once");
    }
    let found = image_positions(store, ImageQuery::new(queue("other"))).await;
    assert_eq!(found, [(other, 0)]);
    let mut of_another = ImageQuery::new(default.clone());
    of_another.document = Some(other);
    assert_eq!(image_positions(store, of_another).await, []);
    let mut nothing = ImageQuery::new(default);
    nothing.limit = 0;
    assert_eq!(images(store, nothing, 0).await, []);
}

/// Images can be asked for by document, page, smallest side, and when the document was enqueued.
pub async fn images_are_of_a_document_a_page_a_size_and_a_date(
    store: &dyn Library,
    clock: &TestClock,
) {
    let before = clock.now();
    let older = bring_to(store, document(), State::Completed, 2).await;
    clock.advance(seconds(60));
    let between = clock.now();
    let mut holder = started(store, document()).await;
    let mut checkpoint = holder.next();
    checkpoint.images[0].width = 32;
    holder.send(checkpoint).await;
    let mut checkpoint = holder.next();
    checkpoint.images[0].height = 31;
    holder.send(checkpoint).await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    let newer = holder.id;
    let ask = async |change: &dyn Fn(&mut ImageQuery)| {
        let mut query = ImageQuery::new(QueueName::default());
        change(&mut query);
        let all = image_positions(store, query.clone()).await;
        let one_by_one = images(store, query, 1).await;
        let one_by_one: Vec<_> = one_by_one.iter().map(FoundImage::position).collect();
        assert_eq!(one_by_one, all);
        all
    };
    let (old, new) = ([(older, 0), (older, 1)], [(newer, 0), (newer, 1)]);
    assert_eq!(ask(&|q| q.document = Some(older)).await, old);
    let unknown = DocumentId::new();
    assert_eq!(ask(&|q| q.document = Some(unknown)).await, []);
    let second = [(newer, 1), (older, 1)];
    assert_eq!(ask(&|q| q.page = Some(2)).await, second);
    let sized = [(newer, 0), (older, 0), (older, 1)];
    assert_eq!(ask(&|q| q.min_side = 32).await, sized);
    assert_eq!(ask(&|q| q.min_side = 33).await, old);
    assert_eq!(ask(&|q| q.min_side = 481).await, []);
    assert_eq!(ask(&|q| q.created_from = Some(between)).await, new);
    assert_eq!(ask(&|q| q.created_before = Some(between)).await, old);
    assert_eq!(ask(&|q| q.created_before = Some(before)).await, []);
    let both = |q: &mut ImageQuery| {
        q.created_from = Some(before);
        q.created_before = Some(between);
        q.page = Some(1);
    };
    assert_eq!(ask(&both).await, [(older, 0)]);
}

/// A chunk is found by words that all occur in it, whole, in any order and case; a snippet marks them.
pub async fn a_search_finds_chunks_with_all_its_words(store: &dyn Library, _: &TestClock) {
    let id = of_texts(
        store,
        document(),
        &[
            "Fever and chills, since Tuesday.",
            "FEVER. No chill; the patient's temperature was 38.5",
            "Die Ärzte sahen 肺炎 im report_final.pdf",
        ],
    )
    .await;
    for (text, expected) in [
        ("fever", &[0, 1][..]),
        ("chills FEVER", &[0]),
        ("fever fever", &[0, 1]),
        ("fever tuesday chill", &[]),
        ("chill", &[1]),
        ("patient", &[1]),
        ("ärzte", &[2]),
        ("ÄRZTE 炎", &[2]),
        ("arzte", &[]),
        ("final pdf", &[2]),
        ("38 5", &[1]),
        ("feve", &[]),
        ("", &[]),
        (" . ", &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|ordinal| (id, *ordinal)).collect();
        assert_eq!(positions(store, text).await, expected, "{text:?}");
    }
    let query = SearchQuery::new(QueueName::default(), "CHILLS fever");
    let found = hits(store, query, 10).await;
    let hit = found.first().expect("a hit");
    assert_eq!((hit.document, hit.ordinal, hit.first_page), (id, 0, 1));
    let text = &hit.snippet.text;
    assert_eq!(text, "Fever and chills, since Tuesday.");
    let marked: Vec<_> = hit
        .snippet
        .marks
        .iter()
        .map(|at| &text[at.clone()])
        .collect();
    assert_eq!(marked, ["Fever", "chills"]);
}

/// Hits of a queue are listed newest document first, then by ordinal, page by page.
pub async fn hits_are_listed_newest_first(store: &dyn Library, _: &TestClock) {
    let texts = ["one word", "no such", "a word", "the word"];
    let older = of_texts(store, document(), &texts).await;
    let newer = of_texts(store, document(), &texts).await;
    let other = of_texts(store, elsewhere(), &texts[..1]).await;
    let of = |id| [(id, 0), (id, 2), (id, 3)];
    let expected = [of(newer), of(older)].concat();
    for limit in [1, 2, 3, 6, 100] {
        let found = hits(store, SearchQuery::new(QueueName::default(), "word"), limit).await;
        let found: Vec<_> = found.iter().map(Hit::position).collect();
        assert_eq!(found, expected, "{limit} at once");
    }
    let found = hits(store, SearchQuery::new(queue("other"), "word"), 10).await;
    let found: Vec<_> = found.iter().map(Hit::position).collect();
    assert_eq!(found, [(other, 0)]);
    assert_eq!(positions(store, "nowhere").await, []);
}

/// However much has to be looked at for a hit, whoever goes on finds it: many documents, and one of many
/// chunks and images.
pub async fn what_is_far_behind_is_found(store: &dyn Library, _: &TestClock) {
    let mut long = started(store, document()).await;
    let mut checkpoint = long.next();
    checkpoint.chunks = (0..2100).map(chunk).collect();
    checkpoint.chunks[2050].text = "a needle".to_owned();
    checkpoint.cursor.chunks = 2100;
    checkpoint.images = (0..450).map(image).collect();
    checkpoint.images[430].page = 777;
    checkpoint.cursor.images = 450;
    long.send(checkpoint).await;
    let empty = (0..230).map(|_| document()).collect();
    store.enqueue(empty).await.expect("they are taken in");
    let needle = [(long.id, 2050)];
    assert_eq!(positions(store, "needle").await, needle);
    let found = hits(store, SearchQuery::new(QueueName::default(), "needle"), 1).await;
    assert_eq!(found.iter().map(Hit::position).collect::<Vec<_>>(), needle);
    let mut on_page = ImageQuery::new(QueueName::default());
    on_page.page = Some(777);
    assert_eq!(
        image_positions(store, on_page.clone()).await,
        [(long.id, 430)]
    );
    on_page.document = Some(long.id);
    assert_eq!(image_positions(store, on_page).await, [(long.id, 430)]);
}

/// Whatever a person types is taken for words: no operator, no wildcard, no quotes, no error.
pub async fn nothing_in_a_search_is_an_operator(store: &dyn Library, _: &TestClock) {
    let id = of_texts(store, document(), &["black OR white", "black", "a NEAR b"]).await;
    for (text, expected) in [
        ("black or white", &[0][..]),
        ("black OR nothing", &[]),
        ("white NOT black", &[]),
        ("-black", &[0, 1]),
        ("\"black", &[0, 1]),
        ("bl*", &[]),
        ("bl%", &[]),
        ("text:black", &[]),
        ("{a} NEAR(b)", &[2]),
        ("' OR 1=1 --", &[]),
        ("black & !white | (", &[0]),
        ("\\ black \u{0}", &[0, 1]),
    ] {
        let expected: Vec<_> = expected.iter().map(|ordinal| (id, *ordinal)).collect();
        assert_eq!(positions(store, text).await, expected, "{text:?}");
    }
    let long = format!("black {}", "x".repeat(10_000));
    assert_eq!(positions(store, &long).await, []);
    let long = of_texts(store, document(), &[&long]).await;
    assert_eq!(positions(store, &"x".repeat(10_000)).await, [(long, 0)]);
}

/// A first generation is found as it grows; then the newest completed one; of deleted documents, nothing.
pub async fn only_what_readers_see_is_found(store: &dyn Library, _: &TestClock) {
    let all_images = async || image_positions(store, ImageQuery::new(QueueName::default())).await;
    let mut holder = started(store, document()).await;
    let id = holder.id;
    holder.commit_times(2).await;
    assert_eq!(positions(store, "chunk").await, [(id, 0), (id, 1)]);
    assert_eq!(all_images().await, [(id, 0), (id, 1)]);
    holder.settle_to(Outcome::Complete, State::Completed).await;

    control(store, id, FROM_SCRATCH).await;
    let mut holder = Holder::claim(store, "worker").await;
    let mut checkpoint = holder.next();
    checkpoint.chunks[0].text = "something new".to_owned();
    holder.send(checkpoint).await;
    assert_eq!(positions(store, "new").await, [], "not seen yet");
    assert_eq!(all_images().await, [(id, 0), (id, 1)]);
    holder.settle_to(Outcome::Complete, State::Completed).await;
    assert_eq!(positions(store, "new").await, [(id, 0)]);
    assert_eq!(positions(store, "chunk").await, [], "superseded");
    assert_eq!(all_images().await, [(id, 0)]);

    let rechunk = Control::Rechunk(ChunkOptions::default());
    control(store, id, rechunk).await;
    let mut holder = Holder::claim(store, "worker").await;
    let mut checkpoint = holder.still();
    checkpoint.chunks = vec![with_text("cut again")];
    checkpoint.cursor.chunks = 1;
    holder.send(checkpoint).await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    assert_eq!(positions(store, "new").await, []);
    assert_eq!(positions(store, "again").await, [(id, 0)]);
    assert_eq!(all_images().await, [(id, 0)], "pages and images stayed");
    store.purge(1000).await.expect("purging succeeds");
    assert_eq!(positions(store, "again").await, [(id, 0)]);

    control(store, id, Control::Delete).await;
    assert_eq!(positions(store, "again").await, []);
    assert_eq!(all_images().await, []);
    store.purge(1000).await.expect("purging succeeds");
    assert_eq!(positions(store, "again").await, []);
}

fn with_text(text: &str) -> kbqueue_core::Chunk {
    let mut chunk = chunk(0);
    chunk.text = text.to_owned();
    chunk
}
