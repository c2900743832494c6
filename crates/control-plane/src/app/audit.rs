//! Questions to the audit log: filters, pages, one record, what is new.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clawstaff_api::people::{AuditFilter, AuditPage, AuditRecord, LogView};
use clawstaff_store::{Found, Place, Search};
use clawstaff_types::{Decision, EventKind, MemberId, Outcome};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::{
    context::{App, CONTROL_LOG},
    event,
    problem::Problem,
};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;
const MAX_WORDS: usize = 20;
/// How long a query waits until the own log's newest entries are indexed, so that one sees one's own acts.
const CATCH_UP: Duration = Duration::from_secs(2);

impl App {
    /// The newest records that match, or those before an earlier page; newest last.
    pub(crate) async fn audit(&self, filter: &AuditFilter) -> Result<AuditPage, Problem> {
        let search = search(filter)?;
        let limit = limit(filter)?;
        let before = filter.cursor.as_deref().map(read_cursor).transpose()?;
        self.own_log_indexed().await;
        let mut found = self
            .store
            .search(&search, before, limit.saturating_add(1))
            .await?;
        let more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            found.pop();
        }
        let cursor = found.last().filter(|_| more).map(|last| write_cursor(last.place));
        let records = found.into_iter().rev().map(|found| found.record).collect();
        Ok(AuditPage {
            records,
            cursor,
            watermarks: self.checkpoints().await?,
        })
    }

    /// One record by its id, `gateway:12`.
    pub(crate) async fn audit_record(&self, id: &str) -> Result<AuditRecord, Problem> {
        let unknown =
            || Problem::not_found("there is no such record; an id is `gateway:INDEX` or `control:INDEX`");
        let (log, index) = id.split_once(':').ok_or_else(unknown)?;
        let index: u64 = index.parse().map_err(|_| unknown())?;
        self.own_log_indexed().await;
        self.store.find_record(log, index).await?.ok_or_else(unknown)
    }

    /// How far each log is known.
    pub(crate) async fn checkpoints(&self) -> Result<Vec<LogView>, Problem> {
        let own = self.own_cosigned.lock().await.clone();
        let view = |log: clawstaff_store::LogRow| LogView {
            checkpoint: match &own {
                Some(cosigned) if log.name == CONTROL_LOG => cosigned.clone(),
                Some(_) | None => log.cosigned,
            },
            origin: log.origin,
            size: log.indexed,
            known: log.size,
        };
        Ok(self.store.logs().await?.into_iter().map(view).collect())
    }

    /// Forgets the index and makes it again from the logs: the own one at once, the gateway's as it is pushed again.
    /// What is known of the logs stays, and every entry must be the one that was taken in before.
    pub(crate) async fn rebuild_index(&self, by: &MemberId) -> Result<Vec<LogView>, Problem> {
        let intents = self.recorder.intend(vec![event::index(by)]).await?;
        let cleared = self.clear_index().await;
        let outcome = match &cleared {
            Ok(()) => Outcome::Succeeded,
            Err(_) => Outcome::Failed,
        };
        // The outcome is a new entry, and with it the own log is indexed from its beginning.
        self.recorder.settle(intents, outcome).await?;
        cleared?;
        self.checkpoints().await
    }

    async fn clear_index(&self) -> Result<(), Problem> {
        let (_taking, _indexing) = (self.taking.lock().await, self.indexing.lock().await);
        let logs = self.store.logs().await?;
        let mut change = self.store.begin().await?;
        for log in &logs {
            change.clear_index(&log.name).await?;
        }
        change.commit().await?;
        self.own_indexed.send_replace(0);
        Ok(())
    }

    /// Records indexed or completed after `changed`, at once if there are any, else when there are.
    /// `None`: the server is shutting down.
    pub(crate) async fn audit_after(
        &self,
        search: &Search,
        changed: u64,
    ) -> Option<Result<Vec<Found>, Problem>> {
        let mut news = self.indexed.subscribe();
        loop {
            news.mark_unchanged();
            match self.store.search_changed(search, changed, MAX_LIMIT).await {
                Err(error) => return Some(Err(error.into())),
                Ok(found) if !found.is_empty() => return Some(Ok(found)),
                Ok(_) => {}
            }
            tokio::select! {
                changed = news.changed() => changed.ok()?,
                () = self.shutdown.cancelled() => return None,
            }
        }
    }

    pub(crate) async fn own_log_indexed(&self) {
        let size = self.log.size();
        let mut indexed = self.own_indexed.subscribe();
        let caught_up = async { indexed.wait_for(|indexed| *indexed >= size).await.is_ok() };
        // Too late is not wrong: the page's watermarks say how far it has read.
        let _in_time = tokio::time::timeout(CATCH_UP, caught_up).await;
    }
}

