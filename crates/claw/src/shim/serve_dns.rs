//! Carries DNS messages between sockets and [`super::dns::answer`], over UDP and TCP (RFC 7766).

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use super::{Names, dns, pipe::pause_after};

/// The longest question that is read, in bytes.
const MAX_QUESTION: usize = 2048;
/// TCP connections at one time.
const MAX_CONNECTIONS: usize = 16;
/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// Answers UDP questions for ever.
pub(super) async fn udp(socket: UdpSocket, names: Names) {
    let mut question = vec![0; MAX_QUESTION];
    loop {
        let (len, from) = match socket.recv_from(&mut question).await {
            Ok(received) => received,
            Err(error) => {
                pause_after("receiving a DNS question", &error).await;
                continue;
            }
        };
        if let Some(reply) = answer(question.get(..len).unwrap_or_default(), &names) {
            // Whoever has gone away does not need the answer.
            let _sent = socket.send_to(&reply, from).await;
        }
    }
}

/// Answers questions over TCP for ever.
pub(super) async fn tcp(listener: TcpListener, names: Names) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                    let names = Names::clone(&names);
                    tokio::spawn(async move {
                        let _slot = slot;
                        converse(stream, names).await;
                    });
                }
            }
            Err(error) => pause_after("accepting a DNS connection", &error).await,
        }
    }
}

async fn converse(mut stream: TcpStream, names: Names) {
    while let Ok(Some(question)) = timeout(IDLE, read_question(&mut stream)).await {
        let Some(reply) = answer(&question, &names) else {
            return;
        };
        let Ok(len) = u16::try_from(reply.len()) else {
            return;
        };
        let framed = [&len.to_be_bytes()[..], &reply].concat();
        if !matches!(timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn read_question(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let len = usize::from(stream.read_u16().await.ok()?);
    if len > MAX_QUESTION {
        return None;
    }
    let mut question = vec![0; len];
    stream.read_exact(&mut question).await.ok()?;
    Some(question)
}

fn answer(question: &[u8], names: &Names) -> Option<Vec<u8>> {
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    dns::answer(question, &mut names)
}
