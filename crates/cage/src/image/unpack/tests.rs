//! Layers that are meant to break out, and layers that are merely odd: whatever they say, nothing outside changes.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::{collection::vec, prelude::*};
use tar::{Builder, Header};

use super::*;

/// One entry as a hostile builder would write it: nothing checks the name.
#[derive(Debug, Clone)]
struct Raw {
    kind: EntryType,
    name: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    content: Vec<u8>,
}

fn raw(kind: EntryType, name: &str, link: &str) -> Raw {
    Raw {
        kind,
        name: name.into(),
        link: link.into(),
        mode: 0o6755,
        content: if kind == EntryType::Regular {
            b"content".to_vec()
        } else {
            Vec::new()
        },
    }
}

fn file(name: &str) -> Raw {
    raw(EntryType::Regular, name, "")
}

fn layer(entries: &[Raw]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        let fields = header.as_old_mut();
        for (to, from) in fields.name.iter_mut().zip(&entry.name) {
            *to = *from;
        }
        for (to, from) in fields.linkname.iter_mut().zip(&entry.link) {
            *to = *from;
        }
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        header.set_mtime(1);
        header.set_cksum();
        tar.append(&header, entry.content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// A directory with something beside it that must stay as it is.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/canary"), "alive").unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("work/root")
    }

    fn unpack(&self, layers: &[Vec<u8>], bounds: Bounds) -> Result<(), ImageError> {
        let mut unpacker = Unpacker::new(&self.dir.path().join("work"), bounds)?;
        layers
            .iter()
            .try_for_each(|layer| unpacker.layer(layer.as_slice()))
    }

    fn outside_is_untouched(&self) -> bool {
        let names = |dir: &Path| {
            fs::read_dir(dir)
                .unwrap()
                .flatten()
                .map(|entry| entry.file_name())
                .collect::<Vec<_>>()
        };
        names(&self.dir.path().join("outside")) == ["canary"]
            && fs::read(self.dir.path().join("outside/canary")).unwrap() == b"alive"
            && names(self.dir.path()).len() == 2
            && names(&self.dir.path().join("work")).len() == 2
    }
}

fn unpacked(layers: &[Vec<Raw>]) -> Place {
    let place = Place::new();
    let layers: Vec<_> = layers.iter().map(|entries| layer(entries)).collect();
    place.unpack(&layers, Bounds::default()).unwrap();
    place
}

fn refusal(entries: &[Raw]) -> String {
    let place = Place::new();
    let error = place.unpack(&[layer(entries)], Bounds::default()).unwrap_err();
    assert!(place.outside_is_untouched());
    error.to_string()
}

#[test]
fn a_later_layer_replaces_hides_and_clears_what_earlier_ones_have() {
    let first = ["a/one", "a/two", "b/one", "b/deep/two", "c"].map(file).to_vec();
    let second = vec![
        file("a/.wh.one"),
        file("b/new"),
        file("b/.wh..wh..opq"),
        raw(EntryType::Directory, "c", ""),
        file("c/inner"),
        file("gone/.wh.never"),
    ];
    let place = unpacked(&[first, second]);
    let root = place.root();
    let there = |name: &str| fs::symlink_metadata(root.join(name)).is_ok();
    assert!(there("a/two") && !there("a/one") && !there("a/.wh.one"));
    assert!(there("b/new") && !there("b/one") && !there("b/deep"));
    assert!(root.join("c/inner").is_file());
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        "../outside/canary",
        "a/../../outside/x",
        "/etc/passwd",
        "..",
        "a/..",
    ] {
        assert!(refusal(&[file(name)]).contains("leads out"), "{name}");
    }
    let to_canary = raw(EntryType::Link, "copy", "../outside/canary");
    assert!(refusal(&[to_canary]).contains("leads out"));
}

#[test]
fn a_link_never_carries_a_file_out() {
    for target in ["../outside", "../../outside", "/outside"] {
        let entries = [raw(EntryType::Symlink, "way", target), file("way/canary")];
        let place = Place::new();
        let _ = place.unpack(&[layer(&entries)], Bounds::default());
        assert!(place.outside_is_untouched(), "{target}");
    }
    // A link as the last part of a name is replaced, never written through.
    let place = unpacked(&[vec![
        raw(EntryType::Symlink, "passwd", "../../outside/canary"),
        file("passwd"),
    ]]);
    assert!(place.outside_is_untouched());
    assert!(
        fs::symlink_metadata(place.root().join("passwd"))
            .unwrap()
            .is_file()
    );
    // A hard link to a link is a second link.
    let entries = [
        raw(EntryType::Symlink, "a", "../../outside/canary"),
        raw(EntryType::Link, "b", "a"),
    ];
    assert!(unpacked(&[entries.to_vec()]).outside_is_untouched());
}

#[test]
fn links_within_the_image_work_as_they_will_in_the_cage() {
    let place = unpacked(&[vec![
        raw(EntryType::Directory, "usr/lib", ""),
        raw(EntryType::Symlink, "lib", "/usr/lib"),
        file("lib/so"),
        raw(EntryType::Link, "usr/lib/so.1", "lib/so"),
    ]]);
    let (one, two) = (place.root().join("usr/lib/so"), place.root().join("usr/lib/so.1"));
    assert_eq!(one.metadata().unwrap().ino(), two.metadata().unwrap().ino());
}

#[test]
fn device_nodes_and_pipes_are_refused_and_left_out_below_dev() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        assert!(refusal(&[raw(kind, "tmp/x", "")]).contains("device node"));
        let place = unpacked(&[vec![raw(kind, "dev/x", "")]]);
        assert!(!place.root().join("dev/x").exists());
    }
}

