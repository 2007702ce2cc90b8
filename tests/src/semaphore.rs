//! A System V semaphore whose operations the kernel undoes when their process ends (`semop(2)`, `SEM_UNDO`).

use std::ffi::{c_int, c_short};

use nix::errno::Errno;
use nix::libc;

/// A semaphore that is removed when it is dropped.
#[derive(Debug)]
pub struct Semaphore(c_int);

impl Semaphore {
    /// Creates a semaphore with a value.
    ///
    /// # Panics
    ///
    /// If the system has no room for it.
    #[must_use]
    pub fn new(value: c_int) -> Semaphore {
        // SAFETY: the call takes numbers.
        #[allow(unsafe_code)]
        let id = Errno::result(unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) }).expect("a semaphore");
        let semaphore = Semaphore(id);
        semaphore.control(libc::SETVAL, value);
        semaphore
    }

    /// Adds to the value. The kernel undoes the operation when the process ends.
    ///
    /// # Panics
    ///
    /// If the calling thread does not see the semaphore.
    pub fn add(&self, change: c_short) {
        let flags = c_short::try_from(libc::SEM_UNDO | libc::IPC_NOWAIT).expect("flags of 16 bits");
        let mut operation = libc::sembuf { sem_num: 0, sem_op: change, sem_flg: flags };
        // SAFETY: the pointer is to one operation, for the length of the call.
        #[allow(unsafe_code)]
        Errno::result(unsafe { libc::semop(self.0, &raw mut operation, 1) }).expect("an operation");
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> c_int {
        self.control(libc::GETVAL, 0)
    }

    fn control(&self, command: c_int, value: c_int) -> c_int {
        // SAFETY: the call takes numbers, for these commands.
        #[allow(unsafe_code)]
        Errno::result(unsafe { libc::semctl(self.0, 0, command, value) }).expect("the semaphore is there")
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        self.control(libc::IPC_RMID, 0);
    }
}
