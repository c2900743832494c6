//! From a layout to a manifest, from a manifest to layers, with every digest checked: the OCI image layout, index and
//! manifest, version 1, and the manifest that `docker save` writes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
};

use aws_lc_rs::digest::{Context, SHA256};
use clawstaff_types::Digest;
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use super::{
    Bounds, Doing, ImageError,
    archive::Members,
    config::{ImageConfig, architecture},
    refused,
    zstd::{self, Frames},
};

/// The largest index, manifest or configuration, in bytes.
pub(super) const MOST_JSON: u64 = 4 << 20;
/// The most layers.
const MOST_LAYERS: usize = 256;
/// How many indexes may be in each other.
const DEEPEST_INDEX: u32 = 3;

/// A layout, as a directory or in an archive.
#[derive(Debug)]
pub(crate) enum Layout {
    Directory(PathBuf),
    Archive(Members),
}

/// An image whose manifest and configuration have been read.
#[derive(Debug)]
pub(crate) struct Found {
    /// What names it: the manifest's digest, or the configuration's where there is no manifest.
    pub(crate) digest: Digest,
    pub(super) config: ImageConfig,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) layers: Vec<Layer>,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct Layer {
    member: String,
    /// Its digest as it is stored; an archive of `docker save` gives none.
    digest: Option<Digest>,
    /// Its digest unpacked.
    pub(super) diff: Digest,
}

/// What points to a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// An index or a manifest: which one shows in what it has.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// A manifest.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What an index or a manifest turned out to be.
#[derive(Debug)]
pub(super) enum Parsed {
    /// The manifest.
    Manifest(Manifest),
    /// An index; this is its entry for this machine.
    Elsewhere(Descriptor),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// Reads an index or a manifest. `tag` chooses among images of one index.
pub(super) fn parse(bytes: &[u8], tag: Option<&str>) -> Result<Parsed, ImageError> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| refused(format!("its manifest cannot be read: {error}")))?;
    match (document.manifests, document.config, document.layers) {
        (Some(manifests), None, None) => choose(manifests, tag).map(Parsed::Elsewhere),
        (None, Some(config), Some(layers)) if layers.len() <= MOST_LAYERS => {
            Ok(Parsed::Manifest(Manifest { config, layers }))
        }
        _ => Err(refused(format!(
            "its manifest is none, or has more than {MOST_LAYERS} layers"
        ))),
    }
}

fn choose(manifests: Vec<Descriptor>, tag: Option<&str>) -> Result<Descriptor, ImageError> {
    let named = |one: &Descriptor| {
        let name = one
            .annotations
            .as_ref()
            .and_then(|all| all.get("org.opencontainers.image.ref.name"));
        tag.is_none_or(|tag| name.is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}"))))
    };
    let ours = |one: &Descriptor| {
        one.platform
            .as_ref()
            .is_none_or(|platform| platform.os == "linux" && platform.architecture == architecture())
    };
    let mut fitting = manifests.into_iter().filter(|one| named(one) && ours(one));
    let Some(one) = fitting.next() else {
        let machine = architecture();
        return Err(refused(format!(
            "there is no image for linux/{machine} of that name in it"
        )));
    };
    if tag.is_none() && fitting.next().is_some() {
        return Err(refused(
            "there are several images in it: name one, as in `oci:/directory:tag`",
        ));
    }
    Ok(one)
}

impl Layout {
    /// Finds the image of this tag, or the only one.
    pub(crate) fn find(&self, tag: Option<&str>) -> Result<Found, ImageError> {
        if self.has("index.json") {
            let index = self.small("index.json", MOST_JSON)?;
            return self.follow(parse(&index, tag)?, 0);
        }
        if self.has("manifest.json") {
            return self.saved();
        }
        Err(refused(
            "it has neither `index.json` nor `manifest.json`: it is no image",
        ))
    }

    fn follow(&self, parsed: Parsed, depth: u32) -> Result<Found, ImageError> {
        let descriptor = match parsed {
            Parsed::Elsewhere(descriptor) if depth < DEEPEST_INDEX => descriptor,
            Parsed::Elsewhere(_) | Parsed::Manifest(_) => return Err(refused("its index leads nowhere")),
        };
        let bytes = self.blob(&descriptor)?;
        match parse(&bytes, None)? {
            Parsed::Manifest(manifest) => self.read(descriptor.digest, &manifest),
            elsewhere @ Parsed::Elsewhere(_) => self.follow(elsewhere, depth + 1),
        }
    }

