//! Claws: the wish for each, and every revision of its spec that ever was. Revisions are never changed.

use clawstaff_api::nodes::Desired;
use clawstaff_types::{ClawName, Digest, MemberId, spec::ClawSpec};
use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    Change, Store, StoreError,
    codec::{from_column, from_json, parse, time, to_column, to_json},
    error::doing,
};

/// A Claw as wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClawRow {
    /// Its cage's id, which tells two Claws of one name apart in time.
    pub cage: String,
    /// Its current revision's number.
    pub revision: u32,
    /// Rises with each restart.
    pub generation: u64,
    /// The wanted phase.
    pub desired: Desired,
    /// Who wished last.
    pub asked_by: MemberId,
    /// State revision that first contained the current revision.
    pub revised_in: u64,
    /// State revision of the newest wish.
    pub wished_in: u64,
    /// Whether it is to be destroyed, or is.
    pub destroyed: bool,
    /// The current revision's spec.
    pub spec: ClawSpec,
}

/// A Claw that did not exist before.
#[derive(Debug)]
pub struct NewClaw<'a> {
    /// Its cage's id.
    pub cage: &'a str,
    /// Its first revision.
    pub spec: &'a ClawSpec,
    /// Digest of the spec's JSON.
    pub digest: Digest,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: &'a MemberId,
    /// The state revision that contains it first.
    pub state: u64,
}

/// One revision of a Claw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRow {
    /// Its number, from 1.
    pub revision: u32,
    /// When it was applied.
    pub at: Timestamp,
    /// By whom.
    pub by: MemberId,
    /// Digest of the spec's JSON.
    pub digest: Digest,
    /// The spec.
    pub spec: ClawSpec,
}

impl Change {
    /// Adds a Claw at revision 1, to be running.
    ///
    /// # Errors
    /// When a living Claw has this name, or the statement fails.
    pub async fn add_claw(&mut self, claw: &NewClaw<'_>) -> Result<(), StoreError> {
        let state = to_column("state revision", claw.state)?;
        sqlx::query(
            "INSERT INTO claws (cage, name, revision, generation, desired, asked_by, revised_in, wished_in) \
             VALUES (?, ?, 1, 1, 'running', ?, ?, ?)",
        )
        .bind(claw.cage)
        .bind(claw.spec.name.as_str())
        .bind(claw.by.as_str())
        .bind(state)
        .bind(state)
        .execute(self.connection())
        .await
        .map_err(doing("add a Claw"))?;
        self.add_revision(claw, 1).await
    }

    /// Gives the Claw in `claw.cage` its next revision, numbered `revision`.
    ///
    /// # Errors
    /// When the number is taken, or the statement fails.
    pub async fn revise_claw(&mut self, claw: &NewClaw<'_>, revision: u32) -> Result<(), StoreError> {
        let state = to_column("state revision", claw.state)?;
        sqlx::query(
            "UPDATE claws SET revision = ?, asked_by = ?, revised_in = ?, wished_in = ? WHERE cage = ?",
        )
        .bind(i64::from(revision))
        .bind(claw.by.as_str())
        .bind(state)
        .bind(state)
        .bind(claw.cage)
        .execute(self.connection())
        .await
        .map_err(doing("revise a Claw"))?;
        self.add_revision(claw, revision).await
    }

    async fn add_revision(&mut self, claw: &NewClaw<'_>, revision: u32) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO claw_revisions (cage, revision, spec, digest, at, by) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(claw.cage)
        .bind(i64::from(revision))
        .bind(to_json("Claw's spec", claw.spec)?)
        .bind(claw.digest.to_string())
        .bind(claw.at.to_string())
        .bind(claw.by.as_str())
        .execute(self.connection())
        .await
        .map_err(doing("store a Claw's revision"))?;
        Ok(())
    }

    /// Notes what is wanted of a Claw, by whom, and in which generation.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn wish(
        &mut self,
        cage: &str,
        desired: Desired,
        generation: u64,
        by: &MemberId,
        state: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE claws SET desired = ?, generation = ?, asked_by = ?, wished_in = ? WHERE cage = ?",
        )
        .bind(desired_text(desired))
        .bind(to_column("generation", generation)?)
        .bind(by.as_str())
        .bind(to_column("state revision", state)?)
        .bind(cage)
        .execute(self.connection())
        .await
        .map_err(doing("note what is wanted of a Claw"))?;
        Ok(())
    }

    /// Notes that a Claw is to be destroyed: its name is free, its messages are dropped, its revisions stay.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn destroy_claw(
        &mut self,
        name: &ClawName,
        cage: &str,
        by: &MemberId,
        at: Timestamp,
        state: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE claws SET destroyed_at = ?, desired = 'stopped', asked_by = ?, wished_in = ? WHERE cage = ?",
        )
        .bind(at.to_string())
        .bind(by.as_str())
        .bind(to_column("state revision", state)?)
        .bind(cage)
        .execute(self.connection())
        .await
        .map_err(doing("destroy a Claw"))?;
        self.forget_waiting_of(name).await
    }
}

