use super::*;

#[test]
fn a_marks_name_tells_the_filter() {
    let folder = Path::new("/sys/fs/bpf/enforcer/filters");
    let filter = Filter::new(folder, 7, Hook::ClsactEgress, "wan_egress");
    assert_eq!(filter.mark(), folder.join("7-clsact-egress-wan_egress-1-656e666f"));
    let named = |name: &str| Filter::marked(folder, name);
    assert_eq!(named("7-clsact-egress-wan_egress-1-656e666f"), Some(filter));
    // As another version may have it.
    let other = named("12-clsact-ingress-lan_ingress-3-1").expect("a filter");
    assert_eq!((other.index, other.hook, other.priority, other.handle), (12, Hook::ClsactIngress, 3, 1));
    for none in ["7-clsact", "7-tcx-egress-wan_egress", "x-clsact-egress-p-1-1", "7-clsact-up-p-1-1", ""] {
        assert_eq!(named(none), None, "{none}");
    }
}

#[test]
fn judges_come_before_what_hears_dns() {
    let priority = |program| Filter::new(Path::new(""), 7, Hook::ClsactIngress, program).priority;
    assert!(snoop::PROGRAMS.iter().all(|program| priority(program) > priority("lan_ingress")));
}

#[test]
fn only_what_cannot_be_beside_a_filter_keeps_it_out() {
    let filter = Filter::new(Path::new(""), 7, Hook::ClsactIngress, "lan_ingress");
    let bpf = Found { kind: "bpf".into(), priority: PRIORITY, handle: 1, protocol: all(), ..Found::default() };
    let cases = [
        (bpf.clone(), false),
        (Found { handle: HANDLE, ..bpf.clone() }, true),
        (Found { kind: "u32".into(), ..bpf.clone() }, true),
        (Found { protocol: 8, ..bpf.clone() }, true),
        (Found { kind: "u32".into(), priority: 49_152, ..bpf }, false),
    ];
    for (found, expected) in cases {
        assert_eq!(filter.is_kept_out_by(&found), expected, "{found:?}");
    }
}

#[test]
fn what_packets_meet_before_a_judge_is_told() {
    let judge = Filter::new(Path::new(""), 7, Hook::ClsactIngress, "lan_ingress");
    let hearer = Filter::new(Path::new(""), 7, Hook::ClsactIngress, snoop::INGRESS);
    let bpf = |priority, handle| Found { kind: "bpf".into(), priority, handle, ..Found::default() };
    // Netlink tells of each priority first.
    let [head, own, behind] = [bpf(PRIORITY, 0), bpf(PRIORITY, HANDLE), bpf(SNOOP_PRIORITY, HANDLE)];
    let other = bpf(PRIORITY, 1);
    assert_eq!(judge.place_among(vec![head.clone(), other.clone()]), Place::Gone);
    assert_eq!(judge.place_among(vec![head.clone(), own.clone(), other.clone()]), Place::First);
    let met = vec![head, other.clone(), own, behind];
    assert_eq!(judge.place_among(met.clone()), Place::Behind(other));
    assert_eq!(hearer.place_among(met), Place::First);
}
