//! A receiver for tests: listens on a free port of this machine, keeps what it is sent.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

/// A request as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    /// `POST /path HTTP/1.1`
    pub(crate) line: String,
    /// In the order of their coming, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Recorded {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(crate) struct Receiving {
    pub(crate) address: SocketAddr,
    requests: Receiver<Recorded>,
}

impl Receiving {
    /// Answers each connection's one request with `answer`.
    pub(crate) fn start(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Receiving {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map(Result::unwrap) {
                let request = read(&stream);
                if sender.send(request).is_err() {
                    return;
                }
                answer(&mut stream);
            }
        });
        Receiving { address, requests }
    }

    /// Answers with a text.
    pub(crate) fn answering(answer: &'static str) -> Receiving {
        Receiving::start(move |stream| {
            // The client may have gone.
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    /// The next request; it must be there.
    pub(crate) fn next(&self) -> Recorded {
        self.requests.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// Whether nothing came.
    pub(crate) fn is_untouched(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}

pub(crate) const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn read(stream: &TcpStream) -> Recorded {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let headers = lines[1..].iter().map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    let mut recorded =
        Recorded { line: lines[0].clone(), headers: headers.collect(), body: String::new() };
    let length = recorded.header("content-length").map_or(0, |text| text.parse().unwrap());
    reader.take(length).read_to_string(&mut recorded.body).unwrap();
    recorded
}
