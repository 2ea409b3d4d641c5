//! What the files of one layer hold: cut into blocks, small files packed together, equal ones kept once.
//!
//! Everything here follows from the layer's bytes and the block size alone, so that a layer comes out as the same
//! blocks in every image that has it.

use std::collections::HashMap;
use std::io::BufRead;
use std::mem;
use std::sync::Arc;

use squashfs::BlockSize;

use crate::changeset::ObjectId;
use crate::error::LayerError;
use crate::tar::{Archive, Member, Segment, TarError};

/// One content of a layer.
#[derive(Debug, Default)]
pub(crate) struct Object {
    pub size: u64,
    /// Its whole blocks in order.
    pub runs: Vec<Run>,
    /// Where it stands in a fragment block, if it does.
    pub part: Option<Part>,
}

/// Blocks that were handed out, or left out as holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Data(u64),
    Hole(u64),
}

/// A place in a fragment block of the layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub fragment: FragmentIndex,
    pub offset: u32,
}

/// The place of a fragment block among those of its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FragmentIndex(pub u32);

/// Whose bytes a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Object(ObjectId),
    Fragment(FragmentIndex),
}

/// The paths under which the bytes of a block first came, as far as upper layers could hide them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// No layer above can be known to hide it.
    Keep,
    /// It is hidden if all of these paths are.
    Paths(Vec<Arc<[u8]>>),
}

/// Takes the blocks of one layer in order.
pub(crate) trait BlockSink {
    fn submit(&mut self, owner: Owner, claim: Claim, data: Vec<u8>) -> Result<(), LayerError>;
}

/// Cuts files into blocks and hands them to a sink.
#[derive(Debug)]
pub(crate) struct Packer<S> {
    sink: S,
    block_size: usize,
    objects: Vec<Object>,
    known: HashMap<(u64, blake3::Hash), ObjectId>,
    /// The open fragment block, and what becomes the next one if a file that does not fit into this is new.
    fragment: Vec<u8>,
    next_fragment: Vec<u8>,
    fragment_claim: Claim,
    fragments: u32,
}

impl<S: BlockSink> Packer<S> {
    pub(crate) fn new(block_size: BlockSize, sink: S) -> Self {
        Self {
            sink,
            block_size: block_size.bytes() as usize,
            objects: Vec::new(),
            known: HashMap::new(),
            fragment: Vec::new(),
            next_fragment: Vec::new(),
            fragment_claim: Claim::Paths(Vec::new()),
            fragments: 0,
        }
    }

    /// Reads the data of `member`, a regular file, and returns what holds it.
    pub(crate) fn add<R: BufRead>(
        &mut self,
        member: &Member,
        archive: &mut Archive<R>,
        claim: Claim,
    ) -> Result<ObjectId, PackError> {
        if member.size < self.block_size as u64 {
            self.add_small(member, archive, claim)
        } else if member.size <= WHOLE_LIMIT {
            self.add_medium(member, archive, claim)
        } else if let Some(segments) = &member.sparse {
            self.add_sparse(member.size, segments, archive, claim)
        } else {
            self.add_large(member.size, archive, claim)
        }
    }

    /// Ends the layer: hands out the last fragment block and returns the contents and the sink.
    pub(crate) fn finish(mut self) -> Result<(Vec<Object>, S), LayerError> {
        self.flush_fragment()?;
        Ok((self.objects, self.sink))
    }

    /// A file for a fragment block, read to where it would stand: if the layer has had the same bytes before, they are
    /// not kept twice.
    fn add_small<R: BufRead>(
        &mut self,
        member: &Member,
        archive: &mut Archive<R>,
        claim: Claim,
    ) -> Result<ObjectId, PackError> {
        let size = member.size as usize;
        let fits = self.fragment.len() + size <= self.block_size;
        let room = if fits { &mut self.fragment } else { &mut self.next_fragment };
        if room.capacity() < self.block_size {
            room.reserve_exact(self.block_size - room.len());
        }
        let offset = room.len();
        match &member.sparse {
            None => archive.append_data(member.size, room)?,
            Some(segments) => {
                room.resize(offset + size, 0);
                read_segments(segments, archive, room.get_mut(offset..).unwrap_or_default())?;
            }
        }
        let key = (member.size, blake3::hash(room.get(offset..).unwrap_or_default()));
        if let Some(object) = self.known.get(&key) {
            room.truncate(offset);
            return Ok(*object);
        }
        if !fits {
            self.flush_fragment()?;
        }
        let mut object = Object { size: member.size, ..Object::default() };
        if size > 0 {
            object.part = Some(self.claim_fragment(offset, claim));
        }
        Ok(self.remember(key, object))
    }

    /// A file of some blocks, looked at whole for the same reason.
    fn add_medium<R: BufRead>(
        &mut self,
        member: &Member,
        archive: &mut Archive<R>,
        claim: Claim,
    ) -> Result<ObjectId, PackError> {
        let mut hash = blake3::Hasher::new();
        let blocks = self.read_blocks(member, archive, &mut hash)?;
        let key = (member.size, hash.finalize());
        if let Some(object) = self.known.get(&key) {
            return Ok(*object);
        }
        let mut object = Object { size: member.size, ..Object::default() };
        object.push(Run::Data(blocks.len() as u64));
        let owner = Owner::Object(self.next_object());
        for block in blocks {
            self.sink.submit(owner, claim.clone(), block)?;
        }
        Ok(self.remember(key, object))
    }

