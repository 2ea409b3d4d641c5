//! Files as they are, and as somebody hostile would make them.

use std::fs::File;
use std::io::{Read, Seek, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use image_ref::Digest;
use proptest::prelude::*;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::*;
use crate::layer::hash_bytes;

/// A tar archive of which every member is said: name, kind, link and bytes.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn member(mut self, name: &str, kind: EntryType, link: &str, bytes: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.member(name, EntryType::Regular, "", bytes.as_ref())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn wanted() -> Wanted {
    Wanted { platform: "linux/amd64".parse().unwrap(), image: None, expanded_bytes: 1 << 26 }
}

fn plan_with(bytes: &[u8], wanted: &Wanted) -> Result<Planned, ArchiveError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    plan(file, wanted)
}

fn planned(bytes: &[u8]) -> Result<Planned, ArchiveError> {
    plan_with(bytes, &wanted())
}

fn refusal(bytes: &[u8]) -> String {
    match planned(bytes) {
        Ok(planned) => panic!("it was taken: {planned:?}"),
        Err(error) => error.to_string(),
    }
}

fn read(layer: &Layer) -> Vec<u8> {
    let mut bytes = Vec::new();
    layer.open().unwrap().read_to_end(&mut bytes).unwrap();
    let (digest, size) = layer.stream();
    assert_eq!((hash_bytes(&bytes), bytes.len() as u64), (digest, size), "what it says of itself");
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn layer(text: &str) -> Vec<u8> {
    Tar::default().file("etc/text", text).end()
}

fn config(layers: &[&[u8]]) -> Value {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| hash_bytes(layer)).collect();
    json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/w" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

/// The archive of docker save with these layers, named `0/layer.tar` and so on.
fn docker_with(layers: &[&[u8]], edit: impl FnOnce(Value) -> Value) -> Tar {
    let config = config(layers).to_string();
    let name = format!("{}.json", hash_bytes(config.as_bytes()).hex());
    let names: Vec<String> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
    let manifest = edit(json!([{ "Config": name, "RepoTags": ["app:1"], "Layers": names }]));
    let tar = Tar::default().file(&name, &config).file("manifest.json", manifest.to_string());
    layers.iter().zip(&names).fold(tar, |tar, (layer, name)| tar.file(name, layer))
}

fn docker(layers: &[&[u8]]) -> Vec<u8> {
    docker_with(layers, |manifest| manifest).end()
}

/// Blobs of an OCI layout: the manifest's descriptor, and a tar archive with the blobs.
fn image(tar: Tar, text: &str, architecture: &str) -> (Value, Tar) {
    let content = layer(text);
    let blob = gzip(&content);
    let mut config = config(&[&content]);
    config["architecture"] = json!(architecture);
    let config = config.to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": hash_bytes(config.as_bytes()), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": hash_bytes(&blob), "size": blob.len() }],
    })
    .to_string();
    let descriptor = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": hash_bytes(manifest.as_bytes()), "size": manifest.len(),
    });
    let tar = [blob, config.into_bytes(), manifest.into_bytes()].iter().fold(tar, put);
    (descriptor, tar)
}

fn put(tar: Tar, blob: &Vec<u8>) -> Tar {
    tar.file(&format!("blobs/sha256/{}", hash_bytes(blob).hex()), blob)
}

fn layout(tar: Tar, manifests: &[Value]) -> Vec<u8> {
    let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    tar.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", index).end()
}

fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    descriptor
}

#[test]
fn docker_save_gives_its_layers_and_configuration_plain_and_compressed() {
    let (lower, upper) = (layer("lower"), layer("upper"));
    let archive = docker(&[&lower, &upper]);
    let plain = planned(&archive).unwrap();
    assert_eq!(plain.format, Format::DockerArchive);
    assert_eq!(plain.config.env, ["PATH=/bin"]);
    let contents: Vec<_> = plain.layers.iter().map(read).collect();
    assert_eq!(contents, [lower, upper]);
    let zstd = zstd::stream::encode_all(archive.as_slice(), 3).unwrap();
    for packed in [gzip(&archive), zstd] {
        let packed = planned(&packed).unwrap();
        assert_eq!(packed.digest, plain.digest, "the same image, however the file is packed");
        assert_eq!(packed.layers.iter().map(read).collect::<Vec<_>>(), contents);
    }
}

