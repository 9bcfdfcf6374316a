//! Requests written by hand and by others, whole and damaged.

use proptest::prelude::*;

use super::*;

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put(&mut message, bytes);
    message[0] = (number << 3) | 2;
    message
}

fn written(request: &Request) -> Vec<u8> {
    match request {
        Request::Add(pod) => {
            let about = [(1, &pod.name), (2, &pod.namespace), (3, &pod.service_account)];
            let about: Vec<u8> = about.iter().flat_map(|(number, text)| field(*number, text.as_bytes())).collect();
            field(1, &[field(1, pod.uid.as_bytes()), field(2, &about)].concat())
        }
        Request::Del { uid } => field(2, &field(2, uid.as_bytes())),
        Request::SnapshotSent => field(3, &[]),
        Request::Keep { uid } => field(5, &field(1, uid.as_bytes())),
    }
}

fn pod() -> AddedPod {
    AddedPod { uid: "u".into(), name: "web".into(), namespace: "shop".into(), service_account: "sa".into() }
}

fn request() -> impl Strategy<Value = Request> {
    let text = "[a-z0-9é-]{1,80}";
    prop_oneof![
        (text, text, text, "[a-z]{0,80}").prop_map(|(uid, name, namespace, service_account)| {
            Request::Add(AddedPod { uid, name, namespace, service_account })
        }),
        text.prop_map(|uid| Request::Keep { uid }),
        text.prop_map(|uid| Request::Del { uid }),
        Just(Request::SnapshotSent),
    ]
}

proptest! {
    #[test]
    fn a_request_comes_out_as_it_went_in(request in request()) {
        prop_assert_eq!(Request::parse(&written(&request)), Ok(request));
    }

    #[test]
    fn a_request_that_was_cut_is_none(request in request(), cut in 1_usize..40) {
        let bytes = written(&request);
        let short = &bytes[..bytes.len().saturating_sub(cut)];
        prop_assert!(Request::parse(short).is_err(), "{short:?}");
    }

    #[test]
    fn any_bytes_are_a_request_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Request::parse(&bytes));
    }
}

#[test]
fn what_is_known_is_read_from_bytes_of_another_writer() {
    // By protoc --encode of the same messages.
    for (bytes, want) in [
        (&b"\x1a\x00"[..], Request::SnapshotSent),
        (b"\x12\x03\x12\x01u", Request::Del { uid: "u".into() }),
        (b"\x2a\x03\x0a\x01u", Request::Keep { uid: "u".into() }),
        (b"\x0a\x14\x0a\x01u\x12\x0f\x0a\x03web\x12\x04shop\x1a\x02sa", Request::Add(pod())),
        // Fields nobody knows yet, of each wire type, and the last of a oneof.
        (b"\x1a\x00\x48\x96\x01\x51AAAAAAAA\x5a\x02ab\x65AAAA\x2a\x03\x0a\x01u", Request::Keep { uid: "u".into() }),
    ] {
        assert_eq!(Request::parse(bytes), Ok(want), "{bytes:?}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let no_name = Request::Add(AddedPod { name: String::new(), ..pod() });
    let no_uid = Request::Add(AddedPod { uid: String::new(), ..pod() });
    for (bytes, want) in [
        (vec![], ZdsError::Unknown),
        (field(9, b"later"), ZdsError::Unknown),
        (vec![0x0a], ZdsError::Short),
        (vec![0x0a, 0x05, 1], ZdsError::Short),
        (vec![0xff; 11], ZdsError::Number),
        (vec![0x02, 0x00], ZdsError::Number),
        (vec![0x0b], ZdsError::WireType(3)),
        (vec![0x0f], ZdsError::WireType(7)),
        (vec![0x08, 0x01], ZdsError::FieldType { message: "WorkloadRequest", field: 1, found: 0 }),
        (field(2, &field(2, &[0xff])), ZdsError::Text { message: "DelWorkload", field: 2 }),
        (field(5, &[]), ZdsError::Missing("KeepWorkload", "uid")),
        (written(&no_name), ZdsError::Missing("AddWorkload", "workload_info.name")),
        (written(&no_uid), ZdsError::Missing("AddWorkload", "uid")),
        (vec![0; MESSAGE_BOUND + 1], ZdsError::TooLong(MESSAGE_BOUND + 1)),
    ] {
        assert_eq!(Request::parse(&bytes), Err(want), "{bytes:?}");
    }
}

#[test]
fn an_acknowledgement_fits_the_other_side_s_buffer() {
    assert_eq!(ack(None), [0x0a, 0x00]);
    assert_eq!(ack(Some("no")), [0x0a, 0x04, 0x0a, 0x02, b'n', b'o']);
    let long = ack(Some(&"é".repeat(5_000)));
    assert!((900..=1_024).contains(&long.len()), "{}", long.len());
    let mut outer = Reader(&long);
    let Ok(Some((1, Value::Bytes(inner)))) = outer.field() else { panic!("no ack") };
    let Ok(Some((1, value))) = Reader(inner).field() else { panic!("no error") };
    assert!(value.text("Ack", 1).unwrap().chars().all(|c| c == 'é'));
}