    /// Reads a file whole, and hashes each block while it is in a cache.
    fn read_blocks<R: BufRead>(
        &self,
        member: &Member,
        archive: &mut Archive<R>,
        hash: &mut blake3::Hasher,
    ) -> Result<Vec<Vec<u8>>, TarError> {
        if let Some(segments) = &member.sparse {
            let mut whole = vec![0; member.size as usize];
            read_segments(segments, archive, &mut whole)?;
            hash.update(&whole);
            return Ok(whole.chunks(self.block_size).map(<[u8]>::to_vec).collect());
        }
        let mut blocks = Vec::new();
        let mut left = member.size;
        while left > 0 {
            let length = left.min(self.block_size as u64);
            let mut block = Vec::with_capacity(length as usize);
            archive.append_data(length, &mut block)?;
            hash.update(&block);
            blocks.push(block);
            left -= length;
        }
        Ok(blocks)
    }

    fn add_large<R: BufRead>(
        &mut self,
        size: u64,
        archive: &mut Archive<R>,
        claim: Claim,
    ) -> Result<ObjectId, PackError> {
        let id = self.next_object();
        let mut object = Object { size, ..Object::default() };
        let mut left = size;
        while left > 0 {
            let length = left.min(self.block_size as u64);
            let mut block = Vec::with_capacity(length as usize);
            archive.append_data(length, &mut block)?;
            left -= length;
            object.push(Run::Data(1));
            self.sink.submit(Owner::Object(id), claim.clone(), block)?;
        }
        self.objects.push(object);
        Ok(id)
    }

    /// A large file with holes; the work is in proportion to its segments, not to its size.
    fn add_sparse<R: BufRead>(
        &mut self,
        size: u64,
        segments: &[Segment],
        archive: &mut Archive<R>,
        claim: Claim,
    ) -> Result<ObjectId, PackError> {
        let id = self.next_object();
        let block_size = self.block_size as u64;
        let mut object = Object { size, ..Object::default() };
        let mut done = 0; // blocks handed out or left out
        let mut open: Vec<u8> = Vec::new(); // block number `done`, if it is not empty
        for segment in segments {
            let (mut at, end) = (segment.offset, segment.offset + segment.length);
            while at < end {
                let index = at / block_size;
                let start = index * block_size;
                if index > done || open.is_empty() {
                    if !open.is_empty() {
                        let block = mem::take(&mut open);
                        object.push(Run::Data(1));
                        self.sink.submit(Owner::Object(id), claim.clone(), block)?;
                        done += 1;
                    }
                    object.push(Run::Hole(index - done));
                    done = index;
                    open = vec![0; (size - start).min(block_size) as usize];
                }
                let until = end.min(start + block_size);
                archive.read_data(range(&mut open, at - start, until - start))?;
                at = until;
            }
        }
        if !open.is_empty() {
            object.push(Run::Data(1));
            self.sink.submit(Owner::Object(id), claim, open)?;
            done += 1;
        }
        object.push(Run::Hole(size.div_ceil(block_size) - done));
        self.objects.push(object);
        Ok(id)
    }

    /// Adds to the claim of the open fragment block for what stands there from `offset` on.
    fn claim_fragment(&mut self, offset: usize, claim: Claim) -> Part {
        match (&mut self.fragment_claim, claim) {
            (Claim::Paths(all), Claim::Paths(more)) => all.extend(more),
            (kept, _) => *kept = Claim::Keep,
        }
        Part { fragment: FragmentIndex(self.fragments), offset: offset as u32 }
    }

    /// Hands out the open fragment block and opens the next one.
    fn flush_fragment(&mut self) -> Result<(), LayerError> {
        let full = mem::replace(&mut self.fragment, mem::take(&mut self.next_fragment));
        if full.is_empty() {
            return Ok(());
        }
        let claim = mem::replace(&mut self.fragment_claim, Claim::Paths(Vec::new()));
        let index = FragmentIndex(self.fragments);
        self.fragments += 1;
        self.sink.submit(Owner::Fragment(index), claim, full)
    }

    fn remember(&mut self, key: (u64, blake3::Hash), object: Object) -> ObjectId {
        let id = self.next_object();
        self.known.insert(key, id);
        self.objects.push(object);
        id
    }

    fn next_object(&self) -> ObjectId {
        ObjectId(self.objects.len() as u32)
    }
}

impl Object {
    /// Adds a run, joined with the last one where both are of a kind.
    fn push(&mut self, run: Run) {
        match (self.runs.last_mut(), run) {
            (_, Run::Data(0) | Run::Hole(0)) => {}
            (Some(Run::Data(count)), Run::Data(more))
            | (Some(Run::Hole(count)), Run::Hole(more)) => *count += more,
            _ => self.runs.push(run),
        }
    }
}

/// Reads the segments of a sparse file to their places in `whole`, which is zero elsewhere.
fn read_segments<R: BufRead>(
    segments: &[Segment],
    archive: &mut Archive<R>,
    whole: &mut [u8],
) -> Result<(), TarError> {
    for segment in segments {
        let end = segment.offset + segment.length;
        archive.read_data(range(whole, segment.offset, end))?;
    }
    Ok(())
}

/// A range that a checked sparse map keeps inside the bytes.
fn range(bytes: &mut [u8], from: u64, to: u64) -> &mut [u8] {
    bytes.get_mut(from as usize..to as usize).unwrap_or_default()
}

/// Why a file could not be packed.
#[derive(Debug)]
pub(crate) enum PackError {
    Tar(TarError),
    Layer(LayerError),
}

impl From<TarError> for PackError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

impl From<LayerError> for PackError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

/// Files up to this size are held in memory once, to find out whether the layer has them already.
const WHOLE_LIMIT: u64 = 4 << 20;
