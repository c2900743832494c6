//! Images: ours and those of layouts and archives are loaded when the engine does not have them, those of registries
//! are pulled. A revision keeps the image that its container was made from.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bollard::{
    auth::DockerCredentials,
    body_full,
    models::{ContainerCreateBody, ContainerInspectResponse, HostConfig, ImageInspect},
    query_parameters::{
        CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder, ImportImageOptionsBuilder,
        RemoveContainerOptionsBuilder, RemoveImageOptions,
    },
};
use clawstaff_types::Digest;
use futures_util::{StreamExt as _, TryStreamExt, stream};
use tar::{Builder, EntryType};

use super::{Docker, container, status};
use crate::{
    backend::{CageError, During, image_error},
    builtin,
    id::CageId,
    image::{
        Doing as _, Found, ImageError, Layout, Reference, RegistryName, RunConfig, Wishes, fetch, id_in,
    },
    spec::{CageSpec, Image},
};

/// Name of images that we loaded from layouts and archives, before the tag.
const LOADED: &str = "clawstaff/image";
/// The most of a user database that is read, in bytes.
const MOST_PASSWD: usize = 1 << 20;

/// An image that the engine has.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    /// What the container is made from.
    pub(super) name: String,
    /// How it wants to run; ours wants nothing.
    pub(super) run: RunConfig,
}

impl Docker {
    /// Makes sure that the engine has the spec's image. `before` is the cage's container, if it has one.
    pub(super) async fn image(
        &self,
        spec: &CageSpec,
        before: Option<&ContainerInspectResponse>,
    ) -> Result<Ready, CageError> {
        let id = &spec.id;
        match &spec.image {
            Image::Builtin => {
                let name = self.builtin.reference();
                if self.look(id, &name).await?.is_none() {
                    self.load_ours(id).await?;
                }
                let run = RunConfig::default();
                Ok(Ready { name, run })
            }
            Image::Directory(_) => Err(CageError::Refused {
                id: id.clone(),
                why: "needs the native back end".to_owned(),
            }),
            Image::Oci(text) => self.other(spec, text, before).await,
        }
    }

    /// An image of other people, by its id in the engine.
    async fn other(
        &self,
        spec: &CageSpec,
        text: &str,
        before: Option<&ContainerInspectResponse>,
    ) -> Result<Ready, CageError> {
        let id = &spec.id;
        if let Some(pinned) = before.and_then(|before| container::image_of(before, spec))
            && let Some(found) = self.look(id, &pinned).await?
        {
            return self.ready(id, found).await;
        }
        let reference: Reference = text
            .parse()
            .map_err(|error| image_error(id, ImageError::from(error)))?;
        let name = match &reference {
            Reference::Layout { .. } | Reference::Archive(_) => self.load_layout(id, &reference).await?,
            Reference::Engine(name) => name.clone(),
            Reference::Registry(name) => name.in_engine(),
        };
        let found = match (self.look(id, &name).await?, &reference) {
            (Some(found), _) => Some(found),
            (None, Reference::Registry(registry)) => {
                self.pull(id, registry).await?;
                self.look(id, &name).await?
            }
            (None, Reference::Layout { .. } | Reference::Archive(_) | Reference::Engine(_)) => None,
        };
        match found {
            Some(found) => self.ready(id, found).await,
            None => Err(CageError::Refused {
                id: id.clone(),
                why: format!("the engine has no image `{name}`"),
            }),
        }
    }

