//! The shim against a door made by the test, on addresses of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, UdpSocket, UnixListener, UnixStream},
    task::JoinSet,
};

use super::*;

/// A running shim and the door it leads to.
struct Rig {
    _tasks: JoinSet<()>,
    _dir: TempDir,
    door: Option<UnixListener>,
    dns_udp: SocketAddr,
    dns_tcp: SocketAddr,
    doors: SocketAddr,
    proxy: SocketAddr,
    http_port: u16,
    https_port: u16,
}

async fn rig(with_door: bool) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("door.sock");
    let door = with_door.then(|| UnixListener::bind(&path).unwrap());
    let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let everywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let shim = Shim::bind(&Addresses {
        dns: any_port,
        doors: any_port,
        proxy: any_port,
        http: everywhere,
        https: everywhere,
    })
    .await
    .unwrap();
    let at: Vec<SocketAddr> = shim
        .streams
        .iter()
        .map(|(listener, _)| listener.local_addr().unwrap())
        .collect();
    Rig {
        dns_udp: shim.dns_udp[0].local_addr().unwrap(),
        dns_tcp: shim.dns_tcp[0].local_addr().unwrap(),
        doors: at[0],
        proxy: at[1],
        http_port: at[2].port(),
        https_port: at[3].port(),
        door,
        _tasks: shim.serve(path),
        _dir: dir,
    }
}

impl Rig {
    /// Accepts at the door and reads the opening line.
    async fn accept(&self) -> (String, BufReader<UnixStream>) {
        let (stream, _) = self.door.as_ref().unwrap().accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        (line, stream)
    }

    async fn resolve(&self, name: &str) -> Ipv4Addr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&question(name), self.dns_udp).await.unwrap();
        let mut reply = [0; 512];
        let len = socket.recv(&mut reply).await.unwrap();
        address(&reply[..len])
    }
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn address(reply: &[u8]) -> Ipv4Addr {
    match Message::from_vec(reply).unwrap().answers[0].data {
        RData::A(a) => a.0,
        ref other => panic!("not an address: {other}"),
    }
}

#[tokio::test]
async fn a_connection_to_a_looked_up_name_arrives_with_the_name() {
    let rig = rig(true).await;
    let address = rig.resolve("api.github.com.").await;
    let mut inside = TcpStream::connect((address, rig.https_port)).await.unwrap();
    inside.write_all(b"hello").await.unwrap();
    let (line, mut outside) = rig.accept().await;
    assert_eq!(line, "CLAW/1 name api.github.com 443\n");
    let mut hello = [0; 5];
    outside.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
}

#[tokio::test]
async fn an_address_that_stands_for_no_name_arrives_as_itself() {
    let rig = rig(true).await;
    let _inside = TcpStream::connect(("127.9.9.9", rig.http_port)).await.unwrap();
    assert_eq!(rig.accept().await.0, "CLAW/1 name 127.9.9.9 80\n");
}

#[tokio::test]
async fn doors_and_proxy_say_what_they_are() {
    let rig = rig(true).await;
    let _doors = TcpStream::connect(rig.doors).await.unwrap();
    assert_eq!(rig.accept().await.0, "CLAW/1 doors\n");
    let _proxy = TcpStream::connect(rig.proxy).await.unwrap();
    assert_eq!(rig.accept().await.0, "CLAW/1 proxy\n");
}

#[tokio::test]
async fn each_side_may_finish_speaking_before_the_other() {
    let rig = rig(true).await;
    let mut inside = TcpStream::connect(rig.doors).await.unwrap();
    inside.write_all(b"question").await.unwrap();
    inside.shutdown().await.unwrap();
    let (_, mut outside) = rig.accept().await;
    let mut question = String::new();
    outside.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    outside.write_all(b"answer").await.unwrap();
    outside.shutdown().await.unwrap();
    let mut answer = String::new();
    inside.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn without_a_door_connections_close_at_once() {
    let rig = rig(false).await;
    let mut inside = TcpStream::connect(rig.doors).await.unwrap();
    let mut byte = [0; 1];
    assert!(matches!(inside.read(&mut byte).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn one_connection_too_many_closes_at_once_and_a_place_comes_free_again() {
    let rig = rig(true).await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let inside = TcpStream::connect(rig.doors).await.unwrap();
        held.push((inside, rig.accept().await));
    }
    let mut extra = TcpStream::connect(rig.doors).await.unwrap();
    let mut byte = [0; 1];
    assert!(matches!(extra.read(&mut byte).await, Ok(0) | Err(_)));
    let (mut inside, (_, outside)) = held.pop().unwrap();
    drop(outside);
    assert_eq!(inside.read(&mut byte).await.unwrap(), 0);
    drop(inside);
    loop {
        let mut again = TcpStream::connect(rig.doors).await.unwrap();
        let reached = tokio::select! {
            (line, _) = rig.accept() => line == "CLAW/1 doors\n",
            _closed = again.read(&mut byte) => false,
        };
        if reached {
            break;
        }
    }
}

#[tokio::test]
async fn dns_answers_over_tcp_as_well_many_times_on_one_connection() {
    let rig = rig(true).await;
    let mut stream = TcpStream::connect(rig.dns_tcp).await.unwrap();
    for (name, expected) in [("a.com.", [127, 64, 0, 1]), ("b.com.", [127, 64, 0, 2])] {
        let question = question(name);
        stream
            .write_u16(u16::try_from(question.len()).unwrap())
            .await
            .unwrap();
        stream.write_all(&question).await.unwrap();
        let len = stream.read_u16().await.unwrap();
        let mut reply = vec![0; usize::from(len)];
        stream.read_exact(&mut reply).await.unwrap();
        assert_eq!(address(&reply), Ipv4Addr::from(expected));
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_in_the_error() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let error = Shim::bind(&Addresses {
        dns: any_port,
        doors: address,
        proxy: any_port,
        http: any_port,
        https: any_port,
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("the doors"), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
