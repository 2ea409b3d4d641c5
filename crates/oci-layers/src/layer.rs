//! One layer from its first byte to its last: a pure function of its bytes and the options.

use std::io::{BufRead, BufReader};

use squashfs::BlockSize;

use crate::blob::{Blob, Expected, Source};
use crate::changeset::{Changeset, ChangesetBuilder, EntryKind, Role, kind_of};
use crate::content::{BlockSink, Claim, Object, PackError, Packer};
use crate::error::LayerError;
use crate::limits::{Counts, Usage};
use crate::path::LayerPath;
use crate::tar::{Archive, TarError};

/// What a layer turned out to be; its blocks have gone to the sink.
#[derive(Debug)]
pub(crate) struct LayerIndex {
    pub changeset: Changeset,
    pub objects: Vec<Object>,
    pub counts: Counts,
}

/// Reads a layer, counted by a `usage` of its own, hands its blocks to `sink`, and checks size, digest and diff_id at the end.
pub(crate) fn read_layer<S: BlockSink>(
    source: Source<'_>,
    expected: Expected,
    usage: &Usage<'_>,
    block_size: BlockSize,
    sink: S,
) -> Result<(LayerIndex, S), LayerError> {
    let blob = Blob::open(source, expected, usage)?;
    let input = BufReader::with_capacity(BUFFER, blob);
    let mut archive = Archive::new(input, usage.limits.header_bytes);
    let result = read_archive(&mut archive, usage, block_size, sink);
    let blob = archive.into_inner().into_inner();
    match result {
        Ok((mut index, sink)) => {
            blob.finish()?;
            index.counts = usage.counts();
            Ok((index, sink))
        }
        Err(PackError::Tar(TarError::Read(error))) => {
            let error = blob.explain(error);
            Err(blob.prefer_mismatch(error))
        }
        Err(PackError::Tar(TarError::Limit(limit))) => Err(LayerError::Limit(limit)),
        Err(PackError::Tar(error)) => Err(blob.prefer_mismatch(LayerError::Tar(error))),
        Err(PackError::Layer(error)) => Err(blob.prefer_mismatch(error)),
    }
}

fn read_archive<R: BufRead, S: BlockSink>(
    archive: &mut Archive<R>,
    usage: &Usage<'_>,
    block_size: BlockSize,
    sink: S,
) -> Result<(LayerIndex, S), PackError> {
    let limits = usage.limits;
    let mut packer = Packer::new(block_size, sink);
    let mut builder = ChangesetBuilder::default();
    while let Some(member) = archive.next_member()? {
        let name_bytes = member.name.len() + member.link.len();
        usage.add_entry(name_bytes).map_err(LayerError::Limit)?;
        let path = LayerPath::parse(&member.name, limits).map_err(LayerError::Limit)?;
        let path = match Role::of(path) {
            Role::Ignored => continue,
            Role::Whiteout(whiteout) => {
                builder.add_whiteout(whiteout);
                continue;
            }
            Role::Entry(path) => path,
        };
        let kind = match kind_of(&member, &path, limits)? {
            Some(kind) => kind,
            None => {
                usage.add_file(member.size).map_err(LayerError::Limit)?;
                let claim = if builder.is_anchored(&path) {
                    Claim::Paths(vec![path.shared()])
                } else {
                    Claim::Keep
                };
                EntryKind::File(packer.add(&member, archive, claim)?)
            }
        };
        builder.add_entry(path, member.mode, member.mtime, kind);
    }
    let (objects, sink) = packer.finish()?;
    let changeset = builder.finish();
    Ok((LayerIndex { changeset, objects, counts: Counts::default() }, sink))
}

/// Bytes of decompressed layer read at once.
const BUFFER: usize = 128 << 10;
