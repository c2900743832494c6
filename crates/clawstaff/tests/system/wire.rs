//! Everything that passes a host's network, captured, put together and decrypted with the keys that the node logged.
//!
//! Frames are read from a packet socket (packet(7)); TLS 1.3 is undone as RFC 8446 sections 5 and 7 say, with
//! nothing of the software that is tested.

use std::{
    collections::{BTreeMap, HashMap},
    io::ErrorKind,
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA384, KeyType, Prk},
};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt},
};

use super::hosts::Host;

const FRAME: usize = 128 << 10;
/// `ETH_P_ALL` in network order.
const EVERYTHING: u32 = 0x0003_u16.to_be() as u32;

/// A capture under way.
pub(crate) struct Capture {
    stop: Arc<AtomicBool>,
    reading: JoinHandle<Vec<Vec<u8>>>,
}

impl Capture {
    /// Captures all frames of a host until [`Capture::end`].
    pub(crate) fn of(host: &Host) -> Self {
        let socket: OwnedFd = host.inside(|| {
            let protocol = Protocol::from_raw(NonZeroU32::new(EVERYTHING).unwrap());
            let socket = socket_with(
                AddressFamily::PACKET,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                Some(protocol),
            )
            .unwrap();
            sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20).unwrap();
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(200)))
                .unwrap();
            socket
        });
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let reading = std::thread::spawn(move || {
            let (mut frames, mut buffer) = (Vec::new(), vec![0; FRAME]);
            loop {
                match recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                    Ok((length, _)) => frames.push(buffer[..length].to_vec()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock && until.load(Ordering::SeqCst) => {
                        return frames;
                    }
                    Err(_) => {}
                }
            }
        });
        Self { stop, reading }
    }

    /// What passed, frame by frame.
    pub(crate) fn end(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::SeqCst);
        self.reading.join().unwrap()
    }
}

/// One direction of a TCP connection.
type Way = ([u8; 4], u16, [u8; 4], u16);
/// Where it begins, and what was sent by distance from there.
type Pieces = (Option<u32>, BTreeMap<u32, Vec<u8>>);

/// The bytes of each direction of each TCP connection over IPv4, in order.
fn streams(frames: &[Vec<u8>]) -> HashMap<Way, Vec<u8>> {
    let mut pieces: HashMap<Way, Pieces> = HashMap::new();
    for frame in frames {
        let Some(packet) = frame.get(14..).filter(|_| frame[12..14] == [8, 0]) else {
            continue;
        };
        if packet.get(9) != Some(&6) {
            continue;
        }
        let header = usize::from(packet[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let packet = if total == 0 {
            packet
        } else {
            &packet[..total.min(packet.len())]
        };
        let segment = &packet[header..];
        let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        let way = (
            packet[12..16].try_into().unwrap(),
            port(0),
            packet[16..20].try_into().unwrap(),
            port(2),
        );
        let number = u32::from_be_bytes(segment[4..8].try_into().unwrap());
        let payload = &segment[usize::from(segment[12] >> 4) * 4..];
        let (first, all) = pieces.entry(way).or_default();
        if segment[13] & 2 != 0 {
            *first = Some(number.wrapping_add(1));
        } else if let Some(first) = first.filter(|_| !payload.is_empty()) {
            all.entry(number.wrapping_sub(first))
                .or_insert_with(|| payload.to_vec());
        }
    }
    let joined = pieces.into_iter().map(|(way, (_, all))| {
        let mut bytes = Vec::new();
        for (offset, piece) in all {
            let known = bytes.len().saturating_sub(offset as usize);
            bytes.extend_from_slice(piece.get(known..).unwrap_or_default());
        }
        (way, bytes)
    });
    joined.collect()
}

/// What was said inside TLS, and how many connections were read to their end.
pub(crate) fn decrypted(frames: &[Vec<u8>], key_log: &Path) -> (Vec<u8>, usize) {
    let secrets = secrets(key_log);
    let streams = streams(frames);
    let (mut said, mut connections) = (Vec::new(), 0);
    for (way, from_client) in &streams {
        // A handshake record with a ClientHello: its random names the connection in the key log.
        if from_client.len() < 43 || from_client[0] != 22 || from_client[5] != 1 {
            continue;
        }
        let Some(keys) = secrets.get(&from_client[11..43]) else {
            continue;
        };
        let back = (way.2, way.3, way.0, way.1);
        for (side, bytes) in [("CLIENT", Some(from_client)), ("SERVER", streams.get(&back))] {
            said.extend(read_side(bytes.unwrap(), side, keys));
        }
        connections += 1;
    }
    (said, connections)
}

fn secrets(key_log: &Path) -> HashMap<Vec<u8>, HashMap<String, Vec<u8>>> {
    let mut all: HashMap<Vec<u8>, HashMap<String, Vec<u8>>> = HashMap::new();
    for line in std::fs::read_to_string(key_log).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let random = hex::decode(words[1]).unwrap();
        all.entry(random)
            .or_default()
            .insert(words[0].to_owned(), hex::decode(words[2]).unwrap());
    }
    all
}

/// The application data of one side, in plain.
fn read_side(bytes: &[u8], side: &str, secrets: &HashMap<String, Vec<u8>>) -> Vec<u8> {
    let mut key = Key::of(&secrets[&format!("{side}_HANDSHAKE_TRAFFIC_SECRET")]);
    let (mut said, mut rest) = (Vec::new(), bytes);
    while rest.len() >= 5 {
        let length = usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        let Some(record) = rest.get(..5 + length) else {
            break;
        };
        rest = &rest[5 + length..];
        if record[0] != 23 {
            continue;
        }
        let mut inner = key.open(record);
        while inner.last() == Some(&0) {
            inner.pop();
        }
        match inner.pop() {
            Some(23) => said.extend(inner),
            // The last message of the handshake is Finished (20), after which the keys change.
            Some(22) if finishes(&inner) => key = Key::of(&secrets[&format!("{side}_TRAFFIC_SECRET_0")]),
            _ => {}
        }
    }
    said
}

fn finishes(mut messages: &[u8]) -> bool {
    while messages.len() >= 4 {
        if messages[0] == 20 {
            return true;
        }
        let length = u32::from_be_bytes([0, messages[1], messages[2], messages[3]]) as usize;
        messages = messages.get(4 + length..).unwrap_or_default();
    }
    false
}

/// The keys of one direction for one epoch: AES-256-GCM with SHA-384, which both sides of ours choose.
struct Key {
    opens: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

struct Length(usize);
impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    fn of(secret: &[u8]) -> Self {
        let prk = Prk::new_less_safe(HKDF_SHA384, secret);
        let expand = |label: &str, out: &mut [u8]| {
            let label = format!("tls13 {label}");
            let length = u16::try_from(out.len()).unwrap().to_be_bytes();
            let info = [
                &length,
                &[u8::try_from(label.len()).unwrap()][..],
                label.as_bytes(),
                &[0],
            ];
            prk.expand(&info, Length(out.len())).unwrap().fill(out).unwrap();
        };
        let (mut key, mut iv) = ([0; 32], [0; 12]);
        expand("key", &mut key);
        expand("iv", &mut iv);
        Self {
            opens: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap()),
            iv,
            sequence: 0,
        }
    }

    fn open(&mut self, record: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, counted) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= counted;
        }
        self.sequence += 1;
        let mut body = record[5..].to_vec();
        let aad = Aad::from(&record[..5]);
        let plain = self
            .opens
            .open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut body);
        plain.expect("a record that the logged keys do not open").to_vec()
    }
}
