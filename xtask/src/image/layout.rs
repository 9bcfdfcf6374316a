//! An image as a folder: `oci-layout`, `index.json`, and blobs by their hashes. OCI Image Layout Specification 1.0.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// When it was made, which is nobody's business: else the same programs would make another image each time.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// What an image says of its programs.
pub(super) struct Layout<'a> {
    /// As OCI names it, such as `amd64`.
    pub(super) architecture: &'a str,
    /// Who runs it: user and group.
    pub(super) user: &'a str,
    /// The program.
    pub(super) entrypoint: &'a str,
    /// Its version, which is the name of the image in the index.
    pub(super) version: &'a str,
}

impl Layout<'_> {
    /// Writes the image of one layer, in place of what is in the folder; answers with the digest of its manifest.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) fn write(&self, folder: &Path, layer: &[u8]) -> Result<String> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(folder.join("blobs/sha256")).with_context(|| folder.display().to_string())?;
        let layer_blob = blob(folder, LAYER, layer)?;
        let config = json!({
            "architecture": self.architecture, "os": "linux", "created": NO_TIME,
            "config": {
                "User": self.user, "Entrypoint": [self.entrypoint], "WorkingDir": "/",
                "Labels": {"org.opencontainers.image.version": self.version, "org.opencontainers.image.licenses": "Apache-2.0"},
            },
            "rootfs": {"type": "layers", "diff_ids": [layer_blob["digest"]]},
            "history": [{"created": NO_TIME, "created_by": "cargo xtask image"}],
        });
        let config = blob(folder, CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer_blob]});
        let mut manifest = blob(folder, MANIFEST, manifest.to_string().as_bytes())?;
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": self.version});
        manifest["platform"] = json!({"architecture": self.architecture, "os": "linux"});
        let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]});
        fs::write(folder.join("index.json"), index.to_string())?;
        fs::write(folder.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
        Ok(digest)
    }
}

/// Writes a blob, and answers with its descriptor.
fn blob(folder: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(folder.join("blobs/sha256").join(&digest), bytes).with_context(|| digest.clone())?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = fs::read(folder.join("blobs/sha256").join(digest)).unwrap();
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((found.as_str(), descriptor["size"].as_u64()), (digest, u64::try_from(bytes.len()).ok()));
        bytes
    }

    #[test]
    fn an_image_is_found_from_its_index_by_hashes_that_are_right() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("image");
        let layout = Layout { architecture: "amd64", user: "1:1", entrypoint: "/program", version: "1.2.3" };
        let layer =
            crate::image::tar::Tar::of(&[crate::image::tar::Entry::file("program", 0o755, vec![1, 2, 3])]).unwrap();
        let digest = layout.write(&at, &layer).unwrap();
        let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
        assert_eq!(json(&fs::read(at.join("oci-layout")).unwrap())["imageLayoutVersion"], "1.0.0");
        let index = json(&fs::read(at.join("index.json")).unwrap());
        assert_eq!(index["manifests"][0]["digest"], *digest);
        let manifest = json(&read(&at, &index["manifests"][0]));
        assert_eq!(read(&at, &manifest["layers"][0]), layer);
        let config = json(&read(&at, &manifest["config"]));
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(
            (&config["config"]["Entrypoint"][0], &config["config"]["User"]),
            (&"/program".into(), &"1:1".into())
        );
        // The same again, over what is there.
        assert_eq!(layout.write(&at, &layer).unwrap(), digest);
        assert_eq!(fs::read_dir(at.join("blobs/sha256")).unwrap().count(), 3);
    }
}
