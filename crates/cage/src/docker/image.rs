//! Images: ours is loaded when the engine does not have it, another's is pulled.

use std::sync::Arc;

use bollard::{
    body_full,
    query_parameters::{CreateImageOptionsBuilder, ImportImageOptionsBuilder},
};
use futures_util::TryStreamExt;

use super::{Docker, status};
use crate::{
    backend::{CageError, During},
    id::CageId,
    spec::{CageSpec, Image},
};

impl Docker {
    /// Makes sure that the engine has the spec's image, and returns its reference.
    pub(super) async fn image(&self, spec: &CageSpec) -> Result<String, CageError> {
        let (reference, ours) = match &spec.image {
            Image::Builtin => (self.builtin.reference(), true),
            Image::Oci(reference) => (reference.clone(), false),
            Image::Directory(_) => {
                return Err(CageError::Refused {
                    id: spec.id.clone(),
                    why: "needs the native back end".to_owned(),
                });
            }
        };
        match self.engine.inspect_image(&reference).await {
            Ok(_) => {}
            Err(error) if status(&error) == Some(404) && ours => self.load(&spec.id).await?,
            Err(error) if status(&error) == Some(404) => self.pull(&spec.id, &reference).await?,
            Err(error) => return Err(error).during(&spec.id, "look for its image"),
        }
        Ok(reference)
    }

    async fn load(&self, id: &CageId) -> Result<(), CageError> {
        let builtin = Arc::clone(&self.builtin);
        let archive = tokio::task::spawn_blocking(move || builtin.archive()).await;
        let archive = archive
            .during(id, "assemble its image")?
            .during(id, "assemble its image")?;
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let progress = self.engine.import_image(options, body_full(archive.into()), None);
        progress
            .try_for_each(|_| async { Ok(()) })
            .await
            .during(id, "load its image")
    }

    async fn pull(&self, id: &CageId, reference: &str) -> Result<(), CageError> {
        let options = CreateImageOptionsBuilder::default().from_image(reference).build();
        let progress = self.engine.create_image(Some(options), None, None);
        progress
            .try_for_each(|_| async { Ok(()) })
            .await
            .during(id, "pull its image")
    }
}
