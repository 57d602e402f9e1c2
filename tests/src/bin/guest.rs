//! The first process of a kernel that `cargo xtask kernels` boots.

fn main() {
    assert_eq!(
        std::process::id(),
        1,
        "this is the first process of another kernel, which `cargo xtask kernels` boots"
    );
    xlb_tests::guest::run()
}
