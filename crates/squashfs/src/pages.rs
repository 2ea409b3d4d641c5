//! A buffer whose memory begins at a page, as O_DIRECT wants it (open(2), NOTES).

use std::io;

/// A fixed number of bytes, filled from the front.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Never longer than at first, so that it stays where it is.
    memory: Vec<u8>,
    /// Where in it the first page begins.
    start: usize,
    capacity: usize,
    length: usize,
}

impl Pages {
    /// Makes an empty one for `capacity` bytes, a multiple of [`PAGE`].
    pub(crate) fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity + PAGE];
        let start = memory.as_ptr().align_offset(PAGE).min(PAGE);
        Self { memory, start, capacity, length: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Bytes that still fit.
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.length
    }

    /// Appends as many of the bytes as fit, and returns how many.
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        let (from, to) = (self.start + self.length, self.start + self.length + count);
        if let (Some(room), Some(bytes)) = (self.memory.get_mut(from..to), bytes.get(..count)) {
            room.copy_from_slice(bytes);
            self.length += count;
        }
        count
    }

    /// Appends `count` bytes, which must fit, as `read` puts them there.
    pub(crate) fn fill(
        &mut self,
        count: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let from = self.start + self.length;
        read(self.memory.get_mut(from..from + count).unwrap_or_default())?;
        self.length += count;
        Ok(())
    }

    /// The pages that are full.
    pub(crate) fn whole_pages(&self) -> &[u8] {
        let end = self.start + self.length / PAGE * PAGE;
        self.memory.get(self.start..end).unwrap_or_default()
    }

    /// Removes `count` bytes from the front.
    pub(crate) fn remove(&mut self, count: usize) {
        self.memory.copy_within(self.start + count..self.start + self.length, self.start);
        self.length -= count;
    }
}

/// The largest that disks and processors commonly have.
pub(crate) const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_pages_that_begin_at_pages() {
        let mut pages = Pages::new(2 * PAGE);
        assert_eq!(pages.extend(&[1; 100]), 100);
        assert!(pages.whole_pages().is_empty());
        pages
            .fill(PAGE, |room| {
                room.fill(2);
                Ok(())
            })
            .unwrap();
        assert_eq!(pages.whole_pages().as_ptr() as usize % PAGE, 0);
        assert_eq!(pages.whole_pages(), [vec![1; 100], vec![2; PAGE - 100]].concat());
        assert_eq!(pages.extend(&[3; PAGE]), PAGE - 100);
        assert_eq!((pages.room(), pages.whole_pages().len()), (0, 2 * PAGE));
        pages.remove(PAGE);
        assert_eq!(pages.len(), PAGE);
        assert_eq!(pages.whole_pages(), [vec![2; 100], vec![3; PAGE - 100]].concat());
    }

    #[test]
    fn bytes_that_cannot_be_read_are_not_there() {
        let mut pages = Pages::new(PAGE);
        assert!(pages.fill(10, |_| Err(io::ErrorKind::UnexpectedEof.into())).is_err());
        assert_eq!(pages.len(), 0);
    }
}