/// The filter as a search.
pub(crate) fn search(filter: &AuditFilter) -> Result<Search, Problem> {
    let words: Vec<String> = filter
        .text
        .iter()
        .flat_map(|text| text.split_whitespace())
        .map(str::to_owned)
        .collect();
    if words.len() > MAX_WORDS {
        return Err(Problem::invalid(format!(
            "`text` has more than {MAX_WORDS} words"
        )));
    }
    Ok(Search {
        claw: filter.claw.clone(),
        actor: filter.actor.clone(),
        action: filter.action.clone(),
        resource: filter.resource.clone(),
        decision: word::<Decision>("decision", filter.decision.as_deref(), "`allow`, `deny` or `ask`")?,
        outcome: word::<Outcome>(
            "outcome",
            filter.outcome.as_deref(),
            "`succeeded`, `failed`, `refused` or `unknown`",
        )?,
        kinds: kinds(filter.kind.as_deref())?,
        since: instant("since", filter.since.as_deref())?,
        until: instant("until", filter.until.as_deref())?,
        cause: filter.cause.clone(),
        words,
    })
}

fn word<T: DeserializeOwned>(what: &str, text: Option<&str>, rule: &str) -> Result<Option<T>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let parsed = serde_json::from_value(serde_json::Value::String(text.to_owned()));
    parsed
        .map(Some)
        .map_err(|_| Problem::invalid(format!("`{what}` is {rule}")))
}

fn kinds(text: Option<&str>) -> Result<Vec<EventKind>, Problem> {
    let names = text
        .into_iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .take(EventKind::ALL.len() + 1)
        .map(|name| {
            name.parse()
                .map_err(|error: clawstaff_types::event::UnknownKind| Problem::invalid(error.to_string()))
        })
        .collect()
}

fn instant(what: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let parsed = text.parse().map(Some);
    parsed.map_err(|_| Problem::invalid(format!("`{what}` is an instant such as 2026-11-23T09:00:00Z")))
}

fn limit(filter: &AuditFilter) -> Result<u32, Problem> {
    match filter.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(Problem::invalid(format!("`limit` is 1 to {MAX_LIMIT}"))),
    }
}

fn write_cursor(Place(place): Place) -> String {
    URL_SAFE_NO_PAD.encode(place.to_string())
}

fn read_cursor(text: &str) -> Result<Place, Problem> {
    let place = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        text.parse().ok().map(Place)
    };
    place().ok_or_else(|| Problem::invalid("`cursor` is none that this server gave"))
}

#[cfg(test)]
mod tests {
    use clawstaff_api::people::AuditFilter;

    use super::*;

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        let place = Place(-5);
        assert_eq!(read_cursor(&write_cursor(place)).unwrap(), place);
        for bad in ["", "x", "MTox:", "!!!"] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_with_unknown_words_are_refused() {
        let with = |change: fn(&mut AuditFilter)| {
            let mut filter = AuditFilter::default();
            change(&mut filter);
            search(&filter)
        };
        assert!(with(|f| f.decision = Some("perhaps".into())).is_err());
        assert!(with(|f| f.kind = Some("tool.call,nonsense".into())).is_err());
        assert!(with(|f| f.since = Some("yesterday".into())).is_err());
        assert_eq!(
            with(|f| f.kind = Some("tool.call, tool.denied".into()))
                .unwrap()
                .kinds
                .len(),
            2
        );
    }
}