#[test]
fn a_compressed_layer_in_docker_save_is_known_by_its_own_digest() {
    let content = layer("x");
    let blob = gzip(&content);
    let config = config(&[&content]).to_string();
    let archive = Tar::default()
        .file("config", &config)
        .file("l.tar.gz", &blob)
        .file("manifest.json", r#"[{"Config":"config","Layers":["l.tar.gz"]}]"#)
        .end();
    let planned = planned(&archive).unwrap();
    let layer = &planned.layers[0];
    assert_eq!((layer.digest, layer.diff_id), (hash_bytes(&blob), hash_bytes(&content)));
    assert_eq!(layer.compression, LayerCompression::Gzip);
    assert_eq!(read(layer), blob);
}

#[test]
fn links_to_layers_are_followed_inside_the_archive_and_nowhere_else() {
    let content = layer("x");
    let link = |target: &str| {
        let tar = docker_with(&[&content], |mut manifest| {
            manifest[0]["Layers"] = json!(["1/layer.tar"]);
            manifest
        });
        tar.member("1/layer.tar", EntryType::Symlink, target, b"").end()
    };
    assert_eq!(read(&planned(&link("../0/layer.tar")).unwrap().layers[0]), content);
    assert_eq!(read(&planned(&link("./../0/./layer.tar")).unwrap().layers[0]), content);
    for (target, why) in [
        ("../../0/layer.tar", "leads out of the archive"),
        ("/0/layer.tar", "leads out of the archive"),
        ("../../../../etc/passwd", "leads out of the archive"),
        ("layer.tar", "leads round in a circle"),
        ("../2/layer.tar", "it lacks 2/layer.tar"),
    ] {
        let said = refusal(&link(target));
        assert!(said.contains(why), "{target}: {said}");
    }
}

#[test]
fn a_layout_keeps_the_digest_of_its_manifest() {
    let (descriptor, tar) = image(Tar::default(), "x", "amd64");
    let archive = layout(tar, std::slice::from_ref(&descriptor));
    let image = planned(&archive).unwrap();
    assert_eq!(image.format, Format::OciLayout);
    assert_eq!(json!(image.digest), descriptor["digest"]);
    assert_eq!(read(&image.layers[0]), gzip(&layer("x")));
    assert_eq!(image.layers[0].diff_id, hash_bytes(&layer("x")));
    assert_eq!(planned(&gzip(&archive)).unwrap().digest, image.digest);
    // As docker save writes today: `manifest.json` stands beside it and is not looked at.
    let (descriptor, tar) = super::tests::image(Tar::default(), "x", "amd64");
    let both = layout(tar.file("manifest.json", "[]"), &[descriptor]);
    assert_eq!(planned(&both).unwrap().digest, image.digest);
}

#[test]
fn the_image_for_the_platform_is_chosen_and_the_others_are_told() {
    let (arm, tar) = image(Tar::default(), "arm", "arm64");
    let (amd, tar) = image(tar, "amd", "amd64");
    let on = |mut descriptor: Value, architecture: &str| {
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        descriptor
    };
    let entries = [on(arm.clone(), "arm64"), on(amd.clone(), "amd64")];
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries })
    .to_string();
    let nested = json!({ "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": hash_bytes(index.as_bytes()), "size": index.len() });
    let tar = put(tar, &index.into_bytes());
    let archive = Tar(tar.0.clone());
    for manifests in [vec![nested.clone()], entries.to_vec()] {
        let archive = layout(Tar(archive.0.clone()), &manifests);
        assert_eq!(json!(planned(&archive).unwrap().digest), amd["digest"]);
        let other = Wanted { platform: "linux/riscv64".parse().unwrap(), ..wanted() };
        let said = plan_with(&archive, &other).unwrap_err().to_string();
        assert!(said.contains("linux/riscv64; it has linux/arm64, linux/amd64"), "{said}");
    }
    let said = refusal(&layout(tar, &[arm]));
    assert!(said.contains("it has no image for linux/amd64; it has linux/arm64"), "{said}");
}

