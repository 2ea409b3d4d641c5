//! Layers made to cost too much: bombs, holes, names, depths, numbers out of range. Each stops early, at a limit that
//! comes from the options and is named together with the layer.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod archive;
mod image;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use archive::{Header, Tar};
use image::{blob_layer, chain, convert_layers, convert_tars, digest, layer, limit_of, listing};
use oci_layers::{Compression, ConvertError, Layer, LayerError, Limit, Limits, Options};

fn with_limits(tar: Vec<u8>, limits: Limits) -> ConvertError {
    let options = Options { limits, ..Options::default() };
    convert_layers(vec![layer(&tar, Compression::Gzip)], &options).unwrap_err()
}

/// Converts a blob; returns the error and how many bytes of the blob were read.
fn refused(blob: Vec<u8>, limits: Limits) -> (ConvertError, u64) {
    struct Counted<R>(R, Arc<AtomicU64>);
    impl<R: Read> Read for Counted<R> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let length = self.0.read(out)?;
            self.1.fetch_add(length as u64, Ordering::Relaxed);
            Ok(length)
        }
    }
    let read = Arc::new(AtomicU64::new(0));
    let mut layer = blob_layer(Vec::new(), digest(b""), Compression::Gzip);
    (layer.digest, layer.size) = (digest(&blob), blob.len() as u64);
    let counter = Arc::clone(&read);
    layer.open = Box::new(move || Ok(Box::new(Counted(io::Cursor::new(blob), counter))));
    let options = Options { limits, workers: 2, ..Options::default() };
    let error = convert_layers(vec![layer], &options).unwrap_err();
    (error, read.load(Ordering::Relaxed))
}

/// A gzip member of 10 GiB: an archive that announces one file of zeros.
fn gzip_bomb() -> Vec<u8> {
    let head = Tar::default().header(Header::new(b'0', b"zeros", 0o644, (10 << 30) - 1536)).bytes;
    let mut encoder = flate2::Compress::new(flate2::Compression::best(), false);
    let mut deflate = |bytes: &[u8]| {
        let mut out = Vec::with_capacity(1 << 20);
        let flush = flate2::FlushCompress::Full;
        encoder.compress_vec(bytes, &mut out, flush).unwrap();
        out
    };
    let mut bomb = [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &deflate(&head)].concat();
    // Behind a full flush nothing refers back, so that the same bytes are another MiB every time.
    let mebibyte = deflate(&vec![0; 1 << 20]);
    (0..10 << 10).for_each(|_| bomb.extend_from_slice(&mebibyte));
    bomb.extend(b"\x03\0\0\0\0\0\0\0\0\0"); // an empty last block, no right checksum, no right length
    bomb
}

/// A zstd frame of 10 GiB: run-length blocks of 128 KiB, four bytes each.
fn zstd_bomb() -> Vec<u8> {
    let mut bomb = b"\x28\xb5\x2f\xfd\x00\x38".to_vec(); // a window of 128 KiB
    let block = ((128_u32 << 10) << 3 | 1 << 1).to_le_bytes();
    (0..81_920).for_each(|_| bomb.extend([block[0], block[1], block[2], 0]));
    bomb.extend([1, 0, 0]);
    bomb
}

#[test]
fn c07_a_gzip_bomb_of_10_gib_stops_at_the_ratio_long_before_its_end() {
    let bomb = gzip_bomb();
    let whole = bomb.len() as u64;
    assert!(whole < 50 << 20);
    let (error, read) = refused(bomb, Limits::default());
    assert_eq!(limit_of(&error), Limit::Ratio);
    assert!(read < whole / 8, "{read} of {whole} bytes were read");
}

#[test]
fn c07_a_gzip_bomb_stops_at_the_bytes_that_the_options_allow() {
    let bomb = gzip_bomb();
    let whole = bomb.len() as u64;
    let (error, read) = refused(bomb, Limits { expanded_bytes: 64 << 20, ..Limits::default() });
    assert_eq!(limit_of(&error), Limit::ExpandedBytes);
    assert!(read < whole / 32, "{read} of {whole} bytes were read");
}

