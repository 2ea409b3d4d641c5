//! What an ELF file says of itself, as far as the set-user-id program must promise it.
//!
//! Reads little-endian 64-bit files, and only headers and the dynamic section (gABI, chapters 4 and 5).

use std::fmt;

/// What is read of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// It is loaded at an address that the kernel chooses.
    pub(crate) position_independent: bool,
    /// It names a dynamic loader.
    pub(crate) interpreter: bool,
    /// How many shared libraries it needs.
    pub(crate) needed: usize,
    /// A segment can be written and executed.
    pub(crate) writable_code: bool,
    /// Its stack can be executed, or the file does not say that it cannot.
    pub(crate) executable_stack: bool,
}

impl Program {
    /// Reads the headers of an ELF file.
    ///
    /// # Errors
    /// Where the bytes are not such a file or are cut short.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        if !bytes.starts_with(b"\x7fELF\x02\x01\x01") {
            return Err(ElfError::NotElf);
        }
        let table = usize_at(bytes, 32)?;
        let entry_size = usize::from(u16_at(bytes, 54)?);
        let entries = usize::from(u16_at(bytes, 56)?);
        let mut program = Self { executable_stack: true, ..Self::default() };
        let mut dynamic: &[u8] = &[];
        for index in 0..entries {
            let at = index
                .checked_mul(entry_size)
                .and_then(|offset| offset.checked_add(table))
                .ok_or(ElfError::CutShort)?;
            let flags = u32_at(bytes, at + 4)?;
            match u32_at(bytes, at)? {
                PT_LOAD => program.writable_code |= flags & (PF_W | PF_X) == PF_W | PF_X,
                PT_INTERP => program.interpreter = true,
                PT_GNU_STACK => program.executable_stack = flags & PF_X != 0,
                PT_DYNAMIC => {
                    let start = usize_at(bytes, at + 8)?;
                    let end = start.checked_add(usize_at(bytes, at + 32)?);
                    let range = end.and_then(|end| bytes.get(start..end));
                    dynamic = range.ok_or(ElfError::CutShort)?;
                }
                _ => {}
            }
        }
        let mut pie = false;
        for entry in dynamic.chunks_exact(16) {
            match (u64_at(entry, 0)?, u64_at(entry, 8)?) {
                (DT_NULL, _) => break,
                (DT_NEEDED, _) => program.needed += 1,
                (DT_FLAGS_1, flags) => pie = flags & DF_1_PIE != 0,
                _ => {}
            }
        }
        program.position_independent = u16_at(bytes, 16)? == ET_DYN && pie;
        Ok(program)
    }

    /// What keeps the program from being a static, position-independent one that is safe to be set-user-id.
    pub(crate) fn faults(&self) -> Vec<&'static str> {
        [
            (!self.position_independent, "it is not position-independent"),
            (self.interpreter, "it names a dynamic loader"),
            (self.needed > 0, "it needs shared libraries"),
            (self.writable_code, "it has a segment that is both writable and executable"),
            (self.executable_stack, "its stack is executable"),
        ]
        .into_iter()
        .filter_map(|(is_so, text)| is_so.then_some(text))
        .collect()
    }
}

/// Why bytes are not a program that can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElfError {
    /// Not a little-endian 64-bit ELF file.
    NotElf,
    /// A header points behind the end.
    CutShort,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf => "it is not a little-endian 64-bit ELF file",
            Self::CutShort => "it is cut short",
        })
    }
}

impl std::error::Error for ElfError {}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ElfError> {
    let rest = bytes.get(at..).ok_or(ElfError::CutShort)?;
    rest.first_chunk().copied().ok_or(ElfError::CutShort)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, ElfError> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, ElfError> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, ElfError> {
    field(bytes, at).map(u64::from_le_bytes)
}

fn usize_at(bytes: &[u8], at: usize) -> Result<usize, ElfError> {
    usize::try_from(u64_at(bytes, at)?).map_err(|_| ElfError::CutShort)
}

const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, flags and the entries of a dynamic section.
    type Segment = (u32, u32, &'static [(u64, u64)]);

    /// An ELF file with these segments.
    fn program(kind: u16, segments: &[Segment]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16..18].copy_from_slice(&kind.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        let mut data_at = 64 + 56 * segments.len();
        let mut data = Vec::new();
        for (kind, flags, entries) in segments {
            let size = entries.len() * 16;
            bytes.extend(kind.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend((data_at as u64).to_le_bytes());
            bytes.extend([0; 16]);
            bytes.extend((size as u64).to_le_bytes());
            bytes.extend([0; 16]);
            data.extend(
                entries.iter().flat_map(|(tag, value)| [*tag, *value]).flat_map(u64::to_le_bytes),
            );
            data_at += size;
        }
        bytes.extend(data);
        bytes
    }

    const PIE: &[(u64, u64)] = &[(DT_FLAGS_1, DF_1_PIE), (DT_NULL, 0)];

    #[test]
    fn a_static_position_independent_program_has_no_faults() {
        let segments: [Segment; 4] =
            [(PT_LOAD, 5, &[]), (PT_LOAD, 6, &[]), (PT_DYNAMIC, 6, PIE), (PT_GNU_STACK, 6, &[])];
        let program = Program::parse(&program(ET_DYN, &segments)).unwrap();
        assert_eq!(program.faults(), Vec::<&str>::new());
    }

    #[test]
    fn every_fault_is_named() {
        const NEEDY: &[(u64, u64)] = &[(DT_NEEDED, 1), (DT_FLAGS_1, DF_1_PIE)];
        let segments: [Segment; 4] = [
            (PT_LOAD, 7, &[]),
            (PT_INTERP, 4, &[]),
            (PT_DYNAMIC, 6, NEEDY),
            (PT_GNU_STACK, 7, &[]),
        ];
        let faults = Program::parse(&program(2, &segments)).unwrap().faults();
        assert_eq!(faults.len(), 5, "{faults:?}");
    }

    #[test]
    fn a_program_that_does_not_speak_of_its_stack_is_at_fault() {
        let program = Program::parse(&program(ET_DYN, &[(PT_DYNAMIC, 6, PIE)])).unwrap();
        assert_eq!(program.faults(), ["its stack is executable"]);
    }

    #[test]
    fn this_very_test_is_a_dynamic_program() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let program = Program::parse(&own).unwrap();
        assert!(program.interpreter && program.needed > 0, "{program:?}");
    }

    #[test]
    fn what_is_no_program_is_refused_at_every_length() {
        let whole = program(ET_DYN, &[(PT_DYNAMIC, 6, PIE)]);
        for end in 0..whole.len() {
            assert!(Program::parse(&whole[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(Program::parse(b"#!/bin/sh\n"), Err(ElfError::NotElf));
    }
}
