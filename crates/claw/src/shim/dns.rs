//! What the cage's DNS responder answers. Pure: bytes and the name table in, bytes out.
//!
//! Every name exists and has one address of the cage's own; no question ever leaves the cage, so DNS carries
//! nothing out of it. Whether the name may be reached is said by the gateway, when it is connected to.
//! Message format: RFC 1035, section 4; EDNS: RFC 6891.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType, rdata::A},
};

use super::names::{HostName, NameTable};

/// How long software may keep an answer, in seconds.
const TTL: u32 = 60;
/// The UDP payload that an EDNS answer announces.
const EDNS_PAYLOAD: u16 = 1232;
/// Bytes of a DNS header.
const HEADER: usize = 12;

/// The answer to the message `query`, or nothing for what is not a question at all.
pub(crate) fn answer(query: &[u8], names: &mut NameTable) -> Option<Vec<u8>> {
    if is_response(query)? {
        return None;
    }
    let Ok(asked) = Message::from_vec(query) else {
        return format_error(query);
    };
    let mut response = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
    response.metadata = Metadata::response_from_request(&asked.metadata);
    response.metadata.recursion_available = true;
    fill(&mut response, &asked, names);
    response.to_vec().ok()
}

/// Reads the QR bit; nothing when there is not even a header.
fn is_response(message: &[u8]) -> Option<bool> {
    let header = message.get(..HEADER)?;
    header.get(2).map(|flags| flags & 0x80 != 0)
}

fn format_error(query: &[u8]) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes([*query.first()?, *query.get(1)?]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)
        .to_vec()
        .ok()
}

fn fill(response: &mut Message, asked: &Message, names: &mut NameTable) {
    if let Some(edns) = &asked.edns {
        let mut ours = Edns::new();
        ours.set_max_payload(EDNS_PAYLOAD);
        response.set_edns(ours);
        if edns.version() > 0 {
            set_code(response, ResponseCode::BADVERS);
            return;
        }
    }
    if asked.metadata.op_code != OpCode::Query {
        set_code(response, ResponseCode::NotImp);
        return;
    }
    match asked.queries.as_slice() {
        [query] => {
            response.add_query(query.clone());
            answer_query(response, query, names);
        }
        _ => set_code(response, ResponseCode::FormErr),
    }
}

fn answer_query(response: &mut Message, query: &Query, names: &mut NameTable) {
    if query.query_class() != DNSClass::IN {
        return set_code(response, ResponseCode::Refused);
    }
    let Some(name) = HostName::parse(&query.name().to_ascii()) else {
        return set_code(response, ResponseCode::NXDomain);
    };
    if query.query_type() == RecordType::A {
        let address = if name.is_localhost() {
            Ipv4Addr::LOCALHOST
        } else {
            names.address_of(&name)
        };
        response.add_answer(Record::from_rdata(
            query.name().clone(),
            TTL,
            RData::A(A(address)),
        ));
    }
}