#[test]
fn no_file_lends_rights_and_the_one_user_of_a_cage_can_read_all() {
    let mut secret = file("etc/shadow");
    secret.mode = 0o4600;
    let mut dir = raw(EntryType::Directory, "home/node", "");
    dir.mode = 0o2700;
    let place = unpacked(&[vec![secret, dir]]);
    let root = place.root();
    let mode = |name: &str| root.join(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("etc/shadow"), mode("home/node")), (0o644, 0o755));
}

#[test]
fn too_much_is_refused_before_it_is_written() {
    let place = Place::new();
    let bounds = Bounds {
        bytes: 10,
        entries: 100,
    };
    let error = place
        .unpack(&[layer(&[file("a"), file("b")])], bounds)
        .unwrap_err();
    assert!(error.to_string().contains("more bytes"), "{error}");
    assert!(!place.root().join("b").exists());
    let place = Place::new();
    let bounds = Bounds {
        bytes: 1 << 20,
        entries: 2,
    };
    let many = ["a", "b", "c"].map(file);
    assert!(
        place
            .unpack(&[layer(&many)], bounds)
            .unwrap_err()
            .to_string()
            .contains("more entries")
    );
}

#[test]
fn a_layer_that_ends_in_the_middle_is_an_error() {
    let whole = layer(&[file("a")]);
    let place = Place::new();
    assert!(place.unpack(&[whole[..515].to_vec()], Bounds::default()).is_err());
    let mut sparse = file("a");
    sparse.kind = EntryType::GNUSparse;
    assert!(refusal(&[sparse]).contains("no use"));
}

#[test]
fn long_names_of_both_kinds_are_read_and_bounded() {
    let long = format!("{}/file", "d".repeat(120));
    let mut tar = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    tar.append_data(&mut header, &long, &b"ok"[..]).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o644);
    tar.append_pax_extensions([("path", b"pax/name".as_slice())])
        .unwrap();
    tar.append_data(&mut header, "short", &b"pax"[..]).unwrap();
    let place = Place::new();
    place
        .unpack(&[tar.into_inner().unwrap()], Bounds::default())
        .unwrap();
    assert_eq!(fs::read(place.root().join(long)).unwrap(), b"ok");
    assert_eq!(fs::read(place.root().join("pax/name")).unwrap(), b"pax");
    let mut endless = file("x");
    endless.kind = EntryType::GNULongName;
    endless.content = vec![b'a'; 5000];
    assert!(refusal(&[endless]).contains("too long"));
}

/// The kernel is what holds links back: this shows that the test would notice if it did not.
#[test]
fn the_canary_can_die() {
    let place = Place::new();
    symlink("../outside", place.dir.path().join("work/way")).unwrap();
    fs::write(place.dir.path().join("work/way/new"), "x").unwrap();
    assert!(!place.outside_is_untouched());
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just("c"),
        Just(".."),
        Just("."),
        Just(""),
        Just("dev"),
        Just("outside"),
        Just("canary"),
        Just(".wh.a"),
        Just(".wh..wh..opq"),
        Just(".wh..."),
        Just("\u{e9}"),
    ];
    vec(part, 0..6).prop_map(|parts| parts.join("/").into_bytes())
}

prop_compose! {
    fn any_entry()(
        kind in prop_oneof![
            4 => Just(EntryType::Regular), 3 => Just(EntryType::Directory), 4 => Just(EntryType::Symlink),
            2 => Just(EntryType::Link), 1 => Just(EntryType::Char), 1 => Just(EntryType::Fifo),
            1 => Just(EntryType::XHeader), 1 => Just(EntryType::GNULongName), 1 => any::<u8>().prop_map(EntryType::new),
        ],
        name in any_name(),
        link in any_name(),
        absolute: bool,
        mode in any::<u32>(),
        content in vec(any::<u8>(), 0..64),
    ) -> Raw {
        let link = if absolute { [b"/".as_slice(), &link].concat() } else { link };
        Raw { kind, name, link, mode: mode & 0o7777, content }
    }
}

/// Everything below a directory, links not followed.
fn walk(dir: &Path, found: &mut Vec<fs::Metadata>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            walk(&entry.path(), found);
        }
        found.push(metadata);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_layers_say_nothing_outside_changes_and_nothing_inside_lends_rights(
        layers in vec(vec(any_entry(), 0..12), 1..4),
    ) {
        let place = Place::new();
        let layers: Vec<_> = layers.iter().map(|entries| layer(entries)).collect();
        let _ = place.unpack(&layers, Bounds::default());
        prop_assert!(place.outside_is_untouched());
        let mut found = Vec::new();
        walk(&place.root(), &mut found);
        for metadata in found {
            prop_assert!(metadata.is_file() || metadata.is_dir() || metadata.is_symlink());
            prop_assert!(metadata.is_symlink() || metadata.permissions().mode() & 0o7000 == 0);
        }
    }

    #[test]
    fn bytes_that_are_no_layer_do_no_harm(bytes in vec(any::<u8>(), 0..2048), at in 0usize..1024, entries in vec(any_entry(), 1..4)) {
        let mut damaged = layer(&entries);
        for (to, from) in damaged.iter_mut().skip(at).zip(&bytes) {
            *to = *from;
        }
        for layer in [bytes, damaged] {
            let place = Place::new();
            let _ = place.unpack(&[layer], Bounds::default());
            prop_assert!(place.outside_is_untouched());
        }
    }
}
