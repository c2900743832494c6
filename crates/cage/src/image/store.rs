//! Images as directories, one for each digest, shared by all cages that run it and removed with the last of them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use clawstaff_types::Digest;
use futures_util::TryStreamExt as _;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::{Deserialize, Serialize};
use tar::{Builder, EntryType};
use tokio::io::AsyncWriteExt as _;

use super::{
    Bounds, Credentials, Doing, ImageError, Reference, RunConfig, Unpacker,
    archive::Members,
    config::id_in,
    layout::{Found, Layout, check},
    refused, registry,
};
use crate::builtin::{self, Builtin};

/// Our own files of an image that is being made.
const UNFINISHED: &str = ".new-";
/// What an image says about how it wants to run.
const RUN: &str = "run.json";

/// An image as a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpacked {
    /// What names it: its manifest's digest, or its configuration's where there is no manifest.
    pub digest: Digest,
    /// How it wants to run.
    pub run: RunConfig,
}

/// The images of one back end.
#[derive(Debug)]
pub struct Images {
    directory: PathBuf,
    /// Goes into every image as its init.
    builtin: Builtin,
    bounds: Bounds,
    credentials: Credentials,
    number: AtomicU64,
}

impl Images {
    /// Images below `directory`. What a crash left unfinished there is removed.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn at(directory: PathBuf, builtin: Builtin) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)?.flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(UNFINISHED.as_bytes())
            {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self {
            directory,
            builtin,
            bounds: Bounds::default(),
            credentials: Credentials::default(),
            number: AtomicU64::new(0),
        })
    }

    /// Pulls with these credentials.
    pub fn with_credentials(&mut self, credentials: Credentials) {
        self.credentials = credentials;
    }

    /// The root file system of an image that is here.
    pub fn root(&self, digest: &Digest) -> PathBuf {
        self.place(digest).join("root")
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        // The init is in it: another build of it makes another directory.
        let name = format!("{}-{}", hex::encode(digest.as_bytes()), self.builtin.tag());
        self.directory.join(name)
    }

    /// The image as a directory, made if it is not there. With `pinned`, nothing else than that is taken.
    ///
    /// # Errors
    /// When it cannot be had, is refused, or is not the pinned one.
    pub async fn get(
        &self,
        reference: &Reference,
        pinned: Option<Digest>,
        engine: Option<&bollard::Docker>,
    ) -> Result<Unpacked, ImageError> {
        if let Some(found) = pinned.and_then(|digest| self.known(&digest)) {
            return Ok(found);
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let work = self
            .directory
            .join(format!("{UNFINISHED}{}-{number}", std::process::id()));
        fs::create_dir(&work).doing("make a directory for an image")?;
        let made = self.make(reference, pinned, engine, &work).await;
        // What is left of it: everything after a failure, downloads after success.
        let cleared = fs::remove_dir_all(&work).doing("remove an unfinished image");
        let made = made?;
        cleared.map(|()| made)
    }

    fn known(&self, digest: &Digest) -> Option<Unpacked> {
        let text = fs::read(self.place(digest).join(RUN)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    async fn make(
        &self,
        reference: &Reference,
        pinned: Option<Digest>,
        engine: Option<&bollard::Docker>,
        work: &Path,
    ) -> Result<Unpacked, ImageError> {
        let (layout, tag) = fetch(reference, engine, &self.credentials, work).await?;
        let (work, bounds, builtin) = (work.to_owned(), self.bounds, self.builtin.clone());
        let directory = self.directory.clone();
        let place = move |digest: &Digest| {
            directory.join(format!("{}-{}", hex::encode(digest.as_bytes()), builtin.tag()))
        };
        let builtin = self.builtin.clone();
        let making = move || {
            let found = layout.find(tag.as_deref())?;
            if let Some(pinned) = pinned {
                check("this revision's image", pinned, found.digest)?;
            }
            let place = place(&found.digest);
            if let Ok(text) = fs::read(place.join(RUN))
                && let Ok(known) = serde_json::from_slice(&text)
            {
                return Ok(known);
            }
            let unpacked = unpack(&layout, found, &builtin, bounds, &work)?;
            finish(&work, &place, &unpacked)?;
            Ok(unpacked)
        };
        let done = tokio::task::spawn_blocking(making).await;
        done.map_err(io::Error::other).doing("unpack an image")?
    }

    /// Removes every image but these.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn keep_only(&self, digests: &BTreeSet<Digest>) -> io::Result<()> {
        let kept: Vec<PathBuf> = digests.iter().map(|digest| self.place(digest)).collect();
        for entry in fs::read_dir(&self.directory)?.flatten() {
            let unfinished = entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(UNFINISHED.as_bytes());
            if !unfinished && !kept.contains(&entry.path()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Finds the layout, downloading what is not on this host's disk.
pub(crate) async fn fetch(
    reference: &Reference,
    engine: Option<&bollard::Docker>,
    credentials: &Credentials,
    work: &Path,
) -> Result<(Layout, Option<String>), ImageError> {
    match reference {
        Reference::Layout { path, tag } => Ok((Layout::Directory(path.clone()), tag.clone())),
        Reference::Archive(path) => Ok((Layout::Archive(Members::of(path)?), None)),
        Reference::Registry(name) => {
            let place = work.join("layout");
            registry::fetch(name, credentials.of(name)?, &place).await?;
            Ok((Layout::Directory(place), None))
        }
        Reference::Engine(name) => {
            let engine =
                engine.ok_or_else(|| refused(format!("there is no engine here that could have `{name}`")))?;
            let path = work.join("saved.tar");
            save(engine, name, &path).await?;
            Ok((Layout::Archive(Members::of(&path)?), None))
        }
    }
}

async fn save(engine: &bollard::Docker, name: &str, path: &Path) -> Result<(), ImageError> {
    let failed =
        |error: bollard::errors::Error| refused(format!("the engine does not give `{name}`: {error}"));
    let mut file = tokio::fs::File::create(path)
        .await
        .doing("make a file for the image")?;
    let mut parts = std::pin::pin!(engine.export_image(name));
    while let Some(part) = parts.try_next().await.map_err(failed)? {
        file.write_all(&part).await.doing("write the image to a file")?;
    }
    file.flush().await.doing("write the image to a file")
}

fn unpack(
    layout: &Layout,
    found: Found,
    builtin: &Builtin,
    bounds: Bounds,
    work: &Path,
) -> Result<Unpacked, ImageError> {
    let mut unpacker = Unpacker::new(work, bounds)?;
    for layer in &found.layers {
        layout.layer(layer, bounds.bytes, |tar| unpacker.layer(tar))?;
    }
    unpacker.layer(ours(builtin).doing("read the `claw` program")?.as_slice())?;
    drop(unpacker);
    let root = work.join("root");
    let run = found.config.run(|name| id_in(&passwd(&root), name))?;
    Ok(Unpacked {
        digest: found.digest,
        run,
    })
}

/// The layer on top of every image: the init, and the two files that lead to the cage's own resolver.
fn ours(builtin: &Builtin) -> io::Result<Vec<u8>> {
    let program = fs::read(builtin.program())?;
    let mut layer = Builder::new(Vec::new());
    for (name, mode, content) in [
        ("sbin/claw", 0o755, program.as_slice()),
        ("etc/hosts", 0o644, builtin::HOSTS.as_bytes()),
        ("etc/resolv.conf", 0o644, builtin::RESOLV_CONF.as_bytes()),
    ] {
        let mut header = builtin::header(EntryType::Regular, mode, content.len() as u64);
        layer.append_data(&mut header, name, content)?;
    }
    layer.into_inner()
}

/// The image's own users. The kernel keeps a link in it from leading to the host's.
fn passwd(root: &Path) -> String {
    let read = || -> io::Result<String> {
        let root = fs::File::open(root)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = fs::File::from(openat2(&root, "etc/passwd", flags, Mode::empty(), resolve)?);
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, 1 << 20), &mut text)?;
        Ok(text)
    };
    read().unwrap_or_default()
}

/// Puts a finished image in its place, whole or not at all.
fn finish(work: &Path, place: &Path, unpacked: &Unpacked) -> Result<(), ImageError> {
    let done = work.join("done");
    fs::create_dir(&done).doing("make a directory for an image")?;
    fs::rename(work.join("root"), done.join("root")).doing("move an image in place")?;
    let text = serde_json::to_vec(unpacked)
        .map_err(io::Error::other)
        .doing("write an image's wishes")?;
    fs::write(done.join(RUN), text).doing("write an image's wishes")?;
    match fs::rename(done, place) {
        // Another act was faster; both made the same.
        Err(_) if place.join(RUN).is_file() => Ok(()),
        moved => moved.doing("move an image in place"),
    }
}
