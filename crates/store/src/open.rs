//! Opening the database: files only its owner can read, write-ahead log, synchronous FULL, one writer.

use std::{
    fs::{OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use sqlx::{
    SqlSafeStr as _, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{Change, StoreError, error::doing};

/// `migrations/sqlite`, in order. What has been released is never edited: its checksum is in the database.
/// Listed by hand: the macro that would read the folder builds SQLite a second time, for the compiler.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "state",
        include_str!("../../../migrations/sqlite/0001_state.sql"),
    ),
    (
        2,
        "audit",
        include_str!("../../../migrations/sqlite/0002_audit.sql"),
    ),
    (
        3,
        "index",
        include_str!("../../../migrations/sqlite/0003_index.sql"),
    ),
    (
        5,
        "approvals",
        include_str!("../../../migrations/sqlite/0005_approvals.sql"),
    ),
    (
        6,
        "sinks",
        include_str!("../../../migrations/sqlite/0006_sinks.sql"),
    ),
    (
        16,
        "nodes",
        include_str!("../../../migrations/sqlite/0016_nodes.sql"),
    ),
];

const READERS: u32 = 4;
/// What each connection keeps of the database in memory: 32 MiB, said in KiB as a negative number. The indices of
/// ten million records touch more than the default 2 MiB with every batch.
const CACHE_KIB: &str = "-32768";
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The control plane's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
}

impl Store {
    /// Opens the database at `path`, creating it with mode 0600 and bringing its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be made or opened, is not a database, or was written by a newer version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let open_error = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        make_private(path).map_err(|error| open_error(sqlx::Error::Io(error)))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("trusted_schema", "OFF")
            .pragma("temp_store", "MEMORY")
            .pragma("cache_size", CACHE_KIB);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await
            .map_err(open_error)?;
        migrator()
            .run(&writer)
            .await
            .map_err(|source| StoreError::Migrate {
                path: path.to_owned(),
                source,
            })?;
        let readers = SqlitePoolOptions::new()
            .min_connections(READERS)
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(open_error)?;
        Ok(Self { writer, readers })
    }

    /// Starts a change. There is one at a time; a second caller waits.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn begin(&self) -> Result<Change, StoreError> {
        let transaction = self
            .writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(doing("begin a change"))?;
        Ok(Change { transaction })
    }

    /// Closes the database; what is committed stays.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn migrator() -> Migrator {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}

/// The database and the files `SQLite` puts beside it take their mode from the file that is made here.
fn make_private(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_migrations_folder_is_listed_under_its_number_and_name() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<_> = MIGRATIONS
            .iter()
            .map(|(version, name, _)| format!("{version:04}_{name}.sql"))
            .collect();
        assert_eq!(listed, files);
    }
}