#[test]
fn of_several_images_one_must_be_named() {
    let (one, tar) = image(Tar::default(), "one", "amd64");
    let (two, tar) = image(tar, "two", "amd64");
    let archive = layout(
        tar,
        &[named(one.clone(), "a:1"), named(two.clone(), "b:1"), named(two.clone(), "b:2")],
    );
    let said = refusal(&archive);
    assert!(said.contains("3 images") && said.contains("a:1, b:1, b:2"), "{said}");
    let from = |name: &str| {
        let wanted = Wanted { image: Some(name.into()), ..wanted() };
        plan_with(&archive, &wanted).map(|planned| json!(planned.digest))
    };
    assert_eq!(from("b:2").unwrap(), two["digest"]);
    assert_eq!(from(one["digest"].as_str().unwrap()).unwrap(), one["digest"]);
    assert!(from("c").unwrap_err().to_string().contains("no image called `c`; it has a:1"));

    let (_, tar) = image(Tar::default(), "one", "amd64");
    let (_, tar) = image(tar, "two", "amd64");
    let said = refusal(&layout(tar, &[one.clone(), two.clone()]));
    assert!(said.contains("2 images") && said.contains(two["digest"].as_str().unwrap()), "{said}");

    let content = layer("x");
    let twice = docker_with(&[&content], |manifest| {
        let mut other = manifest[0].clone();
        other["RepoTags"] = json!(["app:2", "app:3"]);
        json!([manifest[0], other])
    });
    let archive = twice.end();
    let said = refusal(&archive);
    assert!(said.contains("2 images") && said.contains("app:1, app:2 = app:3"), "{said}");
    let wanted = Wanted { image: Some("app:3".into()), ..wanted() };
    plan_with(&archive, &wanted).unwrap();
}

#[test]
fn a_root_file_system_is_one_layer_with_a_digest_of_its_own() {
    let tar = Tar::default().file("./bin/sh", "#!").file("bin/sh", "twice is fine here").end();
    let plain = planned(&tar).unwrap();
    assert_eq!(plain.format, Format::RootFs);
    assert_eq!(plain.config.platform.to_string(), "linux/amd64");
    assert_eq!(plain.layers[0].digest, hash_bytes(&tar));
    let packed = planned(&gzip(&tar)).unwrap();
    assert_eq!(packed.layers[0].diff_id, hash_bytes(&tar));
    assert_eq!(read(&packed.layers[0]), gzip(&tar));
    assert_ne!(packed.digest, plain.digest, "another file");
    assert_eq!(refusal(&Tar::default().end()), "it holds no files");
}

#[test]
fn identities_stay_what_they_are() {
    let content = layer("x");
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        hash_bytes(&content)
    );
    let saved = Tar::default()
        .file("config", config)
        .file("layer", &content)
        .file("manifest.json", r#"[{"Config":"config","Layers":["layer"]}]"#)
        .end();
    for file in [saved, content] {
        let digest = planned(&file).unwrap().digest.hex().to_string();
        // Computed by another program. Whoever changes it changes what images are known by that are there already.
        assert_eq!(digest, "e49bae8f7cd256326d6bd998e0fd60e14413dc8b5f0b009e0f48092ff9c0a5a7");
    }
}

