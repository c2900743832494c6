//! AWS Signature Version 4, for requests without query
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
//!
//! Pure. S3 escapes a path once; the paths that we make need no escape at all.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use clawstaff_types::{Digest, Secret};

/// An access key.
#[derive(Debug)]
pub struct Keys {
    /// Its id.
    pub id: String,
    /// What signs.
    pub secret: Secret<String>,
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// `PUT`
    pub method: &'a str,
    /// The path, escaped.
    pub path: &'a str,
    /// The headers to sign: names in lower case, in order; values trimmed.
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body in hex.
    pub body: &'a str,
    /// The region.
    pub region: &'a str,
    /// `s3`
    pub service: &'a str,
    /// `20130524T000000Z`, also in the headers as `x-amz-date`.
    pub date: &'a str,
}

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The value of the header `authorization`.
pub fn authorization(signing: &Signing<'_>, keys: &Keys) -> String {
    let names: Vec<&str> = signing.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let day = signing.date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{}/aws4_request", signing.region, signing.service);
    let request = hex::encode(Digest::of(canonical(signing, &names).as_bytes()).as_bytes());
    let text = format!("{ALGORITHM}\n{}\n{scope}\n{request}", signing.date);
    let signature = hex::encode(hmac_of(key(signing, keys, day).as_ref(), text.as_bytes()));
    format!(
        "{ALGORITHM} Credential={}/{scope},SignedHeaders={names},Signature={signature}",
        keys.id
    )
}

fn canonical(signing: &Signing<'_>, names: &str) -> String {
    let mut headers = String::new();
    for (name, value) in signing.headers {
        // Writing to a string cannot fail.
        let _written = writeln!(headers, "{name}:{}", value.trim());
    }
    format!(
        "{}\n{}\n\n{headers}\n{names}\n{}",
        signing.method, signing.path, signing.body
    )
}

fn key(signing: &Signing<'_>, keys: &Keys, day: &str) -> hmac::Tag {
    let first = Secret::new(format!("AWS4{}", keys.secret.expose_secret()));
    let day = hmac_of(first.expose_secret().as_bytes(), day.as_bytes());
    let region = hmac_of(day.as_ref(), signing.region.as_bytes());
    let service = hmac_of(region.as_ref(), signing.service.as_bytes());
    hmac_of(service.as_ref(), b"aws4_request")
}

fn hmac_of(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
        }
    }

    /// "Authenticating Requests: Using the Authorization Header", the examples of the S3 API reference.
    #[test]
    fn the_published_examples_have_the_published_signatures() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let get = Signing {
            method: "GET",
            path: "/test.txt",
            headers: &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("x-amz-content-sha256", empty),
                ("x-amz-date", "20130524T000000Z"),
            ],
            body: empty,
            region: "us-east-1",
            service: "s3",
            date: "20130524T000000Z",
        };
        assert!(
            authorization(&get, &keys())
                .ends_with("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
        );
        let body = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        assert_eq!(hex::encode(Digest::of(b"Welcome to Amazon S3.").as_bytes()), body);
        let put = Signing {
            method: "PUT",
            path: "/test%24file.text",
            headers: &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("host", "examplebucket.s3.amazonaws.com"),
                ("x-amz-content-sha256", body),
                ("x-amz-date", "20130524T000000Z"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            body,
            ..get
        };
        assert!(
            authorization(&put, &keys())
                .ends_with("Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")
        );
    }
}