#[test]
fn c07_a_zstd_bomb_of_10_gib_behind_the_archives_end_stops_as_well() {
    let (error, read) = refused(zstd_bomb(), Limits::default());
    assert_eq!(limit_of(&error), Limit::Ratio);
    assert!(read < 160 << 10, "{read} bytes were read");
}

#[test]
fn c07_a_zstd_frame_that_wants_a_window_of_2_gib_is_refused() {
    // Frame header: magic, descriptor without single segment, window descriptor for 2^31 bytes.
    let (error, _) = refused(b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00".to_vec(), Limits::default());
    let ConvertError::Layer { source: LayerError::Decompress { compression, .. }, .. } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*compression, "zstd");
    // The second frame of a layer is held to the same.
    let first = zstd::encode_all(&Tar::default().file("x", 0o644, b"x").bytes[..], 1).unwrap();
    let blob = [&first[..], b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"].concat();
    let (error, _) = refused(blob, Limits::default());
    assert!(chain(&error).contains("decompressed as zstd"), "{error:?}");
}

#[test]
fn c07_compressions_that_no_layer_may_have_are_named() {
    // As `xz --lzma2=dict=1536MiB` begins: stream header, block header with the largest dictionaries.
    let xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0\x21\x01\x25\0\0\0".to_vec();
    let bzip2 = b"BZh91AY&SY\0\0\0\0\0\0".to_vec();
    for (blob, name) in [(xz, "xz"), (bzip2, "bzip2")] {
        let (error, _) = refused(blob.clone(), Limits::default());
        let text = chain(&error);
        assert!(text.contains(&format!("it is compressed with {name}")), "{text}");
        // A blob that is not even the right one is told as that.
        let mut wrong = blob_layer(blob, digest(b""), Compression::Gzip);
        wrong.digest = digest(b"other");
        let error = convert_layers(vec![wrong], &Options::default()).unwrap_err();
        assert!(error.is_digest_mismatch(), "{error:?}");
    }
}

#[test]
fn c08_sparse_files_of_8_eib_are_over_a_limit_or_malformed() {
    let size = i64::MAX.to_string();
    let pax = Tar::default()
        .pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", size.as_bytes())])
        .header(Header::new(b'0', b"sparse", 0o644, 1))
        .data(b"x")
        .finish();
    assert_eq!(limit_of(&convert_tars(&[pax]).unwrap_err()), Limit::FileBytes);

    let mut header = Header::new(b'S', b"sparse", 0o644, 1);
    header.number(386, 12, i64::MAX - 1);
    header.number(398, 12, 1);
    header.number(483, 12, i64::MAX);
    let old = Tar::default().header(header).data(b"x").finish();
    assert_eq!(limit_of(&convert_tars(&[old]).unwrap_err()), Limit::FileBytes);

    let in_data = Tar::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"9223372036854775807"),
        ])
        .header(Header::new(b'0', b"sparse", 0o644, 513))
        .data(&[&b"1\n9223372036854775806\n1\n"[..], &[0; 488], b"x"].concat())
        .finish();
    assert_eq!(limit_of(&convert_tars(&[in_data]).unwrap_err()), Limit::FileBytes);

    let many = (0..9).fold(Tar::default(), |tar, n| {
        let name = format!("sparse-{n}");
        tar.pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1099511627775")])
            .header(Header::new(b'0', name.as_bytes(), 0o644, 1))
            .data(b"x")
    });
    assert_eq!(limit_of(&convert_tars(&[many.finish()]).unwrap_err()), Limit::FileBytes);

    let mut endless = Header::new(b'S', b"sparse", 0o644, 0);
    endless.put(482, b"\x01");
    let mut bytes = Tar::default().header(endless).bytes;
    let mut more = [0; 512];
    more[504] = 1;
    bytes.extend(more);
    assert!(convert_tars(&[bytes]).is_err());
}

