//! The owner of a volume that the engine keeps: a new volume becomes what the image has at its place, and an image of other
//! people has nothing there, or something of root's. So a container that never runs mounts it first, from an image that has
//! nothing but a `/data` of the cage's user.

use bollard::{
    body_full,
    models::{ContainerCreateBody, HostConfig, Mount, MountType},
    query_parameters::{
        CreateContainerOptions, CreateImageOptionsBuilder, RemoveContainerOptions, RemoveImageOptions,
    },
};
use futures_util::TryStreamExt as _;
use tar::{Builder, EntryType};

use super::{Docker, container::volume_name, forgive, status};
use crate::{
    backend::{CageError, During},
    builtin,
    spec::CageSpec,
};

const REPOSITORY: &str = "clawstaff/seed";
const DOING: &str = "give its storage to its user";

impl Docker {
    /// Makes the volume of a new cage one of this user. One that is there stays as it is.
    pub(super) async fn seed(&self, spec: &CageSpec, user: u32) -> Result<(), CageError> {
        let id = &spec.id;
        if self.volumes.data_of(id).is_some() {
            return Ok(());
        }
        let volume = volume_name(&self.owner, id);
        match self.engine.inspect_volume(&volume).await {
            Ok(_) => return Ok(()),
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => return Err(error).during(id, DOING),
        }
        let image = format!("{REPOSITORY}:{user}");
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(REPOSITORY)
            .tag(&user.to_string())
            .build();
        let tar = owned_by(user).during(id, DOING)?;
        let made = self
            .engine
            .create_image(Some(options), Some(body_full(tar.into())), None);
        made.try_for_each(|_| async { Ok(()) }).await.during(id, DOING)?;
        let seeded = self.mount_once(&image, volume).await;
        let removed = self
            .engine
            .remove_image(&image, None::<RemoveImageOptions>, None)
            .await;
        // 409: another cage is being made from it, and removes it.
        forgive(removed.map(drop), &[404, 409]).during(id, DOING)?;
        seeded.during(id, DOING)
    }

    async fn mount_once(&self, image: &str, volume: String) -> Result<(), bollard::errors::Error> {
        let mount = Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume),
            target: Some("/data".to_owned()),
            ..Mount::default()
        };
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["/never".to_owned()]),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                mounts: Some(vec![mount]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let made = self
            .engine
            .create_container(None::<CreateContainerOptions>, body)
            .await?;
        self.engine
            .remove_container(&made.id, None::<RemoveContainerOptions>)
            .await
    }
}

fn owned_by(user: u32) -> std::io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    let mut header = builtin::header(EntryType::Directory, 0o700, 0);
    header.set_uid(user.into());
    header.set_gid(user.into());
    layer.append_data(&mut header, "data/", std::io::empty())?;
    layer.into_inner()
}