fn set_code(response: &mut Message, code: ResponseCode) {
    response.metadata.response_code = code;
    if let Some(edns) = response.edns.as_mut() {
        edns.set_rcode_high(code.high());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    fn ask(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn reply(names: &mut NameTable, message: &Message) -> Message {
        let bytes = answer(&message.to_vec().unwrap(), names).unwrap();
        assert!(bytes.len() <= 512, "an answer fits in the smallest UDP message");
        Message::from_vec(&bytes).unwrap()
    }

    fn addresses(message: &Message) -> Vec<Ipv4Addr> {
        let address = |record: &Record| match record.data {
            RData::A(A(address)) => address,
            _ => panic!("not an A record: {record}"),
        };
        message.answers.iter().map(address).collect()
    }

    #[test]
    fn every_name_gets_its_own_stable_address() {
        let mut names = NameTable::default();
        let first = reply(&mut names, &ask("Slack.com.", RecordType::A));
        assert_eq!(first.metadata.id, 7);
        assert_eq!(addresses(&first), [Ipv4Addr::new(127, 64, 0, 1)]);
        let other = reply(&mut names, &ask("files.slack.com.", RecordType::A));
        assert_eq!(addresses(&other), [Ipv4Addr::new(127, 64, 0, 2)]);
        let again = reply(&mut names, &ask("slack.COM.", RecordType::A));
        assert_eq!(addresses(&again), [Ipv4Addr::new(127, 64, 0, 1)]);
    }

    #[test]
    fn the_question_comes_back_in_the_case_it_was_asked_in() {
        let question = ask("SlAcK.cOm.", RecordType::A);
        let answer = reply(&mut NameTable::default(), &question);
        assert_eq!(answer.queries[0].name().to_ascii(), "SlAcK.cOm.");
    }

    #[test]
    fn names_have_no_other_records() {
        for kind in [
            RecordType::AAAA,
            RecordType::HTTPS,
            RecordType::SVCB,
            RecordType::TXT,
            RecordType::ANY,
        ] {
            let answer = reply(&mut NameTable::default(), &ask("slack.com.", kind));
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{kind}");
            assert!(answer.answers.is_empty(), "{kind}");
        }
    }

    #[test]
    fn localhost_is_the_cage_itself() {
        let answer = reply(&mut NameTable::default(), &ask("localhost.", RecordType::A));
        assert_eq!(addresses(&answer), [Ipv4Addr::LOCALHOST]);
    }

    #[test]
    fn names_that_no_connection_could_carry_do_not_exist() {
        for labels in [vec![], vec!["a.b", "com"], vec!["a b", "com"], vec!["\u{7}"]] {
            let name = Name::from_labels(labels.iter().map(|label| label.as_bytes())).unwrap();
            let mut message = Message::new(7, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(name, RecordType::A));
            let answer = reply(&mut NameTable::default(), &message);
            assert_eq!(
                answer.metadata.response_code,
                ResponseCode::NXDomain,
                "{labels:?}"
            );
        }
    }

    #[test]
    fn a_message_without_exactly_one_question_is_a_format_error() {
        let mut message = ask("a.com.", RecordType::A);
        message.add_query(Query::query(Name::from_ascii("b.com.").unwrap(), RecordType::A));
        let answer = reply(&mut NameTable::default(), &message);
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    }

    /// The type of a record is its reader's affair, known to us or not.
    #[test]
    fn types_that_nobody_knows_have_no_records() {
        for kind in [0, 250, 260, 65280, 65535] {
            let answer = reply(
                &mut NameTable::default(),
                &ask("slack.com.", RecordType::from(kind)),
            );
            assert!(answer.answers.is_empty(), "{kind}");
        }
    }

    #[test]
    fn pointers_that_lead_in_a_circle_or_out_of_the_message_are_a_format_error() {
        let header = [0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for name in [
            &[0xC0, 0x0C][..],
            &[1, b'a', 0xC0, 0x0C],
            &[0xFF, 0xFF],
            &[0xC0, 0x00],
            &[0x40, b'a', 0],
            &[63, b'a'],
        ] {
            let bytes = [&header[..], name, &[0, 1, 0, 1]].concat();
            let mut names = NameTable::default();
            let answer = Message::from_vec(&answer(&bytes, &mut names).unwrap()).unwrap();
            assert!(answer.answers.is_empty(), "{name:?}");
            assert_ne!(answer.metadata.response_code, ResponseCode::NoError, "{name:?}");
        }
    }

    #[test]
    fn the_longest_message_is_answered_shortly() {
        let mut bytes = vec![0; 65_535];
        bytes[..6].copy_from_slice(&[0xAB, 0xCD, 1, 0, 0xFF, 0xFF]);
        let answer = answer(&bytes, &mut NameTable::default()).unwrap();
        assert!(answer.len() <= 512);
    }

    #[test]
    fn bytes_after_a_header_that_make_no_message_are_a_format_error() {
        let bytes = [0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xFF];
        let answer = Message::from_vec(&answer(&bytes, &mut NameTable::default()).unwrap()).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        assert_eq!(answer.metadata.id, 0xABCD);
    }

    #[test]
    fn what_is_not_a_question_gets_no_answer() {
        let mut message = ask("a.com.", RecordType::A);
        message.metadata.message_type = MessageType::Response;
        let bytes = message.to_vec().unwrap();
        assert_eq!(answer(&bytes, &mut NameTable::default()), None);
        assert_eq!(answer(b"short", &mut NameTable::default()), None);
    }

    #[test]
    fn updates_and_other_classes_are_refused() {
        let mut update = ask("a.com.", RecordType::A);
        update.metadata.op_code = OpCode::Notify;
        let answer = reply(&mut NameTable::default(), &update);
        assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
        let mut chaos = ask("version.bind.", RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        let answer = reply(&mut NameTable::default(), &chaos);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    }

    #[test]
    fn edns_is_answered_with_edns() {
        let mut message = ask("a.com.", RecordType::A);
        message.set_edns(Edns::new());
        let plain = reply(&mut NameTable::default(), &message);
        assert_eq!(plain.edns.as_ref().unwrap().max_payload(), EDNS_PAYLOAD);
        assert_eq!(addresses(&plain).len(), 1);
        message.edns.as_mut().unwrap().set_version(1);
        let future = reply(&mut NameTable::default(), &message);
        // 16 is BADSIG in the answer to a signed message, BADVERS in any other (RFC 6895, section 2.3).
        assert_eq!(u16::from(future.metadata.response_code), 16);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_answer_long(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(reply) = answer(&bytes, &mut NameTable::default()) {
                prop_assert!(reply.len() <= 512);
                prop_assert_eq!(&reply[..2], &bytes[..2]);
                prop_assert!(reply[2] & 0x80 != 0);
            }
        }

        #[test]
        fn damaged_questions_are_survived(
            place in 0_usize..40, byte in any::<u8>(), cut in 0_usize..40,
        ) {
            let mut bytes = ask("api.github.com.", RecordType::A).to_vec().unwrap();
            let len = bytes.len();
            bytes[place % len] = byte;
            bytes.truncate(len - cut % len);
            let _ = answer(&bytes, &mut NameTable::default());
        }
    }
}
