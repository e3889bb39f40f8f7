//! Removes what tests that were killed have left: network namespaces with their processes, and folders.

fn main() {
    enforcer_tests::lab::remove_orphans();
}
