//! One cage as a container description: every wall of it is a line in here.

use std::{collections::HashMap, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount, MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use clawstaff_types::Digest;

use super::{engine::Dialect, image::Ready, volume::Volumes};
use crate::{
    TMP_BYTES,
    backend::CageError,
    id::CageId,
    spec::{CageSpec, Image},
    storage,
};

/// Label: the cage's id.
pub(super) const CAGE: &str = "clawstaff.cage";
/// Label: whose cage it is among the installations on one engine.
pub(super) const OWNER: &str = "clawstaff.owner";
/// Labels: the image as the spec names it, and the spec's revision.
const REFERENCE: &str = "clawstaff.image";
const REVISION: &str = "clawstaff.revision";
/// Label: digest of the description, to notice that nothing changed.
const DIGEST: &str = "clawstaff.digest";
const SHM_BYTES: u64 = 16 << 20;

/// The engine's own list and what else in there speaks of the host or acts on it.
const MASKED: [&str; 27] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/partitions",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    // With cgroup v1 this is a writable tmpfs, kept from the cage by its owner alone.
    "/sys/fs/cgroup",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Refuses what this back end cannot make.
pub(super) fn admit(spec: &CageSpec) -> Result<(), CageError> {
    let refused = |why: &str| {
        Err(CageError::Refused {
            id: spec.id.clone(),
            why: why.to_owned(),
        })
    };
    if matches!(spec.image, Image::Directory(_)) {
        return refused("an image directory needs the native back end; this one takes images of its engine");
    }
    if !spec
        .command
        .first()
        .is_some_and(|program| program.starts_with('/'))
    {
        return refused("the command must start with an absolute path");
    }
    if spec.limits.storage.0 < storage::SMALLEST {
        return refused("`limits.storage` is below 8MiB");
    }
    if spec.limits.pids == 0 || spec.limits.milli_cpus < 10 || spec.limits.memory.0 < 6 << 20 {
        return refused("`limits` leave no room to run: memory from 6MiB, cpus from 0.01, pids from 1");
    }
    Ok(())
}

/// The whole description.
pub(super) fn body(
    spec: &CageSpec,
    image: &Ready,
    owner: &str,
    volumes: &Volumes,
    claw: &Path,
    dialect: &Dialect,
) -> Result<ContainerCreateBody, String> {
    let host = HostConfig {
        mounts: Some(mounts(spec, owner, volumes, claw)),
        ..host_config(spec, dialect)?
    };
    Ok(ContainerCreateBody {
        image: Some(image.name.clone()),
        hostname: Some(spec.claw.to_string()),
        user: Some(format!("{0}:{0}", image.run.uid())),
        // As the entry point, so that the image's own is out of the play: the init runs it.
        entrypoint: Some(spec.command_with(&image.run.command)),
        working_dir: Some(image.run.directory.clone().unwrap_or_else(|| "/data".to_owned())),
        env: Some(
            ["HOME=/data", "LANG=C.UTF-8", "TMPDIR=/tmp"]
                .map(str::to_owned)
                .to_vec(),
        ),
        tty: Some(false),
        open_stdin: Some(false),
        stop_signal: Some("SIGTERM".to_owned()),
        host_config: Some(host),
        labels: Some(HashMap::from([
            (CAGE.to_owned(), spec.id.to_string()),
            (OWNER.to_owned(), owner.to_owned()),
            ("clawstaff.claw".to_owned(), spec.claw.to_string()),
            (REVISION.to_owned(), spec.revision.to_string()),
            (REFERENCE.to_owned(), reference_of(spec)),
            (DIGEST.to_owned(), description_digest(spec, &image.name, dialect)?),
        ])),
        ..ContainerCreateBody::default()
    })
}

/// Changes with everything that the description is made of: the spec, the image, and this program.
fn description_digest(spec: &CageSpec, image: &str, dialect: &Dialect) -> Result<String, String> {
    let mut text = serde_json::to_vec(spec).map_err(|error| error.to_string())?;
    text.extend_from_slice(image.as_bytes());
    text.extend_from_slice(dialect.runtime.as_deref().unwrap_or_default().as_bytes());
    text.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    Ok(hex::encode(digest(&SHA256, &text)))
}

fn reference_of(spec: &CageSpec) -> String {
    match &spec.image {
        Image::Oci(reference) => reference.clone(),
        Image::Builtin | Image::Directory(_) => String::new(),
    }
}

/// The image that a container of the same revision was made from.
pub(super) fn image_of(found: &ContainerInspectResponse, spec: &CageSpec) -> Option<String> {
    let labels = found.config.as_ref()?.labels.as_ref()?;
    let same = labels.get(REVISION) == Some(&spec.revision.to_string())
        && labels.get(REFERENCE) == Some(&reference_of(spec));
    found.image.clone().filter(|_| same)
}

/// The image of a cage that has one of other people.
pub(super) fn image_digest(found: &ContainerInspectResponse) -> Option<Digest> {
    let labels = found.config.as_ref()?.labels.as_ref()?;
    labels.get(REFERENCE).filter(|reference| !reference.is_empty())?;
    found.image.as_ref()?.parse().ok()
}

/// Whether a container was made from this description.
pub(super) fn is_same(found: &ContainerInspectResponse, body: &ContainerCreateBody) -> bool {
    let has = found
        .config
        .as_ref()
        .and_then(|config| config.labels.as_ref()?.get(DIGEST));
    has.is_some() && has == body.labels.as_ref().and_then(|labels| labels.get(DIGEST))
}

fn host_config(spec: &CageSpec, dialect: &Dialect) -> Result<HostConfig, String> {
    let memory = i64::try_from(spec.limits.memory.0).map_err(|_| "`limits.memory` is beyond any machine")?;
    let texts = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let limit = |name: &str, most: i64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(most),
        hard: Some(most),
    };
    Ok(HostConfig {
        // The one wall that everything else leans on: no network but the container's own loopback.
        network_mode: Some("none".to_owned()),
        dns: texts(&["127.0.0.1"]),
        dns_search: texts(&["."]),
        readonly_rootfs: Some(true),
        runtime: dialect.runtime.clone(),
        privileged: Some(false),
        cap_drop: texts(&["ALL"]),
        security_opt: Some(security(dialect)),
        masked_paths: texts(&MASKED),
        readonly_paths: texts(&READ_ONLY),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        memory: Some(memory),
        // Memory and swap together: no swap beyond the memory.
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(spec.limits.milli_cpus) * 1_000_000),
        pids_limit: Some(i64::from(spec.limits.pids)),
        ulimits: Some(
            [
                ("nofile", Some(1024)),
                ("core", Some(0)),
                ("memlock", Some(64 << 10)),
                ("msgqueue", Some(0)),
                ("rtprio", Some(0)),
                ("nproc", dialect.processes),
            ]
            .into_iter()
            .filter_map(|(name, most)| Some(limit(name, most?)))
            .collect(),
        ),
        // A cage that ends stays ended until the runner says otherwise.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        init: Some(false),
        auto_remove: Some(false),
        tmpfs: Some(tmpfs(dialect)),
        // The shim listens on 53, 80 and 443 without a capability.
        sysctls: Some(HashMap::from([(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        )])),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "1m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    })
}

fn security(dialect: &Dialect) -> Vec<String> {
    let mut options = vec![
        "no-new-privileges:true".to_owned(),
        format!("seccomp={}", dialect.filter),
    ];
    if dialect.masks_by_option {
        options.push(format!("mask={}", MASKED.join(":")));
    }
    options
}

/// Each file costs the kernel memory that no size counts, hence the second number. `/dev/shm` is ours as well, because the
/// engine's own has no such number.
fn tmpfs(dialect: &Dialect) -> HashMap<String, String> {
    let open = [("/tmp", TMP_BYTES, "16k"), ("/dev/shm", SHM_BYTES, "1k")].map(|(at, bytes, files)| {
        let counted = if dialect.counts_files {
            format!(",nr_inodes={files}")
        } else {
            String::new()
        };
        let options = format!("rw,noexec,nosuid,nodev,size={bytes},mode=1777{counted}");
        (at.to_owned(), options)
    });
    let closed = dialect.closed.iter();
    let closed = closed.map(|at| ((*at).to_owned(), "ro,noexec,nosuid,nodev,size=4k".to_owned()));
    open.into_iter().chain(closed).collect()
}

fn mounts(spec: &CageSpec, owner: &str, volumes: &Volumes, claw: &Path) -> Vec<Mount> {
    // `Mount` and not `Binds`: a source that is missing is an error, not a new directory.
    let bind = |source: &Path, target: &str, read_only: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let mut mounts = vec![bind(&spec.door_dir, "/claw", true)];
    mounts.push(match volumes.data_of(&spec.id) {
        Some(directory) => bind(&directory, "/data", false),
        None => Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume_name(owner, &spec.id)),
            target: Some("/data".to_owned()),
            ..Mount::default()
        },
    });
    if matches!(spec.image, Image::Oci(_)) {
        // The init of every cage, whatever else the image has.
        mounts.push(bind(claw, "/sbin/claw", true));
    }
    mounts
}

/// The engine's name of the volume of a cage whose storage we cannot keep ourselves.
pub(super) fn volume_name(owner: &str, id: &CageId) -> String {
    format!("clawstaff-{owner}-{id}")
}
