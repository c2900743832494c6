//! Control plane ↔ a node's uplink: joining with a one-time token, and a new certificate before the old one ends.
//!
//! Served over TLS, where a joined node shows the certificate that it got. The control plane's own certificate is
//! issued for [`SERVER_NAME`] by the authority that the join token carries, whatever address it is reached at.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clawstaff_types::{NodeName, Secret};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::nodes::NodeTokens;

/// `POST` [`JoinRequest`] with `Authorization: Bearer <secret of the join token>` → [`Identity`].
pub const JOIN: &str = "/nodes/v1/join";
/// `POST` [`RenewRequest`] over a connection with the node's certificate → [`Identity`].
pub const RENEW: &str = "/nodes/v1/renew";
/// The name in the control plane's certificate.
pub const SERVER_NAME: &str = "control.clawstaff.internal";

const PREFIX: &str = "csj1.";
/// A join token is far shorter.
const MAX_TOKEN: usize = 4096;

/// What an operator carries from the control plane to the node: good for one join, for one hour.
///
/// Text form: `csj1.` and the JSON of it in base64url.
#[derive(Clone)]
pub struct JoinToken {
    /// The node that may join with it.
    pub node: NodeName,
    /// What it is recognised by.
    pub secret: Secret<String>,
    /// The certificate of the control plane's authority, DER in base64: the node trusts no other.
    pub authority: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inside {
    node: NodeName,
    secret: String,
    authority: String,
}

/// Why a text is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join token: it begins with `csj1.`, and `clawstaff node token` gives one")]
pub struct NoJoinToken;

impl JoinToken {
    /// As text, which is a secret.
    pub fn to_text(&self) -> Secret<String> {
        let inside = Inside {
            node: self.node.clone(),
            secret: self.secret.expose_secret().clone(),
            authority: self.authority.clone(),
        };
        // Three strings always serialize.
        let json = Secret::new(serde_json::to_vec(&inside).unwrap_or_default());
        Secret::new(format!(
            "{PREFIX}{}",
            URL_SAFE_NO_PAD.encode(json.expose_secret())
        ))
    }
}

impl FromStr for JoinToken {
    type Err = NoJoinToken;

    fn from_str(text: &str) -> Result<Self, NoJoinToken> {
        let body = text
            .trim()
            .strip_prefix(PREFIX)
            .filter(|body| body.len() <= MAX_TOKEN);
        let json = URL_SAFE_NO_PAD
            .decode(body.ok_or(NoJoinToken)?)
            .map_err(|_| NoJoinToken)?;
        let inside: Inside = serde_json::from_slice(&json).map_err(|_| NoJoinToken)?;
        Ok(Self {
            node: inside.node,
            secret: Secret::new(inside.secret),
            authority: inside.authority,
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// A host asks to be a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// Its name, which must be the token's.
    pub node: NodeName,
    /// Its uplink's public key: an uncompressed P-256 point, base64.
    pub public_key: String,
    /// The digests of its gateway's and its runner's tokens.
    pub tokens: NodeTokens,
}

/// A node asks for a certificate for a new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The new public key: an uncompressed P-256 point, base64.
    pub public_key: String,
}

/// Who a node is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The certificate, DER in base64. An older one of the node ends when this one is first used.
    pub certificate: String,
    /// When it ends.
    pub expires: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_reads_back_and_never_shows_its_secret() {
        let token = JoinToken {
            node: "berlin".parse().unwrap(),
            secret: "open sesame".to_owned().into(),
            authority: "QUJD".to_owned(),
        };
        let text = token.to_text();
        let back: JoinToken = text.expose_secret().parse().unwrap();
        assert_eq!(back.node, token.node);
        assert_eq!(back.secret.expose_secret(), "open sesame");
        assert!(!format!("{back:?}").contains("sesame"));
        for bad in ["", "csj1.", "csj1.e30", "csj2.abc", "csj1.!!"] {
            assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
        }
    }
}
