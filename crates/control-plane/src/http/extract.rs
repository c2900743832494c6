//! Bodies, queries and path segments, parsed once; what does not parse is a problem with status 400.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::BytesRejection},
};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::app::problem::Problem;

/// A JSON body. Unknown fields are refused by the types themselves.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| unread(&error))?;
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Self)
            .map_err(|error| Problem::invalid(format!("the body is not what this route takes: {error}")))
    }
}

fn unread(error: &BytesRejection) -> Problem {
    Problem::invalid(format!("the body could not be read: {}", error.body_text()))
}

/// The query string. Unknown names are refused by the types themselves.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let query = query.map_err(|error| {
            Problem::invalid(format!(
                "the query is not what this route takes: {}",
                error.body_text()
            ))
        })?;
        Ok(Self(query.0))
    }
}

/// The path's variable part.
pub(crate) struct Named<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        let path = path.map_err(|error| Problem::invalid(error.body_text()))?;
        Ok(Self(path.0))
    }
}
