//! The built-in image: the `claw` program and the few files that software expects, assembled here without registry
//! or build tool.
//!
//! One list of entries, and two forms of it: a directory for the native back end, and an image archive for an
//! engine. Both are the same for the same program, byte for byte: fixed times, owners and order.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use clawstaff_types::Digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::{CAGE_UID, image::architecture, spec::INIT};

/// Name of the image in an engine, before its tag.
pub const REPOSITORY: &str = "clawstaff/claw";

/// `/etc/resolv.conf` of every cage: its own shim.
pub const RESOLV_CONF: &str = "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n";
/// `/etc/hosts` of every cage.
pub const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

const DIRECTORIES: [&str; 9] = ["claw", "data", "dev", "etc", "proc", "sbin", "sys", "tmp", "usr"];
const FILES: [(&str, &str); 5] = [
    ("etc/group", "root:x:0:\nclaw:x:65532:\nnogroup:x:65534:\n"),
    ("etc/hosts", HOSTS),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
    (
        "etc/passwd",
        "root:x:0:0:root:/:/sbin/nologin\nclaw:x:65532:65532:claw:/data:/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/:/sbin/nologin\n",
    ),
    ("etc/resolv.conf", RESOLV_CONF),
];
const PROGRAM: &str = "sbin/claw";

/// The built-in image around one build of `claw`.
#[derive(Debug, Clone)]
pub struct Builtin {
    program: PathBuf,
    tag: String,
}

impl Builtin {
    /// Reads the program once, to name the image after all that is in it.
    pub fn new(program: &Path) -> io::Result<Self> {
        let mut all = fs::read(program)?;
        for (path, text) in FILES {
            all.extend_from_slice(path.as_bytes());
            all.extend_from_slice(text.as_bytes());
        }
        let tag = hex::encode(digest(&SHA256, &all).as_ref().get(..8).unwrap_or_default());
        Ok(Self {
            program: program.to_owned(),
            tag,
        })
    }

    /// The program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// 16 hex digits that change with anything in the image.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Name and tag in an engine.
    pub fn reference(&self) -> String {
        format!("{REPOSITORY}:{}", self.tag)
    }

    /// The image as a directory below `images`, made if it is not there.
    pub fn directory(&self, images: &Path) -> io::Result<PathBuf> {
        let place = images.join(&self.tag);
        if place.is_dir() {
            return Ok(place);
        }
        let unfinished = images.join(format!(
            ".{}-{}-{:?}",
            self.tag,
            std::process::id(),
            std::thread::current().id()
        ));
        fs::create_dir_all(&unfinished)?;
        self.fill(&unfinished)?;
        match fs::rename(&unfinished, &place) {
            // Another thread was faster; both made the same.
            Err(_) if place.is_dir() => fs::remove_dir_all(&unfinished)?,
            other => other?,
        }
        Ok(place)
    }

    fn fill(&self, root: &Path) -> io::Result<()> {
        let mode = |path: &Path, bits| fs::set_permissions(path, Permissions::from_mode(bits));
        mode(root, 0o755)?;
        for name in DIRECTORIES {
            fs::create_dir(root.join(name))?;
            mode(&root.join(name), if name == "tmp" { 0o1777 } else { 0o755 })?;
        }
        for (name, text) in FILES {
            fs::write(root.join(name), text)?;
            mode(&root.join(name), 0o644)?;
        }
        fs::copy(&self.program, root.join(PROGRAM))?;
        mode(&root.join(PROGRAM), 0o755)
    }

    /// The image as an archive: an OCI image layout, with the manifest beside it that `docker load` goes by.
    pub fn archive(&self) -> io::Result<Vec<u8>> {
        let layer = self.layer()?;
        let config = configuration(&Digest::of(&layer)).to_string();
        let layers = [descriptor(LAYER, layer.as_slice())];
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config.as_bytes()),
            "layers": layers,
        })
        .to_string();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [{
            "mediaType": MANIFEST, "digest": Digest::of(manifest.as_bytes()), "size": manifest.len(),
            "platform": { "architecture": architecture(), "os": "linux" },
            "annotations": { "org.opencontainers.image.ref.name": self.reference() },
        }] })
        .to_string();
        let saved = json!([{
            "Config": blob(config.as_bytes()), "RepoTags": [self.reference()], "Layers": [blob(&layer)],
        }])
        .to_string();
        let mut archive = Builder::new(Vec::new());
        for content in [layer.as_slice(), config.as_bytes(), manifest.as_bytes()] {
            append(&mut archive, &blob(content), 0o644, content)?;
        }
        append(&mut archive, "index.json", 0o644, index.as_bytes())?;
        append(&mut archive, "manifest.json", 0o644, saved.as_bytes())?;
        append(
            &mut archive,
            "oci-layout",
            0o644,
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        archive.into_inner()
    }

    /// The root file system as a tar.
    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for name in DIRECTORIES {
            // The engine gives a tmpfs the mode and owner of the directory it covers.
            let (mode, owner) = match name {
                "tmp" => (0o1777, 0),
                "data" => (0o700, CAGE_UID),
                _ => (0o755, 0),
            };
            let mut header = header(EntryType::Directory, mode, 0);
            header.set_uid(owner.into());
            header.set_gid(owner.into());
            layer.append_data(&mut header, format!("{name}/"), io::empty())?;
        }
        for (name, text) in FILES {
            append(&mut layer, name, 0o644, text.as_bytes())?;
        }
        append(&mut layer, PROGRAM, 0o755, &fs::read(&self.program)?)?;
        layer.into_inner()
    }
}

/// How the image wants to run, where an engine runs it without us.
fn configuration(layer: &Digest) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": format!("{CAGE_UID}:{CAGE_UID}"), "WorkingDir": "/data", "Cmd": INIT,
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/sbin"],
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "comment": "assembled by clawstaff" }],
    })
}

/// The name of a blob in a layout.
fn blob(content: &[u8]) -> String {
    format!("blobs/sha256/{}", hex::encode(Digest::of(content).as_bytes()))
}

fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": Digest::of(content), "size": content.len() })
}

fn append(archive: &mut Builder<impl Write>, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = header(EntryType::Regular, mode, content.len() as u64);
    archive.append_data(&mut header, name, content)
}

/// A header that is the same whoever makes it, and whenever.
pub(crate) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_the_same_whenever_it_is_made_and_another_for_another_program() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("claw");
        fs::write(&program, "program").unwrap();
        let image = Builtin::new(&program).unwrap();
        assert_eq!(
            image.archive().unwrap(),
            Builtin::new(&program).unwrap().archive().unwrap()
        );
        let place = image.directory(&dir.path().join("images")).unwrap();
        assert_eq!(place, image.directory(&dir.path().join("images")).unwrap());
        assert_eq!(fs::read(place.join("sbin/claw")).unwrap(), b"program");
        fs::write(&program, "other").unwrap();
        assert_ne!(image.tag(), Builtin::new(&program).unwrap().tag());
    }
}
