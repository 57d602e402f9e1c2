//! The XDP program by itself: frames in, actions, bytes and counters out, by `BPF_PROG_TEST_RUN`.
//! It needs root and the eBPF object, and no interface of its own.

#[path = "datapath/loading.rs"]
mod loading;
#[path = "datapath/program.rs"]
mod program;
