//! Taking records out of the log in another format: who asked for what is recorded first.

use clawstaff_api::people::{AuditFilter, AuditRecord};
use clawstaff_export::{Format, Item, Part};
use clawstaff_store::Search;
use clawstaff_types::{Actor, Event, EventKind, MemberId, Outcome};
use jiff::Timestamp;

use super::{audit, context::App, problem::Problem};

/// Records read at once; what an export holds in memory.
const PAGE: u32 = 500;
/// The filter in the record, in characters.
const MAX_FILTER: usize = 1000;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) format: Format,
    pub(crate) follow: bool,
    pub(crate) filter: AuditFilter,
}

/// An export under way. Its pages are in the order in which the index learned of the records: one that changes
/// while it runs comes again, with the same id.
#[derive(Debug)]
pub(crate) struct Export {
    format: Format,
    search: Search,
    follow: bool,
    changed: u64,
    begun: bool,
}

impl App {
    /// Records the export and begins it.
    ///
    /// # Errors
    /// When the filter makes no sense, or the export cannot be recorded; then nothing leaves.
    pub(crate) async fn begin_export(&self, member: &MemberId, asked: Asked) -> Result<Export, Problem> {
        let mut search = audit::search(&asked.filter)?;
        if !asked.follow && search.until.is_none() {
            // What happens from now on is not part of it, so that it ends.
            search.until = Some(Timestamp::now());
        }
        self.own_log_indexed().await;
        let intents = self.recorder.intend(vec![event(member, &asked)]).await?;
        self.recorder.settle(intents, Outcome::Succeeded).await?;
        Ok(Export {
            format: asked.format,
            search,
            follow: asked.follow,
            changed: 0,
            begun: false,
        })
    }

    /// The next piece; `None` at the end, or at shutdown.
    pub(crate) async fn next_page(&self, export: &mut Export) -> Option<Result<String, Problem>> {
        let head = if export.begun {
            String::new()
        } else {
            export.format.head()
        };
        export.begun = true;
        let page = self
            .store
            .search_changed(&export.search, export.changed, PAGE)
            .await;
        let found = match page {
            Err(error) => return Some(Err(error.into())),
            Ok(found) if found.is_empty() && export.follow && head.is_empty() => {
                match self.audit_after(&export.search, export.changed).await? {
                    Ok(found) => found,
                    Err(problem) => return Some(Err(problem)),
                }
            }
            Ok(found) if found.is_empty() && head.is_empty() => return None,
            Ok(found) => found,
        };
        export.changed = found.last().map_or(export.changed, |last| last.changed);
        let lines = found
            .into_iter()
            .map(|found| export.format.line(&item(found.record)));
        Some(Ok(std::iter::once(head).chain(lines).collect()))
    }
}

fn event(member: &MemberId, asked: &Asked) -> Event {
    let mut event = Event::new(EventKind::AuditExport, Actor::Member(member.clone()));
    let filter = serde_json::to_string(&asked.filter).unwrap_or_default();
    for (label, fact) in [
        ("format", asked.format.to_string()),
        ("follow", asked.follow.to_string()),
        ("filter", filter.chars().take(MAX_FILTER).collect()),
    ] {
        event.facts.insert(label.to_owned(), fact);
    }
    event
}

/// A record of the index on its way out.
fn item(record: AuditRecord) -> Item {
    let log = record.id.split_once(':').map_or("", |(log, _)| log).to_owned();
    Item {
        log,
        origin: record.log,
        index: record.index,
        part: Part::Record {
            outcome: record.outcome_index,
        },
        time: record.time,
        seq: record.seq,
        event: record.event,
        leaf: None,
        covering: None,
    }
}