    fn read(&self, digest: Digest, manifest: &Manifest) -> Result<Found, ImageError> {
        let config_bytes = self.blob(&manifest.config)?;
        let config = ImageConfig::parse(&config_bytes)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(refused(
                "its manifest and its configuration speak of different layers",
            ));
        }
        let layer = |(layer, diff): (&Descriptor, &Digest)| Layer {
            member: member(&layer.digest),
            digest: Some(layer.digest),
            diff: *diff,
        };
        let layers = manifest
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .map(layer)
            .collect();
        Ok(Found {
            digest,
            config,
            config_bytes,
            layers,
        })
    }

    /// What `docker save` wrote before it wrote layouts. Its configuration's digest names it, as in the engine.
    fn saved(&self) -> Result<Found, ImageError> {
        let text = self.small("manifest.json", MOST_JSON)?;
        let mut all: Vec<Saved> = serde_json::from_slice(&text)
            .map_err(|error| refused(format!("its manifest cannot be read: {error}")))?;
        let (Some(saved), true) = (all.pop(), all.is_empty()) else {
            return Err(refused(
                "there is not exactly one image in it: save one image to an archive",
            ));
        };
        let config_bytes = self.small(&saved.config, MOST_JSON)?;
        let config = ImageConfig::parse(&config_bytes)?;
        if config.rootfs.diff_ids.len() != saved.layers.len() || saved.layers.len() > MOST_LAYERS {
            return Err(refused(
                "its manifest and its configuration speak of different layers",
            ));
        }
        let layer = |(member, diff): (String, &Digest)| Layer {
            member,
            digest: None,
            diff: *diff,
        };
        Ok(Found {
            digest: Digest::of(&config_bytes),
            layers: saved
                .layers
                .into_iter()
                .zip(&config.rootfs.diff_ids)
                .map(layer)
                .collect(),
            config,
            config_bytes,
        })
    }

    /// A blob small enough for memory, checked.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let bytes = self.small(&member(&descriptor.digest), MOST_JSON)?;
        check("a blob", descriptor.digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    fn small(&self, name: &str, most: u64) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        self.open(name)?
            .take(most + 1)
            .read_to_end(&mut bytes)
            .doing("read the image")?;
        if bytes.len() as u64 > most {
            return Err(refused(format!("`{name}` is too large")));
        }
        Ok(bytes)
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(path) => path.join(name).is_file(),
            Self::Archive(members) => members.has(name),
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + '_>, ImageError> {
        match self {
            Self::Directory(path) => {
                let file = File::open(path.join(name)).doing("open a part of the image")?;
                Ok(Box::new(file))
            }
            Self::Archive(members) => members.open(name),
        }
    }

    /// Hands an unpacked layer to `take`, and checks both digests when it has been read to its end. `take` must not
    /// believe anything before that.
    pub(super) fn layer(
        &self,
        layer: &Layer,
        most: u64,
        take: impl FnOnce(&mut dyn Read) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let mut stored = BufReader::new(Hashing::new(self.open(&layer.member)?));
        let magic = stored.fill_buf().doing("read a layer")?;
        let (zipped, zstd) = (magic.starts_with(&[0x1f, 0x8b]), magic.starts_with(&zstd::MAGIC));
        let diff = if zipped {
            unpacked(MultiGzDecoder::new(&mut stored), most, take)?
        } else if zstd {
            unpacked(Frames::new(&mut stored), most, take)?
        } else {
            unpacked(&mut stored, most, take)?
        };
        check("a layer, unpacked,", layer.diff, diff)?;
        io::copy(&mut stored, &mut io::sink()).doing("read a layer")?;
        match layer.digest {
            Some(digest) => check("a layer", digest, stored.into_inner().finish()),
            None => Ok(()),
        }
    }

    /// A layer as it is stored, checked while it is read; unpacked if that is with zstd, which older engines do not know.
    pub(crate) fn copy_layer(&self, layer: &Layer, to: &mut impl io::Write) -> Result<u64, ImageError> {
        let mut magic = Vec::new();
        let beginning = self.open(&layer.member)?.take(zstd::MAGIC.len() as u64);
        BufReader::new(beginning)
            .read_to_end(&mut magic)
            .doing("read a layer")?;
        if magic == zstd::MAGIC {
            let mut size = 0;
            self.layer(layer, Bounds::default().bytes, |tar| {
                size = io::copy(tar, to).doing("copy a layer")?;
                Ok(())
            })?;
            return Ok(size);
        }
        let mut stored = Hashing::new(self.open(&layer.member)?);
        let copied = io::copy(&mut stored, to).doing("copy a layer")?;
        if let Some(digest) = layer.digest {
            check("a layer", digest, stored.finish())?;
        }
        Ok(copied)
    }
}

/// Reads a layer through `take` and to its end; returns its digest.
fn unpacked(
    layer: impl Read,
    most: u64,
    take: impl FnOnce(&mut dyn Read) -> Result<(), ImageError>,
) -> Result<Digest, ImageError> {
    let mut bounded = Hashing::new(layer.take(most));
    take(&mut bounded)?;
    io::copy(&mut bounded, &mut io::sink()).doing("read a layer")?;
    if bounded.inner.limit() == 0 {
        return Err(refused("a layer is larger than an image may be"));
    }
    Ok(bounded.finish())
}

/// The name of a blob in a layout.
pub(super) fn member(digest: &Digest) -> String {
    format!("blobs/sha256/{}", hex::encode(digest.as_bytes()))
}

pub(super) fn check(what: &str, expected: Digest, found: Digest) -> Result<(), ImageError> {
    if expected == found {
        return Ok(());
    }
    Err(ImageError::Digest {
        what: what.to_owned(),
        expected,
        found,
    })
}

/// A reader that computes the digest of what it reads.
struct Hashing<R> {
    inner: R,
    context: Context,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            context: Context::new(&SHA256),
        }
    }

    fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.context.finish().as_ref());
        Digest::from_bytes(bytes)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.context.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
