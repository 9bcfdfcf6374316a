//! The manifests, as they are when this program is built: `deploy/rendered`.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{ADMISSION, Overlay, setting};

const DEFINITIONS: &str = include_str!("../../../deploy/rendered/crds.yaml");
const DEFAULT: &str = include_str!("../../../deploy/rendered/default.yaml");
const HA: &str = include_str!("../../../deploy/rendered/ha.yaml");
const MINIMAL: &str = include_str!("../../../deploy/rendered/minimal.yaml");

/// Where the images are, and which, in the manifests.
const REGISTRY: &str = "ghcr.io/weir-mesh";
const TAG: &str = env!("CARGO_PKG_VERSION");
/// The images.
const IMAGES: [&str; 3] = ["weir-agent", "weir-control", "weir-waypoint"];

/// The manifests of one overlay.
pub(super) struct Bundle(String);

impl Bundle {
    /// With settings `image.registry=…` and `image.tag=…`.
    pub(super) fn of(overlay: Overlay, settings: &[String]) -> Result<Self> {
        let (mut registry, mut tag) = (REGISTRY.to_owned(), TAG.to_owned());
        for text in settings {
            let (key, value) = setting(text)?;
            let legal = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
            ensure!(value.chars().all(legal), "--set {text}: expected letters, digits and . _ - / : @ as the value");
            match key {
                "image.registry" => value.trim_end_matches('/').clone_into(&mut registry),
                "image.tag" => value.clone_into(&mut tag),
                other => bail!("--set {other}: expected image.registry or image.tag"),
            }
        }
        let own = match overlay {
            Overlay::Default => DEFAULT,
            Overlay::Ha => HA,
            Overlay::Minimal => MINIMAL,
        };
        let mut text = format!("{DEFINITIONS}---\n{own}");
        for image in IMAGES {
            text = text.replace(&format!("{REGISTRY}/{image}:{TAG}"), &format!("{registry}/{image}:{tag}"));
        }
        Ok(Self(text))
    }

    /// All of it.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The objects, in the order they are made in: namespace and definitions before what needs them, and last who is asked about all others.
    pub(super) fn objects(&self) -> Result<Vec<Value>> {
        let documents = self.0.split("---\n").filter(|text| !text.trim().is_empty());
        let read = |text| serde_saphyr::from_str::<Value>(text).context("a manifest of this program");
        let mut objects: Vec<Value> = documents.map(read).collect::<Result<_>>()?;
        objects.sort_by_key(|object| match object["kind"].as_str() {
            Some("Namespace") => 0,
            Some("CustomResourceDefinition") => 1,
            Some(ADMISSION) => 3,
            Some(_) | None => 2,
        });
        Ok(objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_from_where_they_are_said_to() {
        for overlay in [Overlay::Default, Overlay::Ha, Overlay::Minimal] {
            let all = Bundle::of(overlay, &[]).unwrap();
            let other = ["image.registry=registry.example:5000/mesh/", "image.tag=1.2.3"].map(str::to_owned);
            let moved = Bundle::of(overlay, &other).unwrap();
            for image in IMAGES {
                assert!(all.text().contains(&format!("{REGISTRY}/{image}:{TAG}")), "{overlay:?} {image}");
                assert!(
                    moved.text().contains(&format!("registry.example:5000/mesh/{image}:1.2.3")),
                    "{overlay:?} {image}"
                );
            }
            assert!(!moved.text().contains(REGISTRY), "{overlay:?}");
            assert_eq!(moved.objects().unwrap().len(), all.objects().unwrap().len());
        }
    }

    #[test]
    fn a_setting_that_is_not_known_is_refused() {
        for bad in ["image", "image.tag=", "image.name=a", "image.tag=a b", "image.tag=a\nkind: Pod"] {
            assert!(Bundle::of(Overlay::Default, &[bad.to_owned()]).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn what_others_need_comes_first() {
        let objects = Bundle::of(Overlay::Default, &[]).unwrap().objects().unwrap();
        let kinds: Vec<&str> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        let at = |kind: &str| kinds.iter().position(|one| *one == kind).unwrap();
        assert_eq!(at("Namespace"), 0);
        assert!(at("CustomResourceDefinition") < at("ClusterRole") && at("ServiceAccount") < at("Deployment"));
        assert_eq!(at(ADMISSION), kinds.len() - 1, "it asks who has to run by then");
    }
}