impl Store {
    /// All revisions of the Claw in this cage, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn revisions(&self, cage: &str) -> Result<Vec<RevisionRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT revision, at, by, digest, spec FROM claw_revisions WHERE cage = ? ORDER BY revision",
        )
        .bind(cage)
        .fetch_all(&self.readers)
        .await
        .map_err(doing("read a Claw's revisions"))?;
        rows.iter().map(revision_row).collect()
    }

    /// One revision of the Claw in this cage.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn claw_revision(&self, cage: &str, revision: u32) -> Result<Option<RevisionRow>, StoreError> {
        let row = sqlx::query(
            "SELECT revision, at, by, digest, spec FROM claw_revisions WHERE cage = ? AND revision = ?",
        )
        .bind(cage)
        .bind(i64::from(revision))
        .fetch_optional(&self.readers)
        .await
        .map_err(doing("read a Claw's revision"))?;
        row.as_ref().map(revision_row).transpose()
    }

    /// The Claw in this cage, destroyed or not.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn claw_by_cage(&self, cage: &str) -> Result<Option<ClawRow>, StoreError> {
        let row = sqlx::query(
            "SELECT c.*, r.spec FROM claws c JOIN claw_revisions r USING (cage, revision) WHERE c.cage = ?",
        )
        .bind(cage)
        .fetch_optional(&self.readers)
        .await
        .map_err(doing("read a Claw"))?;
        row.as_ref().map(claw_row).transpose()
    }
}

/// The Claws that exist, by name.
pub(crate) async fn living(connection: &mut SqliteConnection) -> Result<Vec<ClawRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.*, r.spec FROM claws c JOIN claw_revisions r USING (cage, revision) \
         WHERE c.destroyed_at IS NULL ORDER BY c.name",
    )
    .fetch_all(connection)
    .await
    .map_err(doing("read the Claws"))?;
    rows.iter().map(claw_row).collect()
}

/// Most cages that are listed as destroyed. A runner that was away while more were still keeps those: it removes
/// nothing that is not listed.
const MOST_DESTROYED: i64 = 10_000;

/// The cages of the Claws that were destroyed last.
pub(crate) async fn destroyed(connection: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT cage FROM claws WHERE destroyed_at IS NOT NULL ORDER BY destroyed_at DESC, cage LIMIT ?",
    )
    .bind(MOST_DESTROYED)
    .fetch_all(connection)
    .await
    .map_err(doing("read the destroyed Claws"))
}

fn claw_row(row: &SqliteRow) -> Result<ClawRow, StoreError> {
    let read = doing("read a Claw");
    (|| {
        Ok(ClawFields {
            cage: row.try_get("cage")?,
            revision: row.try_get("revision")?,
            generation: row.try_get("generation")?,
            desired: row.try_get("desired")?,
            asked_by: row.try_get("asked_by")?,
            revised_in: row.try_get("revised_in")?,
            wished_in: row.try_get("wished_in")?,
            destroyed_at: row.try_get("destroyed_at")?,
            spec: row.try_get("spec")?,
        })
    })()
    .map_err(read)
    .and_then(ClawFields::read)
}

/// A row of `claws` with its spec, as the database gives it.
struct ClawFields {
    cage: String,
    revision: i64,
    generation: i64,
    desired: String,
    asked_by: String,
    revised_in: i64,
    wished_in: i64,
    destroyed_at: Option<String>,
    spec: String,
}

impl ClawFields {
    fn read(self) -> Result<ClawRow, StoreError> {
        Ok(ClawRow {
            cage: self.cage,
            revision: from_column("Claw's revision", self.revision)?,
            generation: from_column("Claw's generation", self.generation)?,
            desired: desired(&self.desired)?,
            asked_by: parse("member id", &self.asked_by)?,
            revised_in: from_column("state revision", self.revised_in)?,
            wished_in: from_column("state revision", self.wished_in)?,
            destroyed: self.destroyed_at.is_some(),
            spec: from_json("Claw's spec", &self.spec)?,
        })
    }
}

fn revision_row(row: &SqliteRow) -> Result<RevisionRow, StoreError> {
    let read = || doing("read a Claw's revision");
    let number: i64 = row.try_get("revision").map_err(read())?;
    let text = |column: &'static str| row.try_get::<String, _>(column).map_err(read());
    Ok(RevisionRow {
        revision: from_column("Claw's revision", number)?,
        at: time("revision's time", &text("at")?)?,
        by: parse("member id", &text("by")?)?,
        digest: parse("revision's digest", &text("digest")?)?,
        spec: from_json("Claw's spec", &text("spec")?)?,
    })
}

const fn desired_text(desired: Desired) -> &'static str {
    match desired {
        Desired::Running => "running",
        Desired::Paused => "paused",
        Desired::Stopped => "stopped",
    }
}

fn desired(text: &str) -> Result<Desired, StoreError> {
    match text {
        "running" => Ok(Desired::Running),
        "paused" => Ok(Desired::Paused),
        "stopped" => Ok(Desired::Stopped),
        other => Err(StoreError::Malformed {
            what: "wanted phase",
            text: format!("`{other}` is none"),
        }),
    }
}