#[test]
fn c08_an_endless_sparse_map_stops_at_the_size_of_an_extended_header() {
    let mut header = Header::new(b'S', b"sparse", 0o644, 0);
    header.put(482, b"\x01");
    let mut more = [0; 512];
    for (index, field) in more[..504].chunks_exact_mut(24).enumerate() {
        field.copy_from_slice(format!("{index:011o}\0{:011o}\0", 0).as_bytes());
    }
    more[504] = 1;
    let head = Tar::default().header(header).bytes;
    let tar = [&head[..], &more.repeat(10_000)].concat();
    let error = with_limits(tar, Limits::default());
    assert_eq!(limit_of(&error), Limit::HeaderBytes);
}

#[test]
fn c10_long_names_deep_paths_and_long_targets_name_their_limit() {
    let limits = Limits::default;
    let file = |name: &str| Tar::default().file(name, 0o644, b"").finish();
    for (tar, limit) in [
        (file(&"d/".repeat(5000)), Limit::PathBytes),
        (file(&"d/".repeat(1500)), Limit::Depth),
        (file(&"n".repeat(256)), Limit::NameBytes),
        (file(&format!("d/{}/f", "n".repeat(256))), Limit::NameBytes),
        (Tar::default().symlink("link", &"t".repeat(5000)).finish(), Limit::SymlinkBytes),
        (Tar::default().hard_link("link", &"t/".repeat(5000)).finish(), Limit::PathBytes),
        (
            Tar::default()
                .pax(&[("path", "p/".repeat(3000).as_bytes())])
                .file("x", 0o644, b"")
                .finish(),
            Limit::PathBytes,
        ),
        (
            Tar::default()
                .header(Header::new(b'x', b"pax", 0, 8 << 20))
                .data(&[b'x'; 1024])
                .finish(),
            Limit::HeaderBytes,
        ),
        (
            Tar::default()
                .header(Header::new(b'L', b"././@LongLink", 0, i64::MAX as u64))
                .data(&[b'x'; 1024])
                .finish(),
            Limit::HeaderBytes,
        ),
    ] {
        assert_eq!(limit_of(&with_limits(tar, limits())), limit);
    }
}

#[test]
fn c10_a_tree_5000_deep_is_refused_however_it_is_spelled() {
    // A thousand levels at a time, each behind a link to those before: no path in the archive is long.
    let tar = (1..=5).fold(Tar::default().symlink("0", "/"), |tar, n| {
        let deep = format!("{}/{}", n - 1, "d/".repeat(1000));
        tar.dir(&deep, 0o755).symlink(&n.to_string(), &deep)
    });
    assert_eq!(limit_of(&with_limits(tar.finish(), Limits::default())), Limit::Depth);

    let tar = Tar::default()
        .dir(&"d/".repeat(1000), 0o755)
        .symlink("way", &"d/".repeat(1000))
        .dir(&format!("way/{}", "e/".repeat(100)), 0o755)
        .finish();
    assert_eq!(limit_of(&with_limits(tar, Limits::default())), Limit::Depth);
}

#[test]
fn c10_directories_that_no_entry_names_are_counted_too() {
    let deep = |n| format!("{n}/{}", "d/".repeat(1000));
    let few = (0..3).fold(Tar::default(), |tar, n| tar.dir(&deep(n), 0o755));
    convert_tars(&[few.finish()]).unwrap();
    let many = (0..1100).fold(Tar::default(), |tar, n| tar.dir(&deep(n), 0o755));
    let error = with_limits(many.finish(), Limits::default());
    assert_eq!(limit_of(&error), Limit::ImpliedDirectories);
    assert!(error.is_limit());
}