#[test]
fn documents_and_layers_that_are_not_what_they_should_be_are_refused() {
    let content = layer("x");
    let edited = |key: &str, value: Value| {
        let tar = docker_with(&[&content], |mut manifest| {
            manifest[0][key] = value;
            manifest
        });
        refusal(&tar.end())
    };
    let hex = "a".repeat(64);
    for (said, why) in [
        (edited("Layers", json!(["9/layer.tar"])), "it lacks 9/layer.tar"),
        (edited("Layers", json!([])), "its manifest has 0 layers, its configuration has 1"),
        (edited("Layers", json!("0/layer.tar")), "is not the JSON it should be"),
        (edited("Layers", json!(vec!["0/layer.tar"; 600])), "600 layers, more than 512"),
        (edited("Config", json!("0/layer.tar")), "is not the JSON it should be"),
        (edited("Config", json!("../../etc/passwd")), "it lacks ../../etc/passwd"),
        (edited("Config", json!(format!("{hex}.json"))), "it lacks aaaa"),
        (edited("Config", json!("manifest.json\n\u{1b}[2J")), r"it lacks manifest.json\n\u{1b}[2J"),
    ] {
        assert!(said.contains(why), "{said} / {why}");
    }
    let twice = docker_with(&[&content], |manifest| manifest).file("manifest.json", "[]").end();
    assert_eq!(refusal(&twice), "it has manifest.json twice");
    let twice = docker_with(&[&content], |manifest| manifest).file("0/layer.tar", "").end();
    assert_eq!(refusal(&twice), "it has 0/layer.tar twice");
    let directory = Tar::default().member("manifest.json", EntryType::Directory, "", b"").end();
    assert_eq!(refusal(&directory), "its manifest.json is no file");
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    assert!(refusal(&Tar::default().file("manifest.json", deep).end()).contains("nested deeper"));
    let wrong = Tar::default()
        .file(&format!("{hex}.json"), "{}")
        .file("manifest.json", format!(r#"[{{"Config":"{hex}.json","Layers":[]}}]"#))
        .end();
    assert!(refusal(&wrong).contains("has the digest sha256:44136fa3"), "{}", refusal(&wrong));
}

#[test]
fn blobs_of_a_layout_that_lie_are_refused() {
    let (descriptor, tar) = image(Tar::default(), "x", "amd64");
    let name = |descriptor: &Value| {
        format!(
            "blobs/sha256/{}",
            descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:")
        )
    };
    let mut size = descriptor.clone();
    size["size"] = json!(7);
    let mut foreign = descriptor.clone();
    foreign["mediaType"] = json!("application/vnd.oci.artifact.manifest.v1+json");
    let mut missing = descriptor.clone();
    missing["digest"] = json!(format!("sha256:{}", "b".repeat(64)));
    let mut odd = descriptor.clone();
    odd["digest"] = json!("sha256:../../../etc/passwd");
    for (descriptor, why) in [
        (&size, "instead of 7"),
        (&foreign, "not that of an image"),
        (&missing, "it lacks blobs/sha256/bbbb"),
        (&odd, "is not the JSON it should be"),
    ] {
        let said = refusal(&layout(Tar(tar.0.clone()), std::slice::from_ref(descriptor)));
        assert!(said.contains(why), "{said}");
    }
    // The layer is as long as another, but not the same: its reader finds that out, by the digest of the plan.
    let other = Tar::default().file(&name(&descriptor), "{}");
    assert!(refusal(&layout(other, &[descriptor])).contains("bytes instead of"));
    assert!(refusal(&layout(Tar::default(), &[])).contains("holds no image"));
    let old = Tar::default().file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    assert!(refusal(&old.file("index.json", "{}").end()).contains("version 2.0.0"));
}

#[test]
fn sizes_that_lead_beyond_the_end_are_refused() {
    let whole = docker(&[&layer("x")]);
    for cut in [100, 511, 513, 1030, whole.len() - 2000] {
        let said = refusal(&whole[..cut]);
        assert!(!said.is_empty(), "{cut}");
    }
    let mut huge = Header::new_gnu();
    huge.set_path("big").unwrap();
    huge.set_size(u64::MAX >> 1);
    huge.set_cksum();
    let said = refusal(huge.as_bytes());
    assert!(said.contains("cut short") || said.contains("beyond the end"), "{said}");
    let mut long = Header::new_gnu();
    long.set_entry_type(EntryType::GNULongName);
    long.set_size(1 << 40);
    long.set_cksum();
    assert!(refusal(long.as_bytes()).contains("an extended header has"));
}

#[test]
fn names_and_sizes_of_extended_headers_count() {
    let content = layer("x");
    let config = config(&[&content]).to_string();
    let long = format!("{}/layer.tar", "d".repeat(150));
    let manifest = json!([{ "Config": "c", "Layers": [long] }]).to_string();
    let path = format!(" path={long}\n");
    let path = format!("{}{path}", path.len() + 3);
    for (kind, bytes) in
        [(EntryType::XHeader, &path), (EntryType::GNULongName, &format!("{long}\0"))]
    {
        let tar = Tar::default().file("c", &config).file("manifest.json", &manifest);
        let tar = tar.member("x", kind, "", bytes.as_bytes()).file("short", &content);
        assert_eq!(read(&planned(&tar.end()).unwrap().layers[0]), content);
    }
}

#[test]
fn names_longer_than_any_path_are_passed_over() {
    let content = layer("x");
    let long = format!("{}\0", "d".repeat(5000));
    let manifest = json!([{ "Config": "c", "Layers": ["l"] }]).to_string();
    let tar = Tar::default().member("x", EntryType::GNULongName, "", long.as_bytes());
    let tar = tar.file("short", "y").file("c", config(&[&content]).to_string());
    let tar = tar.file("manifest.json", &manifest).file("l", &content).end();
    assert_eq!(read(&planned(&tar).unwrap().layers[0]), content);
    let names = manifest.replace("\"l\"", &format!("{:?}", "d".repeat(5000)));
    let tar = Tar::default().member("x", EntryType::GNULongName, "", long.as_bytes());
    let tar = tar.file("short", &content).file("c", config(&[&content]).to_string());
    assert!(refusal(&tar.file("manifest.json", names).end()).contains("lacks"));
}

#[test]
fn a_compressed_file_that_grows_beyond_the_limit_is_refused() {
    let bomb = gzip(&Tar::default().file("zeros", vec![0; 100_000]).end());
    let small = Wanted { expanded_bytes: 50_000, ..wanted() };
    let error = plan_with(&bomb, &small).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let mut broken = gzip(&docker(&[&layer("x")]));
    let middle = broken.len() / 2;
    broken[middle] ^= 0x55;
    assert!(planned(&broken).is_err());
}

#[test]
fn what_is_no_image_is_named() {
    for (bytes, why) in [
        (&b""[..], "no image that is known"),
        (b"hello", "no image that is known"),
        (&[7; 4096], "no image that is known"),
        (b"\xfd7zXZ\0 and more", "compressed by xz"),
        (b"BZh91AY&SY", "compressed by bzip2"),
        (b"PK\x03\x04", "a zip archive"),
        (&gzip(b"hello"), "no image that is known"),
    ] {
        let said = refusal(bytes);
        assert!(said.contains(why), "{said}");
    }
}

/// A SIF with one partition of that file system, role and architecture.
fn sif(file_system: u32, role: u32, architecture: &[u8; 3], content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 128 + 585];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let data = 4096_u64;
    put(0, b"#!/usr/bin/env run-singularity\n");
    put(32, b"SIF_MAGIC\0");
    put(42, b"01\0");
    put(45, architecture);
    put(88, &1_u64.to_le_bytes());
    put(96, &128_u64.to_le_bytes());
    put(128, &0x4004_u32.to_le_bytes());
    put(132, &[1]);
    put(128 + 17, &data.to_le_bytes());
    put(128 + 25, &(content.len() as u64).to_le_bytes());
    put(128 + 201, &file_system.to_le_bytes());
    put(128 + 205, &role.to_le_bytes());
    put(128 + 209, architecture);
    bytes.resize(data as usize, 0);
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn a_sif_that_holds_something_else_is_refused_with_the_reason() {
    let mut table = sif(1, 2, b"02\0", b"hsqs");
    table[96..104].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut many = sif(1, 2, b"02\0", b"hsqs");
    many[88..96].copy_from_slice(&1_000_000_u64.to_le_bytes());
    let mut version = sif(1, 2, b"02\0", b"hsqs");
    version[43] = b'2';
    let mut size = sif(1, 2, b"02\0", b"hsqs");
    size[128 + 25..128 + 33].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    let mut oci = sif(1, 1, b"02\0", b"hsqs");
    oci[128..132].copy_from_slice(&0x400a_u32.to_le_bytes());
    for (bytes, why) in [
        (sif(2, 2, b"02\0", b"x"), "ext3"),
        (sif(5, 2, b"02\0", b"x"), "encrypted SIF"),
        (sif(4, 2, b"02\0", b"x"), "no squashfs"),
        (sif(1, 4, b"02\0", b"hsqs"), "no primary system partition"),
        (sif(1, 2, b"04\0", b"hsqs"), "it has no image for linux/amd64; it has linux/arm64"),
        (sif(1, 2, b"02\0", b"tar?"), "does not begin as a squashfs does"),
        (table, "cut short"),
        (many, "more than 4096"),
        (version, "version is not 01"),
        (size, "instead of 1099511627776"),
        (oci, "OCI-SIF"),
        (sif(1, 2, b"02\0", b"hsqs")[..200].to_vec(), "cut short"),
    ] {
        let said = refusal(&bytes);
        assert!(said.contains(why), "{said} / {why}");
    }
}

/// A squashfs by mksquashfs.
fn squashfs(options: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (tree, out) = (directory.path().join("tree"), directory.path().join("out"));
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/text"), "in a squashfs\n").unwrap();
    let made = std::process::Command::new("mksquashfs")
        .args([&tree, &out])
        .args(["-no-progress", "-quiet", "-all-root", "-mkfs-time", "0", "-all-time", "0"])
        .args(options)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::read(out).unwrap()
}

#[test]
fn a_squashfs_is_one_layer_by_its_own_digest_and_a_sif_is_what_is_in_it() {
    for options in [&["-comp", "gzip"][..], &["-comp", "xz"]] {
        let bytes = squashfs(options);
        let image = planned(&bytes).unwrap();
        assert_eq!(image.format, Format::Squashfs);
        let layer = &image.layers[0];
        assert_eq!((layer.digest, layer.size), (hash_bytes(&bytes), bytes.len() as u64));
        let content = read(layer);
        let mut tar = tar::Archive::new(content.as_slice());
        let mut text = String::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap().ends_with("etc/text") {
                entry.read_to_string(&mut text).unwrap();
            }
        }
        assert_eq!(text, "in a squashfs\n");
        let sif = planned(&sif(1, 2, b"02\0", &bytes)).unwrap();
        assert_eq!((sif.format, sif.digest), (Format::Sif, image.digest));
        assert_eq!(read(&sif.layers[0]), content);
        let used = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
        assert!(planned(&bytes[..used - 1]).is_err(), "cut short");
        let limit = |expanded_bytes| plan_with(&bytes, &Wanted { expanded_bytes, ..wanted() });
        assert!(limit(content.len() as u64).is_ok());
        let error = limit(content.len() as u64 - 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    }
}

fn samples() -> Vec<Vec<u8>> {
    let content = layer("x");
    let (descriptor, tar) = image(Tar::default(), "x", "amd64");
    let layout = layout(tar, &[descriptor]);
    let docker = docker(&[&content, &layer("y")]);
    let sif = sif(1, 2, b"02\0", b"hsqs and more");
    vec![gzip(&docker), docker, layout, content, sif]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2500))]
    #[test]
    fn no_bytes_make_the_planner_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = planned(&bytes);
    }

    #[test]
    fn a_changed_or_cut_file_gives_an_error_or_an_image_with_layers_that_can_be_read(
        which in 0..5_usize,
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = samples().swap_remove(which);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        if let Ok(planned) = planned(&bytes) {
            for layer in &planned.layers {
                let mut input = layer.open().unwrap();
                let read = std::io::copy(&mut input, &mut std::io::sink());
                prop_assert!(read.is_err() || read.unwrap() <= layer.stream().1);
            }
        }
    }
}

#[test]
fn the_upload_is_read_by_position_wherever_its_descriptor_stands() {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(&docker(&[&layer("x")])).unwrap();
    file.rewind().unwrap();
    plan(file, &wanted()).unwrap();
}