    async fn look(&self, id: &CageId, name: &str) -> Result<Option<ImageInspect>, CageError> {
        match self.engine.inspect_image(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error).during(id, "look for its image"),
        }
    }

    /// The image by its id, which cannot come to mean another.
    async fn ready(&self, id: &CageId, found: ImageInspect) -> Result<Ready, CageError> {
        let name = found.id.unwrap_or_default();
        let config = found.config.unwrap_or_default();
        let wishes = Wishes {
            user: config.user,
            env: config.env,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            working_dir: config.working_dir,
        };
        let passwd = if wishes.names_a_user() {
            self.passwd(id, &name).await?
        } else {
            String::new()
        };
        let run = wishes
            .run(|user| id_in(&passwd, user))
            .map_err(|error| image_error(id, error))?;
        Ok(Ready { name, run })
    }

    /// The image's own users, read from a container that never runs.
    async fn passwd(&self, id: &CageId, image: &str) -> Result<String, CageError> {
        let doing = "read the users of its image";
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["/never".to_owned()]),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = None::<bollard::query_parameters::CreateContainerOptions>;
        let made = self
            .engine
            .create_container(options, body)
            .await
            .during(id, doing)?;
        let options = DownloadFromContainerOptionsBuilder::default()
            .path("/etc/passwd")
            .build();
        let mut parts = std::pin::pin!(self.engine.download_from_container(&made.id, Some(options)));
        let mut bytes = Vec::new();
        // An image without users has none to name.
        while let Some(Ok(part)) = parts.next().await {
            bytes.extend_from_slice(&part);
            if bytes.len() > MOST_PASSWD {
                break;
            }
        }
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        self.engine
            .remove_container(&made.id, Some(options))
            .await
            .during(id, doing)?;
        Ok(first_text(&bytes).unwrap_or_default())
    }

    async fn load_ours(&self, id: &CageId) -> Result<(), CageError> {
        let builtin = Arc::clone(&self.builtin);
        let archive = tokio::task::spawn_blocking(move || builtin.archive()).await;
        let archive = archive
            .during(id, "assemble its image")?
            .during(id, "assemble its image")?;
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let progress = self.engine.import_image(options, body_full(archive.into()), None);
        progress
            .try_for_each(|_| async { Ok(()) })
            .await
            .during(id, "load its image")
    }

    /// Loads an image of this host's disk under a name of ours, whatever it calls itself.
    async fn load_layout(&self, id: &CageId, reference: &Reference) -> Result<String, CageError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let work = std::env::temp_dir().join(format!("clawstaff-image-{}-{number}", std::process::id()));
        tokio::fs::create_dir(&work)
            .await
            .during(id, "make a directory for its image")?;
        let loaded = self.load_from(id, reference, &work).await;
        tokio::fs::remove_dir_all(&work)
            .await
            .during(id, "clear up after its image")?;
        loaded
    }

    async fn load_from(&self, id: &CageId, reference: &Reference, work: &Path) -> Result<String, CageError> {
        let refused = |error| image_error(id, error);
        let (layout, tag) = fetch(reference, None, &self.credentials, work)
            .await
            .map_err(refused)?;
        let path = work.join("load.tar");
        let to = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let found = layout.find(tag.as_deref())?;
            let name = loaded_name(&found.digest);
            rewrite(&layout, &found, &name, &to)?;
            Ok(name)
        });
        let name = written.await.during(id, "read its image")?.map_err(refused)?;
        if self.look(id, &name).await?.is_some() {
            return Ok(name);
        }
        let file = tokio::fs::File::open(&path).await.during(id, "load its image")?;
        let parts = stream::try_unfold(file, |mut file| async move {
            let mut part = vec![0; 256 << 10];
            let count = tokio::io::AsyncReadExt::read(&mut file, &mut part).await?;
            part.truncate(count);
            let more = (count > 0).then(|| (bytes::Bytes::from(part), file));
            Ok::<_, io::Error>(more)
        });
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        self.engine
            .import_image_stream(options, parts, None)
            .try_for_each(|_| async { Ok(()) })
            .await
            .during(id, "load its image")?;
        Ok(name)
    }

    /// Lets the engine pull it, with the credential of this host if there is one for the registry.
    async fn pull(&self, id: &CageId, name: &RegistryName) -> Result<(), CageError> {
        let found = self
            .credentials
            .of(name)
            .map_err(|error| image_error(id, error))?;
        let pair = found.and_then(|credential| credential.pair());
        let credentials = pair.map(|(username, password)| DockerCredentials {
            username: Some(username),
            password: Some(password),
            serveraddress: Some(name.host.clone()),
            ..DockerCredentials::default()
        });
        let options = CreateImageOptionsBuilder::default()
            .from_image(&name.in_engine())
            .build();
        let progress = self.engine.create_image(Some(options), None, credentials);
        progress
            .try_for_each(|_| async { Ok(()) })
            .await
            .during(id, "pull its image")
    }

    /// Removes an image that we loaded, unless another cage has it.
    pub(super) async fn forget_image(&self, image: &str) {
        let Ok(found) = self.engine.inspect_image(image).await else {
            return;
        };
        let ours = |tag: &&String| tag.starts_with(LOADED);
        for tag in found.repo_tags.iter().flatten().filter(ours) {
            // Without force: the engine keeps it while a container has it.
            let removed = self
                .engine
                .remove_image(tag, None::<RemoveImageOptions>, None)
                .await;
            if let Err(error) = removed {
                tracing::debug!(tag, %error, "an image stays");
            }
        }
    }
}

fn loaded_name(digest: &Digest) -> String {
    let hex = hex::encode(digest.as_bytes());
    format!("{LOADED}:{}", hex.get(..16).unwrap_or_default())
}

/// Writes an image as an archive that any engine loads, under our name.
fn rewrite(layout: &Layout, found: &Found, name: &str, to: &Path) -> Result<(), ImageError> {
    let file = std::fs::File::create(to).doing("make a file for the image")?;
    let mut archive = Builder::new(io::BufWriter::new(file));
    let mut members = Vec::new();
    for (number, layer) in found.layers.iter().enumerate() {
        // Its size must be known first; the archive's own header comes before it.
        let mut part = tempfile_beside(to, number)?;
        let size = layout.copy_layer(layer, &mut part)?;
        io::Seek::rewind(&mut part).doing("copy a layer")?;
        let member = format!("layer-{number}.tar");
        let mut header = builtin::header(EntryType::Regular, 0o644, size);
        archive
            .append_data(&mut header, &member, part)
            .doing("copy a layer")?;
        members.push(member);
    }
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": [name], "Layers": members }]).to_string();
    for (member, bytes) in [
        ("config.json", found.config_bytes.as_slice()),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = builtin::header(EntryType::Regular, 0o644, bytes.len() as u64);
        archive
            .append_data(&mut header, member, bytes)
            .doing("write the image's archive")?;
    }
    let mut file = archive.into_inner().doing("write the image's archive")?;
    file.flush().doing("write the image's archive")
}

/// A file without a name.
fn tempfile_beside(path: &Path, number: usize) -> Result<std::fs::File, ImageError> {
    let path = path.with_extension(format!("part-{number}"));
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .doing("make a file for a layer")?;
    std::fs::remove_file(&path).doing("make a file for a layer")?;
    Ok(file)
}

/// The first file of a small archive, as text.
fn first_text(archive: &[u8]) -> Option<String> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    let mut text = String::new();
    io::Read::read_to_string(&mut entry, &mut text).ok()?;
    Some(text)
}
