//! One Claw's inbox as files; every method is one step of the diagram in `inbox.rs`. Blocking.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use clawstaff_types::{ClawName, EventId, MemberId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Clock, InboxError, InboxKey, MAX_ATTEMPTS, MAX_ITEM, MAX_WAITING, NewItem, Put, files, seen::Seen,
};

/// Given-up items that are kept, and of them the newest.
const MAX_FAILED: usize = 100;
/// Suffix of given-up items whose record is durable; `~` is in no id, so no id can look reported.
const REPORTED: &str = "~reported";
/// Version, nonce and tag, and room for the envelope around the event.
const MAX_FILE: u64 = MAX_ITEM as u64 + 4096;

/// An item as it lies on the disk.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    source: String,
    event: Value,
    on_behalf_of: Option<MemberId>,
}

/// An item handed out.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) id: EventId,
    pub(super) source: String,
    pub(super) event: Value,
    pub(super) on_behalf_of: Option<MemberId>,
    pub(super) attempt: u32,
}

/// What [`Mailbox::lease`] found.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub(super) item: Option<Leased>,
    /// Something was given up on the way.
    pub(super) gave_up: bool,
}

/// A file's name: place in line, attempts so far, id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    place: u64,
    attempts: u32,
    id: EventId,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let place = parts.next()?.parse().ok()?;
        let attempts = parts.next()?.parse().ok()?;
        let id = parts.next()?.parse().ok()?;
        Some(Self { place, attempts, id })
    }

    fn file(&self) -> String {
        format!("{:020}.{}.{}", self.place, self.attempts, self.id)
    }
}

/// One Claw's inbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    claw: ClawName,
    dir: PathBuf,
    key: Arc<InboxKey>,
    clock: Clock,
    seen: Seen,
    /// Waiting items by place in line.
    waiting: BTreeMap<u64, Name>,
    leased: Option<Name>,
    last_place: u64,
}

impl Mailbox {
    /// Opens a Claw's inbox, putting right what a crash left; gives the item that is still leased.
    pub(super) fn open(
        claw: ClawName,
        dir: &Path,
        key: Arc<InboxKey>,
        clock: Clock,
    ) -> Result<(Self, Option<Leased>), InboxError> {
        for part in ["", "new", "leased", "failed", "tmp"] {
            files::make_dir(&dir.join(part))?;
        }
        for name in files::names_in(&dir.join("tmp"))? {
            files::remove(&dir.join("tmp").join(name))?;
        }
        let seen = Seen::open(&dir.join("done"), clock.now())?;
        let mut mailbox = Self {
            claw,
            dir: dir.to_owned(),
            key,
            clock,
            seen,
            waiting: BTreeMap::new(),
            leased: None,
            last_place: 0,
        };
        mailbox.load()?;
        let held = mailbox.load_leased()?;
        Ok((mailbox, held))
    }

    fn load(&mut self) -> Result<(), InboxError> {
        for name in self.unfinished_in("new")? {
            self.waiting.insert(name.place, name);
        }
        // More than one leased file cannot come from us; the further ones wait again.
        for name in self.unfinished_in("leased")? {
            if self.leased.is_none() {
                self.leased = Some(name);
            } else {
                self.shift("leased", "new", &name)?;
                self.waiting.insert(name.place, name);
            }
        }
        Ok(())
    }

