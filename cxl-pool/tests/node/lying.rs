//! A node that sends wrong bytes: the client notices before anybody reads them.

use crate::support::*;
use larder_pool::remote::{Client, ObjectHash, RemoteError, RemoteOptions};
use larder_pool::sys::io::Errno;
use larder_pool::wire::capability::{Claim, Signer};
use larder_pool::wire::header::{HEADER_BYTES, Header};
use larder_pool::wire::reply::{Refusal, Reply, Welcome};
use larder_pool::wire::request::Request;
use larder_pool::wire::sums::Sums;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// How the fake node answers gets.
#[derive(Clone, Copy)]
enum Lie {
    /// One bit of the data is wrong.
    FlippedBit,
    /// All bytes are those of another object, with good checksums.
    OtherObject,
    /// Data for a request that nobody made.
    WrongId,
    /// Fewer bytes than asked for.
    Short,
}

const LEN: usize = 1 << 20;

fn answer(stream: &mut TcpStream, lie: Lie) -> std::io::Result<()> {
    let good = content(1, LEN);
    let other = content(2, LEN);
    loop {
        let mut head = [0; HEADER_BYTES];
        stream.read_exact(&mut head)?;
        let header = Header::decode(&head).expect("the client keeps to the rules");
        let mut body = vec![0; header.body as usize];
        stream.read_exact(&mut body)?;
        let request = Request::decode(&header, &body).expect("the client keeps to the rules");
        let reply = match request {
            Request::Hello { nonce } => Reply::Welcome(Welcome {
                nonce,
                pool: 1,
                incarnation: 2,
                mem_bytes: 3,
                disk_bytes: 0,
                lease_ms: 1000,
                wants_token: false,
            }),
            Request::Open(hashes) => {
                let capability = Signer::new(1, 2, [3; 32]).sign(Claim {
                    extent: 0,
                    generation: 1,
                    length: LEN as u64,
                    crc: 0,
                    tenant: 0,
                });
                Reply::Opened(vec![Some(capability); hashes.len()])
            }
            Request::Get(ranges) => {
                for range in ranges {
                    let span = range.offset as usize..range.offset as usize + range.len as usize;
                    let bytes = match lie {
                        Lie::OtherObject => &other,
                        _ => &good,
                    };
                    let mut data = bytes[span].to_vec();
                    let crcs = Sums::of(bytes).of_range(range.offset, &data);
                    let mut id = range.id;
                    match lie {
                        Lie::FlippedBit => data[70_000] ^= 1,
                        Lie::WrongId => id += 1000,
                        Lie::Short => data.truncate(4096),
                        Lie::OtherObject => {}
                    }
                    stream.write_all(&Reply::Data(crcs).encode(id, data.len() as u32))?;
                    stream.write_all(&data)?;
                }
                continue;
            }
            // As a node does that does not know the request; what it says may be lost.
            Request::Place { .. } => {
                if let Lie::FlippedBit = lie {
                    let refused = Reply::Refused(Refusal::Misuse);
                    stream.write_all(&refused.encode(0, 0))?;
                }
                return Ok(());
            }
            _ => Reply::Done,
        };
        stream.write_all(&reply.encode(header.id, 0))?;
    }
}

/// Runs `check` with a client of a node that lies.
fn with(lie: Lie, check: impl Fn(&Client)) {
    each_transport(|transport| {
        let listener = TcpListener::bind(loopback()).expect("bind");
        let address = listener.local_addr().expect("bound").to_string();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || answer(&mut stream, lie));
            }
        });
        let client = Client::connect(&RemoteOptions {
            transport,
            ..RemoteOptions::new(address)
        });
        check(&client.expect("connects"));
    });
}

fn outcome_of_read(client: &Client) -> Result<usize, Errno> {
    let hash = ObjectHash::of(&content(1, LEN));
    let (mut driver, _) = client.read_objects(&[hash]).expect("opens");
    let mut memory = Memory::new(4 * MIB);
    let piece = memory.pieces(MIB, MIB).remove(0);
    run(driver.as_mut(), vec![read(0, 0, 0, piece)])
        .remove(0)
        .outcome
}

#[test]
fn a_flipped_bit_is_a_bad_message() {
    with(Lie::FlippedBit, |client| {
        assert_eq!(outcome_of_read(client), Err(Errno::EBADMSG));
        let error = client.get_object(ObjectHash::of(&content(1, LEN)));
        assert!(matches!(error, Err(RemoteError::Wire { .. })));
    });
}

#[test]
fn another_object_is_not_the_one_of_the_name() {
    with(Lie::OtherObject, |client| {
        let error = client.get_object(ObjectHash::of(&content(1, LEN)));
        assert!(matches!(error, Err(RemoteError::Corrupt { .. })));
    });
}

#[test]
fn answers_to_nothing_end_the_connection() {
    for lie in [Lie::WrongId, Lie::Short] {
        with(lie, |client| {
            assert_eq!(outcome_of_read(client), Err(Errno::ECONNRESET));
        });
    }
}

#[test]
fn a_node_of_an_older_release_places_nothing() {
    for lie in [Lie::FlippedBit, Lie::Short] {
        with(lie, |client| {
            let hash = ObjectHash::of(&content(1, LEN));
            let (_, source) = client.read_objects(&[hash]).expect("opens");
            let placed = client.place(&source).expect("it hangs up, no more");
            assert!(placed.is_none());
            client.open(hash).expect("the others go on");
        });
    }
}
