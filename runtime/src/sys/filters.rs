//! The number of seccomp filters of the calling thread.
//!
//! **Why:** filters cannot be read, and `PR_GET_SECCOMP` reports only whether there is one. Another filter may kill for
//! a system call that was harmless before.
//!
//! **Cost:** the kernel generates the text of the file at each read, which takes 2.8 µs; opening and closing it takes
//! 1.8 µs. So a thread that is inspected often keeps it open.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::readings;

/// The line of `proc_pid_status(5)`, since Linux 5.9.
const LINE: &[u8] = b"\nSeccomp_filters:\t";

/// The most digits of the number of filters: their programs have at most 32,768 instructions together.
const DIGITS: usize = 5;

/// Opens the file that has the number for the calling thread.
pub(crate) fn open() -> io::Result<File> {
    File::open("/proc/thread-self/status")
}

/// The number of filters of the calling thread. It is an error if `/proc` does not have it.
pub(crate) fn count() -> io::Result<u16> {
    count_in(&open()?)
}

/// The number of filters, from an open file. The list of groups before that line may be long, so the text is read in
/// parts. Nothing is allocated.
pub(crate) fn count_in(file: &File) -> io::Result<u16> {
    const REST: usize = LINE.len() + DIGITS;
    let mut text = [0_u8; 4096];
    let (mut kept, mut offset) = (0, 0);
    loop {
        let read = file.read_at(&mut text[kept..], offset)?;
        offset += read as u64;
        let known = &text[..kept + read];
        let digits = readings::position(known, LINE).and_then(|at| known.get(at + LINE.len()..)).unwrap_or_default();
        if let Some(end) = digits.iter().position(|digit| !digit.is_ascii_digit()) {
            return std::str::from_utf8(&digits[..end])
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let first = known.len().saturating_sub(REST);
        let end = known.len();
        text.copy_within(first..end, 0);
        kept = end - first;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn found_in(text: &str) -> Option<u16> {
        let mut file = File::from(crate::sys::readings::memory_file(c"status").unwrap());
        file.write_all(text.as_bytes()).unwrap();
        count_in(&file).ok()
    }

    #[test]
    fn the_line_is_found_wherever_the_parts_begin() {
        for before in 4000..4200 {
            let text = format!("Groups:\t{}\nSeccomp:\t2\nSeccomp_filters:\t123\nCpus:\t1\n", "1".repeat(before));
            assert_eq!(found_in(&text), Some(123), "after {before} bytes");
        }
        assert_eq!(found_in("Name:\tx\nSeccomp:\t2\n"), None);
    }
}
