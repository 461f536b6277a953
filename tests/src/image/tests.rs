use super::*;
use std::collections::BTreeSet;
use std::io::Read;
use std::process::Command;

fn image() -> Image {
    let mut image = Image::new("weft/example:1.2");
    image.entrypoint = vec!["/usr/local/bin/example".to_owned()];
    image.user = NONROOT;
    image.add("/usr/local/bin/example", 0o755, "program");
    image.add("etc/example/one", 0o600, "1");
    image
}

/// Path, mode, time and content of every entry.
fn unpack(bytes: &[u8]) -> Vec<(String, u32, u64, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let path = entry.path().unwrap().display().to_string();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        (
            path,
            header.mode().unwrap(),
            header.mtime().unwrap(),
            content,
        )
    });
    entries.collect()
}

fn content(archive: &[(String, u32, u64, Vec<u8>)], path: &str) -> Vec<u8> {
    let entry = archive.iter().find(|entry| entry.0 == path);
    entry.unwrap_or_else(|| panic!("no {path}")).3.clone()
}

#[test]
fn equal_contents_make_equal_bytes_in_whatever_order_they_were_added() {
    let mut other = Image::new("weft/example:1.2");
    other.add("etc/example/one", 0o600, "1");
    other.add("/usr/local/bin/example", 0o755, "program");
    other.user = NONROOT;
    other.entrypoint = vec!["/usr/local/bin/example".to_owned()];
    assert_eq!(image().pack().unwrap(), image().pack().unwrap());
    assert_eq!(image().pack().unwrap(), other.pack().unwrap());
    other.add("etc/example/one", 0o600, "2");
    assert_ne!(image().pack().unwrap().id, other.pack().unwrap().id);
}

#[test]
fn the_id_is_the_digest_of_the_configuration_and_that_names_the_digest_of_the_layer() {
    let packed = image().pack().unwrap();
    let archive = unpack(&packed.bytes);
    let manifest: serde_json::Value =
        serde_json::from_slice(&content(&archive, "manifest.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    assert_eq!(text(&manifest[0]["RepoTags"][0]), "weft/example:1.2");
    let config = content(&archive, &text(&manifest[0]["Config"]));
    assert_eq!(packed.id, format!("sha256:{}", sha256(&config)));
    let layer = content(&archive, &text(&manifest[0]["Layers"][0]));
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let layer_id = sha256(&layer);
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([format!("sha256:{layer_id}")])
    );
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(
        config["config"]["Entrypoint"],
        json!(["/usr/local/bin/example"])
    );
    let repositories: serde_json::Value =
        serde_json::from_slice(&content(&archive, "repositories")).unwrap();
    assert_eq!(
        repositories,
        json!({ "weft/example": { "1.2": layer_id.as_str() } })
    );
}

#[test]
fn every_file_has_its_mode_its_directories_and_the_time_of_the_image() {
    let mut image = image();
    image.created = 1_700_000_000;
    let packed = image.pack().unwrap();
    let archive = unpack(&packed.bytes);
    let layer = archive.iter().find(|entry| entry.0.ends_with("layer.tar"));
    let layer = unpack(&layer.unwrap().3);
    let modes: BTreeMap<_, _> = layer
        .iter()
        .map(|(path, mode, time, _)| {
            assert_eq!(*time, 1_700_000_000, "{path}");
            (path.trim_end_matches('/'), *mode)
        })
        .collect();
    for (path, mode) in [
        ("etc", 0o755),
        ("etc/example/one", 0o600),
        ("etc/passwd", 0o644),
        ("tmp", 0o1777),
        ("usr/local/bin", 0o755),
        ("usr/local/bin/example", 0o755),
    ] {
        assert_eq!(modes.get(path), Some(&mode), "{path}");
    }
    let mut seen = BTreeSet::new();
    for (path, ..) in &layer {
        let path = Path::new(path.trim_end_matches('/'));
        let parent = path.parent().unwrap_or(Path::new(""));
        assert!(
            parent.as_os_str().is_empty() || seen.contains(parent),
            "{path:?}"
        );
        seen.insert(path);
    }
    let config = archive.iter().find(|entry| {
        let path = Path::new(&entry.0);
        path.extension().is_some_and(|kind| kind == "json") && entry.0 != "manifest.json"
    });
    let config: serde_json::Value = serde_json::from_slice(&config.unwrap().3).unwrap();
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
}

#[test]
#[cfg_attr(not(feature = "end-to-end"), ignore = "needs root for chroot")]
fn a_program_of_an_image_runs_with_nothing_of_this_machine_but_the_kernel() {
    let mut image = Image::new("weft/true");
    let program = Path::new("/bin/true");
    image.add_program(program, "usr/local/bin/true").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let layer = image.layer().unwrap();
    tar::Archive::new(layer.as_slice())
        .unpack(folder.path())
        .unwrap();
    let status = Command::new("chroot")
        .arg(folder.path())
        .arg("/usr/local/bin/true")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn a_name_without_a_tag_is_the_latest_and_a_registrys_port_is_no_tag() {
    let parts = |name: &str| {
        let image = Image::new(name);
        let (repository, tag) = image.repository_and_tag();
        (repository.to_owned(), tag.to_owned())
    };
    let pair = |repository: &str, tag: &str| (repository.to_owned(), tag.to_owned());
    assert_eq!(parts("weft/a"), pair("weft/a", "latest"));
    assert_eq!(parts("host:5000/a"), pair("host:5000/a", "latest"));
    assert_eq!(parts("host:5000/a:1"), pair("host:5000/a", "1"));
}
