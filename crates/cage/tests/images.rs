//! Images of other people on both back ends: a layout, an archive, the engine's own and a real registry's, each run
//! as it wants to be run.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

#[path = "support/common.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod common;
#[path = "support/oci.rs"]
mod oci;
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clawstaff_cage::{
    Backend, CageError, CageId, CageSpec, ExitReason, Image, Observed,
    conformance::Setup,
    docker::{Docker, DockerConfig},
    image::Credentials,
    native::{Native, NativeConfig},
};

use crate::oci::Layout;

const PATIENCE: Duration = Duration::from_secs(20);

fn engine_host() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///run/clawstaff-test/docker.sock".to_owned())
}

fn native(dir: &Path) -> Native {
    let config = NativeConfig {
        state_dir: dir.join("state"),
        launcher: common::program("clawstaff-launcher"),
        claw: common::program("claw"),
    };
    Native::new(config).unwrap().with_engine(&engine_host())
}

async fn docker(dir: &Path) -> Docker {
    let config = DockerConfig {
        host: Some(engine_host()),
        claw: common::program("claw"),
    };
    let docker = Docker::connect(config).await;
    docker
        .unwrap_or_else(|error| panic!("{error}; run `scripts/docker-engine.sh` as root"))
        .storing_at(dir.join("storage"))
}

fn spec(dir: &Path, backend: &dyn Backend, name: &str, image: &str) -> CageSpec {
    let door = common::door(dir);
    let file = r#"{"contract":1,"claw":"images","revision":1,"command":[],"env":{},"model":null}"#;
    fs::write(door.join("claw.json"), file).unwrap();
    let mut limits = Setup::limits();
    limits.accept_unenforced = common::unenforced(backend);
    let id: CageId = format!("images-{name}-00000001").parse().unwrap();
    CageSpec {
        claw: id.claw().clone(),
        id,
        revision: 1,
        image: Image::Oci(image.to_owned()),
        door_dir: door,
        limits,
        command: CageSpec::init(),
    }
}