#[test]
fn c12_ids_and_times_out_of_range_are_published_as_root_and_clamped() {
    let mut header = Header::new(b'0', b"ids", 0o644, 0).mtime(-1_000_000);
    header.number(108, 8, 0x8000_0001);
    header.number(116, 8, -1);
    let tar = Tar::default()
        .header(header)
        .header(Header::new(b'0', b"future", 0o644, 0).mtime(1 << 40))
        .header(Header::new(b'5', b"past", 0o755, 0).mtime(i64::MIN))
        .pax(&[("mtime", b"1234567890.9"), ("uid", b"99999999999"), ("gid", b"x")])
        .file("pax", 0o644, b"")
        .pax(&[("mtime", b"-0.5")])
        .file("before", 0o644, b"")
        .finish();
    let found = listing(&[tar]);
    for (name, mtime) in [
        ("ids", 0),
        ("future", i64::from(u32::MAX)),
        ("past", 0),
        ("pax", 1_234_567_890),
        ("before", 0),
    ] {
        let entry = &found[name.as_bytes()];
        assert_eq!((entry.mtime, entry.owner), (mtime, (0, 0)), "{name}");
    }
}

#[test]
fn c12_numbers_that_no_reader_would_understand_the_same_are_refused() {
    let fields: [(usize, &[u8]); 4] = [
        (136, b"12345x789012"),                                     // mtime
        (124, b"-0000000001\0"),                                    // size
        (124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), // size of -1
        (100, b"99999999"),                                         // mode
    ];
    for (at, field) in fields {
        let mut header = Header::new(b'0', b"x", 0o644, 0);
        header.put(at, field);
        let error = chain(&convert_tars(&[Tar::default().header(header).finish()]).unwrap_err());
        assert!(error.contains("in a header is not a valid number"), "{error}");
    }
    for value in [&b"99999999999999999999"[..], b"1e9", b"now", b"--1"] {
        let tar = Tar::default().pax(&[("mtime", value)]).file("x", 0o644, b"").finish();
        let error = chain(&convert_tars(&[tar]).unwrap_err());
        assert!(error.contains("a PAX record is malformed"), "{error}");
    }
}

#[test]
fn each_limit_is_the_one_of_the_options_and_is_named_with_the_layer() {
    let tar = Tar::default().file("dir/file", 0o644, &[7; 5000]).symlink("link", "target").finish();
    let base = Limits::default;
    let blob = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        gzip.finish().unwrap()
    };
    for (limits, limit) in [
        (Limits { entries: 1, ..base() }, Limit::Entries),
        (Limits { path_bytes: 7, ..base() }, Limit::PathBytes),
        (Limits { name_bytes: 3, ..base() }, Limit::NameBytes),
        (Limits { depth: 1, ..base() }, Limit::Depth),
        (Limits { symlink_bytes: 5, ..base() }, Limit::SymlinkBytes),
        (Limits { expanded_bytes: 5000, ..base() }, Limit::ExpandedBytes),
        (Limits { file_bytes: 4999, ..base() }, Limit::FileBytes),
    ] {
        let lower = layer(&Tar::default().finish(), Compression::None);
        let upper = blob_layer(blob.clone(), digest(&tar), Compression::Gzip);
        let layers: Vec<Layer> = vec![lower, upper];
        let options = Options { limits, ..Options::default() };
        let error = convert_layers(layers, &options).unwrap_err();
        assert_eq!(limit_of(&error), limit);
        assert!(error.to_string().starts_with("layer 2 ("), "{error}");
    }
    let enough = Limits {
        entries: 2,
        path_bytes: 8,
        name_bytes: 4,
        depth: 2,
        symlink_bytes: 6,
        expanded_bytes: tar.len() as u64,
        file_bytes: 5000,
        ..base()
    };
    let options = Options { limits: enough, ..Options::default() };
    convert_layers(vec![layer(&tar, Compression::Gzip)], &options).unwrap();
}

#[test]
fn expanded_bytes_of_all_layers_together_are_limited() {
    let tar = Tar::default().file("x", 0o644, &[7; 100_000]).finish();
    let layers = || (0..3).map(|_| layer(&tar, Compression::Zstd)).collect();
    let with = |expanded_bytes| {
        let limits = Limits { expanded_bytes, ..Limits::default() };
        convert_layers(layers(), &Options { limits, ..Options::default() })
    };
    assert!(with(3 * tar.len() as u64).is_ok());
    assert_eq!(limit_of(&with(3 * tar.len() as u64 - 1).unwrap_err()), Limit::ExpandedBytes);
}
