//! What the runtime's files ask of the system, here told by the model.

pub(crate) mod process_local {
    use std::cell::Cell;

    std::thread_local! {
        // Loom runs the threads of a model on one.
        static CURRENT: Cell<u32> = const { Cell::new(0) };
    }

    /// Identifies a process.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct ProcessMark(u32);

    impl ProcessMark {
        pub(crate) fn current() -> ProcessMark {
            ProcessMark(CURRENT.get())
        }

        pub(crate) fn is_current(self) -> bool {
            self == ProcessMark::current()
        }

        /// What runs from now on is another process: the memory is a copy of that of this one.
        pub(crate) fn fork() {
            CURRENT.set(CURRENT.get() + 1);
        }
    }
}