/// Runs a cage of this image to its end, and returns what it printed.
async fn run(backend: &dyn Backend, spec: &CageSpec) -> String {
    backend.create(spec).await.unwrap();
    let digest = backend.image_digest(&spec.id).await;
    assert!(digest.is_some(), "the digest of its image is not known");
    backend.start(&spec.id).await.unwrap();
    let end = Instant::now() + PATIENCE;
    let reason = loop {
        match backend.observe(&spec.id).await.unwrap() {
            Observed::Exited(exit) => break exit.reason,
            other => assert!(Instant::now() < end, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let said = String::from_utf8_lossy(&backend.logs(&spec.id, 1 << 20).await.unwrap()).into_owned();
    backend.destroy(&spec.id).await.unwrap();
    assert_eq!(reason, ExitReason::Code(0), "{said}");
    said
}

/// Adds a layer of files, each with its mode.
type AddLayer = fn(&mut Layout, &[(&str, u32, &[u8])]);

/// What every image of these tests has: our program under another name, and a user. Its second layer is one of zstd's.
fn layout(dir: &Path, command: &[&str]) -> Layout {
    layout_of(dir, command, Layout::zstd_layer)
}

fn layout_of(dir: &Path, command: &[&str], second: AddLayer) -> Layout {
    let program = fs::read(common::program("claw")).unwrap();
    let mut layout = Layout::new(dir);
    layout.layer(&[
        ("opt/agent", 0o755, program.as_slice()),
        ("app/old", 0o644, b"old".as_slice()),
        (
            "etc/passwd",
            0o644,
            b"root:x:0:0::/:\nworker:x:1234:1234::/:\n".as_slice(),
        ),
    ]);
    let files = [
        ("app/.wh.old", 0o644, b"".as_slice()),
        ("app/marker", 0o644, b"made of two layers".as_slice()),
    ];
    second(&mut layout, &files);
    layout.config(serde_json::json!({
        "Entrypoint": ["/opt/agent", "probe", "actor"],
        "Cmd": command,
        "Env": ["PATH=/opt:/bin", "FLAVOUR=plum"],
        "WorkingDir": "/app",
        "User": "worker",
    }));
    layout
}

#[tokio::test]
async fn an_image_runs_as_it_wants_to_on_both_back_ends() {
    let dir = common::directory();
    let (native, docker) = (native(dir.path()), docker(dir.path()).await);
    let backends: [(&str, &dyn Backend); 2] = [("native", &native), ("docker", &docker)];
    for (command, expected) in [
        (["read", "marker"], "made of two layers"),
        (["read", "/proc/self/environ"], "FLAVOUR=plum"),
        (["read", "/proc/self/status"], "Uid:\t1234\t1234\t1234\t1234"),
        (["write", "/data/kept"], ""),
    ] {
        let mut words = command.to_vec();
        if command[0] == "write" {
            words.push("the storage is its own");
        }
        let place = dir
            .path()
            .join(format!("layout-{}", command[1].replace('/', "-")));
        let layout = layout(&place, &words);
        let digest = layout.finish("v1");
        for (name, backend) in backends {
            let spec = spec(dir.path(), backend, name, &format!("oci:{}:v1", place.display()));
            let said = run(backend, &spec).await;
            assert!(said.contains(expected), "{name}: {command:?} of {digest}: {said}");
        }
    }
    assert_eq!(
        fs::read_dir(dir.path().join("state/images/oci")).unwrap().count(),
        0,
        "an image is left"
    );
}

#[tokio::test]
async fn an_archive_and_what_an_engine_saves_are_images_as_well() {
    let dir = common::directory();
    let (native, docker) = (native(dir.path()), docker(dir.path()).await);
    let place = dir.path().join("layout");
    let layout = layout(&place, &["read", "marker"]);
    layout.finish("v1");
    let archive = dir.path().join("image.tar");
    oci::archive(&place, &archive);
    let name = format!("oci-archive:{}", archive.display());
    for (backend, name, text) in [(&native as &dyn Backend, "an", &name), (&docker, "ad", &name)] {
        let said = run(backend, &spec(dir.path(), backend, name, text)).await;
        assert!(said.contains("made of two layers"), "{said}");
    }
    // As the engine has it, by its name there, and saved by it.
    let tag = format!("clawstaff-test/images-{}:v1", std::process::id());
    let loaded = oci::docker_archive(&layout, &tag);
    docker_cli(&["load"], Some(&loaded));
    let saved = docker_cli(&["save", &tag], None);
    let path = dir.path().join("saved.tar");
    fs::write(&path, saved).unwrap();
    let said = run(
        &native,
        &spec(dir.path(), &native, "en", &format!("docker:{tag}")),
    )
    .await;
    assert!(said.contains("made of two layers"), "{said}");
    let said = run(
        &docker,
        &spec(dir.path(), &docker, "ed", &format!("docker:{tag}")),
    )
    .await;
    assert!(said.contains("made of two layers"), "{said}");
    let said = run(
        &native,
        &spec(
            dir.path(),
            &native,
            "sn",
            &format!("docker-archive:{}", path.display()),
        ),
    )
    .await;
    assert!(said.contains("made of two layers"), "{said}");
    docker_cli(&["rmi", &tag], None);
}

#[tokio::test]
async fn a_revision_keeps_its_image_whatever_the_tag_comes_to_mean() {
    let dir = common::directory();
    let backend = native(dir.path());
    let place = dir.path().join("layout");
    let first = layout(&place, &["read", "marker"]).finish("v1");
    let mut spec = spec(
        dir.path(),
        &backend,
        "pin",
        &format!("oci:{}:v1", place.display()),
    );
    backend.create(&spec).await.unwrap();
    fs::remove_dir_all(&place).unwrap();
    let second = layout(&place, &["read", "/proc/self/status"]).finish("v1");
    assert_ne!(first, second);
    backend.create(&spec).await.unwrap();
    assert_eq!(backend.image_digest(&spec.id).await.unwrap().to_string(), first);
    spec.revision = 2;
    backend.create(&spec).await.unwrap();
    assert_eq!(backend.image_digest(&spec.id).await.unwrap().to_string(), second);
    backend.destroy(&spec.id).await.unwrap();
}

#[tokio::test]
async fn an_image_that_is_not_what_its_digests_say_is_refused_and_leaves_nothing() {
    let dir = common::directory();
    let backend = native(dir.path());
    let place = dir.path().join("layout");
    layout(&place, &["read", "marker"]).finish("v1");
    let largest = fs::read_dir(place.join("blobs/sha256"))
        .unwrap()
        .flatten()
        .max_by_key(|entry| entry.metadata().unwrap().len())
        .unwrap()
        .path();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let spec = spec(dir.path(), &backend, "bad", &format!("oci:{}", place.display()));
    let error = backend.create(&spec).await.unwrap_err();
    assert!(
        matches!(error, CageError::Refused { .. } | CageError::Failed { .. }),
        "{error}"
    );
    assert_eq!(backend.observe(&spec.id).await.unwrap(), Observed::Absent);
    assert_eq!(
        fs::read_dir(dir.path().join("state/images/oci")).unwrap().count(),
        0,
        "half an image is left"
    );
}

#[tokio::test]
async fn a_registry_is_pulled_from_with_the_protocol_that_it_speaks() {
    let dir = common::directory();
    let registry = Registry::start(dir.path());
    let place = dir.path().join("layout");
    let layout = layout(&place, &["read", "marker"]);
    let digest = layout.finish("v1");
    registry.push(&place, "team/agent", "v1");
    let backend = native(dir.path());
    let host = format!("127.0.0.1:{}", registry.port);
    for (name, image) in [
        ("tag", format!("{host}/team/agent:v1")),
        ("dig", format!("{host}/team/agent@{digest}")),
    ] {
        let said = run(&backend, &spec(dir.path(), &backend, name, &image)).await;
        assert!(said.contains("made of two layers"), "{said}");
    }
    for (image, words) in [
        (format!("{host}/team/other:v1"), "404"),
        (format!("{host}/team/agent@sha256:{}", "0".repeat(64)), "404"),
        ("127.0.0.1:1/team/agent".to_owned(), "cannot be reached"),
    ] {
        let error = backend
            .create(&spec(dir.path(), &backend, "no", &image))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_volume_of_the_engine_belongs_to_the_images_own_user() {
    let dir = common::directory();
    let config = DockerConfig {
        host: Some(engine_host()),
        claw: common::program("claw"),
    };
    // Without a directory of ours, `/data` is a volume of the engine's.
    let backend = Docker::connect(config).await.unwrap();
    let place = dir.path().join("layout");
    layout(&place, &["write", "/data/own", "x"]).finish("v1");
    let image = format!("oci:{}:v1", place.display());
    run(&backend, &spec(dir.path(), &backend, "volume", &image)).await;
}

#[tokio::test]
async fn an_update_to_another_user_is_refused_where_data_would_be_out_of_its_reach() {
    let dir = common::directory();
    let backend = docker(dir.path()).await;
    let place = dir.path().join("layout");
    layout(&place, &["read", "marker"]).finish("v1");
    let update = spec(
        dir.path(),
        &backend,
        "user",
        &format!("oci:{}:v1", place.display()),
    );
    let before = CageSpec {
        image: Image::Builtin,
        ..update.clone()
    };
    backend.create(&before).await.unwrap();
    let error = backend
        .create(&CageSpec {
            revision: 2,
            ..update
        })
        .await
        .unwrap_err();
    backend.create(&before).await.unwrap();
    backend.destroy(&before.id).await.unwrap();
    let words = error.to_string();
    assert!(matches!(error, CageError::Refused { .. }), "{words}");
    assert!(
        words.contains("user 1234") && words.contains("user 65532"),
        "{words}"
    );
}

#[tokio::test]
async fn a_runtime_that_the_engine_does_not_have_is_refused_with_what_it_has() {
    let dir = common::directory();
    let backend = docker(dir.path()).await.with_runtime(Some("kata".to_owned()));
    let mut wanted = spec(dir.path(), &backend, "kata", "docker:none:1");
    wanted.image = Image::Builtin;
    let error = backend.create(&wanted).await.unwrap_err();
    assert!(matches!(error, CageError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("runc"), "{error}");
    let backend = docker(dir.path()).await.with_runtime(Some("runc".to_owned()));
    backend.create(&wanted).await.unwrap();
    backend.start(&wanted.id).await.unwrap();
    backend.destroy(&wanted.id).await.unwrap();
}

#[tokio::test]
async fn a_private_registry_is_pulled_from_with_the_credentials_of_the_host_and_not_without() {
    let (dir, other) = (common::directory(), common::directory());
    let file = dir.path().join("registries.json");
    let credentials = || Credentials::from_file(file.clone());
    // The test's engine has a loopback of its own.
    let cases: [(Box<dyn Backend>, Registry, &str, &str); 2] = [
        (
            Box::new(native(dir.path()).with_credentials(credentials())),
            Registry::private(dir.path(), &[]),
            "registries.json",
            "401",
        ),
        (
            Box::new(docker(dir.path()).await.with_credentials(credentials())),
            Registry::private(other.path(), &["nsenter", "--net=/run/netns/clawstaff-test"]),
            "no basic auth credentials",
            "unauthorized",
        ),
    ];
    let write = |name: &str, auth: &str| {
        fs::write(
            &file,
            serde_json::json!({ "auths": { name: { "auth": auth } } }).to_string(),
        )
        .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let place = dir.path().join("layout");
    // An engine pulls by itself, and those before 23 do not know zstd.
    layout_of(&place, &["read", "marker"], Layout::layer).finish("v1");
    // worker:secret, and worker:wrong
    let (good, bad) = ("d29ya2VyOnNlY3JldA==", "d29ya2VyOndyb25n");
    for (backend, registry, unknown, refused) in &cases {
        registry.push(&place, "team/agent", "v1");
        let host = format!("127.0.0.1:{}", registry.port);
        let image = format!("{host}/team/agent:v1");
        for (name, auth, words) in [("other.example", good, unknown), (host.as_str(), bad, refused)] {
            write(name, auth);
            let wanted = spec(dir.path(), backend.as_ref(), "no", &image);
            let error = backend.create(&wanted).await.unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains(auth), "{error}");
        }
        write(&host, good);
        let said = run(
            backend.as_ref(),
            &spec(dir.path(), backend.as_ref(), "private", &image),
        )
        .await;
        assert!(said.contains("made of two layers"), "{said}");
    }
}

fn docker_cli(args: &[&str], input: Option<&[u8]>) -> Vec<u8> {
    let mut child = Command::new("docker")
        .args(args)
        .env("DOCKER_HOST", engine_host())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("docker: {error}; run `scripts/setup.sh`"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "docker {args:?}");
    output.stdout
}

/// Debian's `docker-registry`, on a free port of this host.
struct Registry {
    child: Child,
    port: u16,
    /// What starts programs where it is.
    within: &'static [&'static str],
    user: Option<&'static str>,
}

impl Registry {
    fn start(dir: &Path) -> Self {
        Self::configured(dir, "", &[])
    }

    /// One that wants the name `worker` and the password `secret`.
    fn private(dir: &Path, within: &'static [&'static str]) -> Self {
        // bcrypt, made with `htpasswd -nbB worker secret`.
        fs::write(
            dir.join("htpasswd"),
            "worker:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n",
        )
        .unwrap();
        let path = dir.join("htpasswd");
        let mut registry = Self::configured(
            dir,
            &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path.display()),
            within,
        );
        registry.user = Some("worker:secret");
        registry
    }

    fn configured(dir: &Path, more: &str, within: &'static [&'static str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = dir.join("registry.yml");
        let storage: PathBuf = dir.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: 127.0.0.1:{port}}}\n{more}",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let mut child = command(within, "docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry: {error}; run `scripts/setup.sh`"));
        server::until_it_says(&mut child, &format!("listening on 127.0.0.1:{port}"));
        Self {
            child,
            port,
            within,
            user: None,
        }
    }

    /// Pushes every blob and the manifest, as the protocol has it.
    fn push(&self, layout: &Path, repository: &str, tag: &str) {
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten() {
            let digest = format!("sha256:{}", blob.file_name().to_string_lossy());
            if digest != manifest {
                let base = format!("http://127.0.0.1:{}", self.port);
                let started = self.curl(&[
                    "-X",
                    "POST",
                    "-D",
                    "-",
                    &format!("{base}/v2/{repository}/blobs/uploads/"),
                ]);
                let location = started
                    .lines()
                    .find_map(|line| line.strip_prefix("Location: "))
                    .unwrap_or_else(|| panic!("{started}"))
                    .trim()
                    .to_owned();
                let file = format!("@{}", blob.path().display());
                let joint = if location.contains('?') { '&' } else { '?' };
                let kind = "Content-Type: application/octet-stream";
                self.curl(&[
                    "-X",
                    "PUT",
                    "-H",
                    kind,
                    "--data-binary",
                    &file,
                    &format!("{location}{joint}digest={digest}"),
                ]);
            }
        }
        let file = format!(
            "@{}",
            layout
                .join("blobs/sha256")
                .join(&manifest["sha256:".len()..])
                .display()
        );
        let url = format!("http://127.0.0.1:{}/v2/{repository}/manifests/{tag}", self.port);
        let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
        self.curl(&["-X", "PUT", "-H", kind, "--data-binary", &file, &url]);
    }

    fn curl(&self, args: &[&str]) -> String {
        let user = self.user.map(|user| ["--user", user]);
        let words = user.iter().flatten().copied().chain(args.iter().copied());
        curl(self.within, &words.collect::<Vec<_>>())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(within: &[&str], program: &str) -> Command {
    match within {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

fn curl(within: &[&str], args: &[&str]) -> String {
    let output = command(within, "curl")
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("curl: {error}; run `scripts/setup.sh`"));
    assert!(
        output.status.success(),
        "curl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