    /// The items in a folder; those that were acknowledged before a crash are removed.
    fn unfinished_in(&mut self, folder: &str) -> Result<Vec<Name>, InboxError> {
        let mut names = Vec::new();
        for file in files::names_in(&self.dir.join(folder))? {
            let Some(name) = Name::parse(&file) else {
                continue;
            };
            self.last_place = self.last_place.max(name.place);
            if self.seen.contains(&name.id) {
                files::remove(&self.dir.join(folder).join(file))?;
            } else {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn load_leased(&mut self) -> Result<Option<Leased>, InboxError> {
        let Some(name) = self.leased.clone() else {
            return Ok(None);
        };
        match self.read("leased", &name) {
            Ok(item) => Ok(Some(item)),
            Err(InboxError::Crypt { .. }) => self.give_up_leased().map(|()| None),
            Err(e) => Err(e),
        }
    }

    pub(super) fn put(&mut self, item: &NewItem) -> Result<Put, InboxError> {
        if self.knows(&item.id) {
            return Ok(Put::Duplicate);
        }
        if self.waiting.len() + usize::from(self.leased.is_some()) >= MAX_WAITING || self.seen.is_full() {
            self.seen.prune(self.clock.now())?;
            return Err(InboxError::Full(self.claw.clone()));
        }
        let file = self.seal(item)?;
        let name = Name {
            place: self.next_place(),
            attempts: 0,
            id: item.id.clone(),
        };
        let temporary = self.path("tmp", &name);
        let written = files::write_unlinked(&temporary, &file)
            .map_err(InboxError::io("write", &temporary))
            .and_then(|()| files::move_file(&temporary, &self.path("new", &name)));
        if let Err(e) = written {
            // Not promised, so it must not turn up later beside a second try of the sender.
            files::remove(&temporary)?;
            files::remove(&self.path("new", &name))?;
            return Err(e);
        }
        self.waiting.insert(name.place, name);
        Ok(Put::Stored)
    }

    pub(super) fn knows(&self, id: &EventId) -> bool {
        self.seen.contains(id)
            || self.leased.as_ref().is_some_and(|name| name.id == *id)
            || self.waiting.values().any(|name| name.id == *id)
    }

    fn seal(&self, item: &NewItem) -> Result<Vec<u8>, InboxError> {
        let stored = Stored {
            source: item.source.clone(),
            event: item.event.clone(),
            on_behalf_of: item.on_behalf_of.clone(),
        };
        let plaintext = serde_json::to_vec(&stored).map_err(|_| self.crypt(&item.id, "written as JSON"))?;
        if plaintext.len() > MAX_ITEM {
            let bytes = plaintext.len();
            return Err(InboxError::TooLarge {
                claw: self.claw.clone(),
                id: item.id.clone(),
                bytes,
            });
        }
        self.key
            .seal(&self.claw, &item.id, plaintext)
            .ok_or_else(|| self.crypt(&item.id, "encrypted"))
    }

    /// Leases the oldest waiting item, unless one is leased already. An item that does not decrypt is given up,
    /// so that it holds nothing else back.
    pub(super) fn lease(&mut self) -> Result<Next, InboxError> {
        let mut next = Next::default();
        while self.leased.is_none() {
            let Some((_, waiting)) = self.waiting.first_key_value() else {
                break;
            };
            let name = Name {
                attempts: waiting.attempts + 1,
                ..waiting.clone()
            };
            files::move_file(&self.path("new", waiting), &self.path("leased", &name))?;
            self.waiting.pop_first();
            self.leased = Some(name.clone());
            match self.read("leased", &name) {
                Ok(item) => next.item = Some(item),
                Err(InboxError::Crypt { .. }) => {
                    self.give_up_leased()?;
                    next.gave_up = true;
                }
                Err(e) => {
                    self.release()?;
                    return Err(e);
                }
            }
        }
        Ok(next)
    }

    /// Takes an item out for good: noted first, then removed or, with `keep`, put into `failed/`.
    pub(super) fn ack(&mut self, id: &EventId, keep: bool) -> Result<(), InboxError> {
        let (folder, name) = self.find(id)?;
        self.seen.note(id, self.clock.now())?;
        if keep {
            let to = self.dir.join("failed").join(format!("{}{REPORTED}", name.file()));
            files::move_file(&self.path(folder, &name), &to)?;
            self.trim_failed()?;
        } else {
            files::remove(&self.path(folder, &name))?;
        }
        self.waiting.remove(&name.place);
        self.leased.take_if(|leased| leased.id == *id);
        Ok(())
    }

    fn find(&self, id: &EventId) -> Result<(&'static str, Name), InboxError> {
        let leased = self.leased.iter().map(|name| ("leased", name));
        let waiting = self.waiting.values().map(|name| ("new", name));
        leased
            .chain(waiting)
            .find(|(_, name)| name.id == *id)
            .map(|(folder, name)| (folder, name.clone()))
            .ok_or_else(|| InboxError::NoSuchItem {
                claw: self.claw.clone(),
                id: id.clone(),
            })
    }

    /// The lease ends without acknowledgement. Gives whether the item was given up.
    pub(super) fn release(&mut self) -> Result<bool, InboxError> {
        let Some(name) = self.leased.clone() else {
            return Ok(false);
        };
        if name.attempts >= MAX_ATTEMPTS {
            return self.give_up_leased().map(|()| true);
        }
        self.shift("leased", "new", &name)?;
        self.leased = None;
        self.waiting.insert(name.place, name);
        Ok(false)
    }

    /// Undoes a [`Mailbox::lease`] if it still holds: nobody received the item, so that hand-out does not count.
    pub(super) fn take_back(&mut self, id: &EventId, attempt: u32) -> Result<bool, InboxError> {
        let this_one = |name: &Name| name.id == *id && name.attempts == attempt;
        let Some(name) = self.leased.clone().filter(this_one) else {
            return Ok(false);
        };
        let back = Name {
            attempts: name.attempts.saturating_sub(1),
            ..name.clone()
        };
        files::move_file(&self.path("leased", &name), &self.path("new", &back))?;
        self.leased = None;
        self.waiting.insert(back.place, back);
        Ok(true)
    }

    /// Ids and attempts of given-up items that wait for their record.
    pub(super) fn unreported(&self) -> Result<Vec<(EventId, u32)>, InboxError> {
        let names = files::names_in(&self.dir.join("failed"))?;
        let open = names.iter().filter(|name| !name.ends_with(REPORTED));
        Ok(open
            .filter_map(|name| Name::parse(name))
            .map(|name| (name.id, name.attempts))
            .collect())
    }

    pub(super) fn reported(&mut self, id: &EventId) -> Result<(), InboxError> {
        let failed = self.dir.join("failed");
        for file in files::names_in(&failed)? {
            let ours = Name::parse(&file).is_some_and(|name| name.id == *id);
            if ours && !file.ends_with(REPORTED) {
                files::move_file(&failed.join(&file), &failed.join(format!("{file}{REPORTED}")))?;
            }
        }
        self.trim_failed()
    }

    fn give_up_leased(&mut self) -> Result<(), InboxError> {
        if let Some(name) = self.leased.clone() {
            // Into `failed/` before the id is noted: after a crash in between it is there, and is still
            // reported; a second delivery of it would then be worked on, which at-least-once allows.
            self.shift("leased", "failed", &name)?;
            self.seen.note(&name.id, self.clock.now())?;
            self.leased = None;
        }
        Ok(())
    }

    /// Removes the oldest reported items beyond [`MAX_FAILED`].
    fn trim_failed(&self) -> Result<(), InboxError> {
        let failed = self.dir.join("failed");
        let mut names = files::names_in(&failed)?;
        names.retain(|name| name.ends_with(REPORTED));
        let surplus = names.len().saturating_sub(MAX_FAILED);
        names
            .iter()
            .take(surplus)
            .try_for_each(|name| files::remove(&failed.join(name)))
    }

    fn read(&self, folder: &str, name: &Name) -> Result<Leased, InboxError> {
        let path = self.path(folder, name);
        let file = files::read_bounded(&path, MAX_FILE).map_err(InboxError::io("read", &path))?;
        let plaintext = self.key.open(&self.claw, &name.id, &file);
        let plaintext = plaintext.ok_or_else(|| self.crypt(&name.id, "decrypted"))?;
        let stored: Stored =
            serde_json::from_slice(&plaintext).map_err(|_| self.crypt(&name.id, "read as JSON"))?;
        Ok(Leased {
            id: name.id.clone(),
            source: stored.source,
            event: stored.event,
            on_behalf_of: stored.on_behalf_of,
            attempt: name.attempts,
        })
    }

    fn next_place(&mut self) -> u64 {
        let now = u64::try_from(self.clock.now().as_microsecond()).unwrap_or_default();
        self.last_place = now.max(self.last_place + 1);
        self.last_place
    }

    fn shift(&self, from: &str, to: &str, name: &Name) -> Result<(), InboxError> {
        files::move_file(&self.path(from, name), &self.path(to, name))
    }

    fn path(&self, folder: &str, name: &Name) -> PathBuf {
        self.dir.join(folder).join(name.file())
    }

    fn crypt(&self, id: &EventId, doing: &'static str) -> InboxError {
        InboxError::Crypt {
            claw: self.claw.clone(),
            id: id.clone(),
            doing,
        }
    }
}
