//! kstatus by its reference implementation, which Flux and other tools wait with.

use std::collections::BTreeMap;

use super::reader::kstatus;
use super::story::{holds, is_verified, phase, shown, speaks_of_this_spec};

#[tokio::test]
async fn kstatus_takes_only_the_verified_version_for_current() {
    let shown = shown().await;
    let mut counts = BTreeMap::<&str, usize>::new();
    for (object, read) in shown.iter().zip(kstatus(shown).await) {
        let wanted = if is_verified(object) {
            "Current"
        } else if speaks_of_this_spec(object) && holds(object, "Stalled") {
            "Failed"
        } else {
            "InProgress"
        };
        assert_eq!(read["status"], wanted, "{}: kstatus says {read} of {object:#}", phase(object));
        if wanted == "Failed" {
            let message = object["status"]["message"].as_str().unwrap();
            assert!(read["message"].as_str().unwrap().contains(message), "{read} does not say: {message}");
        }
        *counts.entry(wanted).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
}
