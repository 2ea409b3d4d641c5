//! A child that lies, and downloads that fail.

use oci_registry::{AuthMethod, Connections, Endpoint, Timeouts, Url};

use super::*;

/// A conversion of `layers` layers that never come, as seen by the gateway.
fn making(layers: usize, reusing: bool) -> (tempfile::TempDir, Making) {
    let endpoint = Endpoint {
        name: "lab".into(),
        base: Url::parse("http://127.0.0.1:9/").unwrap(),
        ca: None,
        internal: true,
        token_realms: Vec::new(),
        auth: AuthMethod::Offered,
    };
    let repository = endpoint.repository("org/app");
    let session =
        Session::new(&Connections::default(), &endpoint, &repository, None, Timeouts::default())
            .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = ImageDir::open(directory.path()).unwrap().partial().unwrap();
    let digest = Digest::from_bytes([1; 32]);
    let blob = Descriptor { digest, size: 10, compression: LayerCompression::Gzip };
    let progress = Arc::new(Progress::begin());
    progress.layers((0..layers).map(|_| (digest, 10)));
    let making = Making {
        layers: vec![(blob, Stage::Waiting); layers],
        reusing,
        downloads: Downloads {
            session: Arc::new(session),
            stop: CancellationToken::new(),
            failure: Arc::default(),
            runtime: Handle::current(),
        },
        out,
        progress,
    };
    (directory, making)
}

fn hear(making: &mut Making, replies: &[Reply]) -> Result<(), String> {
    let (ours, _theirs) = Channel::pair().unwrap();
    replies
        .iter()
        .try_for_each(|reply| making.hear(reply.clone(), &ours))
        .map_err(|error| error.to_string())
}

const fn open(layer: usize) -> Reply {
    Reply::Open { layer }
}

const fn done(layer: usize, reused: bool) -> Reply {
    Reply::LayerDone { layer, reused }
}

#[tokio::test]
async fn a_child_that_says_what_cannot_be_is_not_believed() {
    let plan = || {
        Reply::Planned(converter_api::Plan {
            digest: Digest::from_bytes([1; 32]),
            format: String::new(),
            env: vec![],
            entrypoint: vec![],
            cmd: vec![],
            workdir: String::new(),
            labels: [].into(),
            created: None,
            platform: String::new(),
            layers: vec![],
        })
    };
    for (replies, reusing, words) in [
        (vec![open(2)], false, "a layer that does not exist"),
        (vec![open(usize::MAX)], false, "a layer that does not exist"),
        (vec![Reply::Taken { layer: 2, bytes: 0 }], false, "a layer that does not exist"),
        (vec![done(2, false)], false, "a layer that does not exist"),
        (vec![open(1), open(1)], false, "asks for a layer twice"),
        (vec![open(0), done(0, false), open(0)], false, "asks for a layer twice"),
        (vec![done(0, false)], true, "a layer from nowhere"),
        (vec![done(0, true)], false, "a layer from nowhere"),
        (vec![open(0), done(0, true)], true, "a layer from nowhere"),
        (vec![open(0), done(0, false), done(0, false)], false, "a layer from nowhere"),
        (vec![plan()], false, "out of order"),
    ] {
        let (_directory, mut making) = making(2, reusing);
        let error = hear(&mut making, &replies).unwrap_err();
        assert!(error.ends_with(words), "{replies:?}: {error}");
    }
}

#[tokio::test]
async fn a_success_is_believed_only_where_the_file_agrees() {
    let made =
        |bytes, made_by: &str| Converted { bytes, made_by: made_by.into(), ..Converted::default() };
    let all = [open(0), done(0, false), done(1, true)];
    for (said, converted, words) in [
        (&all[..2], made(4096, "x"), "before it has the layers"),
        (&all[..], made(8192, "x"), "another size"),
        (&all[..], made(4096, "x\n"), "are no text"),
        (&all[..], made(4096, &"x".repeat(201)), "are no text"),
    ] {
        let (_directory, mut making) = making(2, true);
        hear(&mut making, said).unwrap();
        making.out.file().set_len(4096).unwrap();
        let error = making.finish(&converted).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let (_directory, mut making) = making(2, true);
    hear(&mut making, &all).unwrap();
    making.out.file().set_len(4096).unwrap();
    making.finish(&made(4096, "zstd:3")).unwrap();
}

#[tokio::test]
async fn a_download_that_fails_is_known_before_its_pipe_ends() {
    let (_directory, making) = making(1, false);
    let (blob, _) = making.layers[0];
    let pipe = making.downloads.clone().start(blob).unwrap();
    let failure = Arc::clone(&making.downloads.failure);
    let known = tokio::task::spawn_blocking(move || {
        // Nobody answers there.
        let read = io::Read::read(&mut &pipe, &mut [0; 1]).unwrap();
        (read, locked(&failure).is_some())
    });
    assert_eq!(known.await.unwrap(), (0, true));
}
