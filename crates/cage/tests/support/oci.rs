//! Small images made for a test, as a layout: gzip layers, a configuration, a manifest, an index.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clawstaff_types::Digest;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tar::{Builder, Header};

/// A layer from this size on is stored plain: an unoptimized build takes long to zip it.
const LARGE: usize = 1 << 20;

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap()
}

fn piped(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; run `scripts/setup.sh`"));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{program} {args:?}");
    output.stdout
}

/// A layout in the making.
pub(crate) struct Layout {
    dir: PathBuf,
    /// Of each layer: its blob's digest and size, and its digest unpacked.
    layers: Vec<(Digest, usize, Digest)>,
    /// The layers unpacked.
    tars: Vec<Vec<u8>>,
    config: Value,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        Self {
            dir: dir.to_owned(),
            layers: Vec::new(),
            tars: Vec::new(),
            config: Value::Null,
        }
    }

    pub(crate) fn layer(&mut self, files: &[(&str, u32, &[u8])]) {
        let tar = tar(files);
        let stored = if tar.len() < LARGE {
            zipped(&tar)
        } else {
            tar.clone()
        };
        self.layers
            .push((self.blob(&stored), stored.len(), Digest::of(&tar)));
        self.tars.push(tar);
    }

    /// A layer compressed with Debian's `zstd`.
    pub(crate) fn zstd_layer(&mut self, files: &[(&str, u32, &[u8])]) {
        let tar = tar(files);
        let stored = piped("zstd", &["-q", "-c", "-"], &tar);
        self.layers
            .push((self.blob(&stored), stored.len(), Digest::of(&tar)));
        self.tars.push(tar);
    }

    pub(crate) fn config(&mut self, config: Value) {
        self.config = config;
    }

    fn configuration(&self) -> String {
        let diffs: Vec<_> = self.layers.iter().map(|layer| layer.2).collect();
        let architecture = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        json!({
            "os": "linux", "architecture": architecture, "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diffs },
        })
        .to_string()
    }

    /// Writes manifest and index; returns the manifest's digest.
    pub(crate) fn finish(&self, tag: &str) -> String {
        let config = self.configuration();
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|(digest, size, _)| {
                let zip = if *size < LARGE { "+gzip" } else { "" };
                let kind = format!("application/vnd.oci.image.layer.v1.tar{zip}");
                json!({ "mediaType": kind, "digest": digest, "size": size })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.blob(config.as_bytes()), "size": config.len(),
            },
            "layers": layers,
        })
        .to_string();
        let digest = self.blob(manifest.as_bytes());
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
                "annotations": { "org.opencontainers.image.ref.name": tag },
            }],
        });
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
        fs::write(self.dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        digest.to_string()
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let name = digest.to_string().replace("sha256:", "");
        fs::write(self.dir.join("blobs/sha256").join(name), bytes).unwrap();
        digest
    }
}

/// A layout's directory as an archive.
pub(crate) fn archive(dir: &Path, to: &Path) {
    let mut archive = Builder::new(fs::File::create(to).unwrap());
    archive.append_dir_all(".", dir).unwrap();
    archive.finish().unwrap();
}

/// The image as `docker save` of old writes it.
pub(crate) fn docker_archive(layout: &Layout, tag: &str) -> Vec<u8> {
    let config = layout.configuration();
    let names: Vec<String> = (0..layout.tars.len())
        .map(|number| format!("{number}/layer.tar"))
        .collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": names }]).to_string();
    let mut files: Vec<(&str, u32, &[u8])> = vec![
        ("config.json", 0o644, config.as_bytes()),
        ("manifest.json", 0o644, manifest.as_bytes()),
    ];
    files.extend(
        names
            .iter()
            .zip(&layout.tars)
            .map(|(name, tar)| (name.as_str(), 0o644, tar.as_slice())),
    );
    tar(&files)
}

fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}
