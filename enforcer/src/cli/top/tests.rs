use std::collections::VecDeque;

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use serde_json::{Value, json};

use super::{clients::Clients, json::Sample, model::*, view};
use crate::api::types::{Counters, Event, Events, Flow, PseudoCounter, RuleCounter};

fn rule(rule: &str, service: &str, action: &str, packets: u64) -> RuleCounter {
    RuleCounter {
        policy: "lan".into(),
        rule: rule.into(),
        service: Some(service.into()),
        action: action.into(),
        packets,
        bytes: packets * 1000,
    }
}

fn counters(scale: u64) -> Counters {
    Counters {
        rules: vec![
            rule("apple", "web", "allow", 1000 * scale),
            rule("apple", "push", "allow", 3 * scale),
            rule("guests", "web", "allow", 500 * scale),
            rule("games", "arcade", "reject", 20 * scale),
            rule("games", "never", "reject", 0),
        ],
        pseudo: vec![PseudoCounter {
            name: "default".into(),
            action: "drop".into(),
            packets: scale,
            bytes: 60 * scale,
        }],
    }
}

fn event(source: [u8; 4], action: &str) -> Event {
    Event {
        time: "2026-11-25T09:30:00Z".into(),
        action: action.into(),
        hook: "lan".into(),
        interface: "lan0".into(),
        rule: None,
        service: None,
        reason: Some("default".into()),
        flow: Some(Flow {
            source: source.into(),
            destination: [203, 0, 113, 9].into(),
            protocol: 6,
            source_port: Some(50_000),
            destination_port: Some(443),
            icmp: None,
        }),
        names: Vec::new(),
        length: 60,
    }
}

#[test]
fn programs_are_told_what_the_screen_shows() {
    let model = model();
    let told = serde_json::to_value(Sample::from(model.data())).expect("JSON");
    assert_eq!(told["rules"].as_array().map(Vec::len), Some(5), "what never counted anything is not shown");
    let row = |kind: &str, name: &str| -> Value {
        let lines = told[kind].as_array().expect("lines");
        lines.iter().find(|line| line["name"] == name).expect("a line").clone()
    };
    // Of 16 and of 9 thousand packets, a second apart.
    let web = json!({
        "name": "push", "action": "allow", "packets": 48, "bytes": 48_000,
        "packets_per_second": 21.0, "bits_per_second": 168_000.0,
    });
    assert_eq!(row("services", "push"), web);
    assert_eq!(told["denied"]["packets_per_second"], 147.0);
    assert_eq!(told["clients"][0]["address"], "10.1.0.2");
    assert_eq!((&told["clients"][0]["packets"], &told["events_lost"]), (&json!(2), &json!(0)));
}

fn model() -> Model {
    let head = Head { policy: "school.toml 0123456789ab".into(), interfaces: "lan0 wan0".into() };
    let mut model = Model::of(head);
    for second in 1..=4u32 {
        model.counters(&counters(u64::from(second * second)), f64::from(second));
    }
    let events = [event([10, 1, 0, 3], "drop"), event([10, 1, 0, 2], "reject"), event([10, 1, 0, 2], "reject")];
    model.events(&Events { events: events.into(), lost: 0, behind: 0 });
    model
}

/// The screen, without blanks at lines' ends.
fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
    terminal.draw(|frame| view::draw(frame, model)).expect("in memory");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            letter => KeyCode::Char(letter),
        };
        assert!(model.key(KeyEvent::new(code, KeyModifiers::NONE)), "{key} ends it");
    }
}

fn names(model: &Model) -> Vec<String> {
    model.lines().iter().map(|line| line.name.clone()).collect()
}

#[test]
fn the_screen_shows_rates_the_last_minute_and_denied_clients() {
    let shown = screen(&model(), 80, 24);
    assert_eq!(shown[0], "enforcer   school.toml 0123456789ab   lan0 wan0");
    assert!(shown[1].starts_with("allowed        10,521 packets/s   84.2 Mb/s"), "{shown:#?}");
    assert!(shown[1].ends_with("▄▆█"), "{shown:#?}");
    assert!(shown[2].starts_with("denied            147 packets/s"), "{shown:#?}");
    assert!(shown[3].starts_with("SERVICE") && shown[3].contains("BITS/S▼"), "{shown:#?}");
    assert!(shown[4].starts_with("web") && shown[4].contains("10,500   84.0 Mb/s   24.0 MB"), "{shown:#?}");
    assert!(shown[5].starts_with("arcade") && shown[5].contains("reject"), "{shown:#?}");
    assert!(shown[6].starts_with("push") && shown[7].starts_with("[default]") && shown[8].is_empty(), "{shown:#?}");
    assert!(shown[15].starts_with("DENIED CLIENT"), "{shown:#?}");
    assert_eq!(shown[16], "10.1.0.2                       2 reject  203.0.113.9:443 tcp, default");
    assert_eq!(shown[17], "10.1.0.3                       1 drop    203.0.113.9:443 tcp, default");
    assert_eq!(shown[23], "b p t n sort  Tab rules  / filter  space hold  ? help  q quit");
}

#[test]
fn every_size_is_drawn_and_small_ones_say_so() {
    let model = model();
    assert_eq!(screen(&model, 39, 24)[0], "39x24 is too small: 40x8 at least");
    for width in (1..200).step_by(7) {
        for height in 1..60 {
            screen(&model, width, height);
        }
    }
    assert!(screen(&model, 40, 8)[4].starts_with("web"));
}

#[test]
fn keys_sort_filter_hold_and_end() {
    let mut model = model();
    assert_eq!(names(&model), ["web", "arcade", "push", "[default]"]);
    press(&mut model, "n");
    assert_eq!(names(&model), ["[default]", "arcade", "push", "web"]);
    press(&mut model, "n");
    assert_eq!(names(&model), ["web", "push", "arcade", "[default]"]);
    press(&mut model, "b\t");
    assert_eq!(names(&model), ["apple web", "guests web", "games arcade", "apple push", "[default]"]);
    press(&mut model, "/WEBq\n");
    assert_eq!(names(&model), Vec::<String>::new());
    model.key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
    press(&mut model, "/guests\n");
    assert_eq!(names(&model), ["guests web"]);
    let before = screen(&model, 80, 24);
    press(&mut model, " ");
    model.counters(&counters(1000), 5.0);
    let held = screen(&model, 80, 24);
    assert!(held[0].ends_with("HELD") && held[1..] == before[1..], "{held:#?}");
    press(&mut model, " ");
    assert_ne!(screen(&model, 80, 24), before);
    press(&mut model, "?");
    assert!(screen(&model, 80, 24).iter().any(|line| line.contains("sort by bits")));
    press(&mut model, "x");
    assert!(!model.key(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE)));
    assert!(!model.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn a_controller_that_stopped_is_told_until_it_counts_again() {
    let mut model = model();
    model.silent = Some("the controller has stopped; asking again".into());
    assert_eq!(screen(&model, 80, 24)[0], "the controller has stopped; asking again");
    // Begun anew, it counts from zero: no rate is negative or huge.
    model.counters(&counters(1), 6.0);
    assert!(screen(&model, 80, 24)[1].starts_with("allowed             0 packets/s"));
}

#[test]
fn forged_sources_do_not_push_out_those_that_send_more() {
    let mut clients = Clients::default();
    for _ in 0..10 {
        clients.add(&event([10, 1, 0, 2], "drop"));
    }
    for forged in 0..5000u32 {
        clients.add(&event((0x0a02_0000 + forged).to_be_bytes(), "drop"));
    }
    clients.add(&event([10, 1, 0, 9], "allow"));
    let top = clients.top();
    assert_eq!((top.len(), top[0].address.to_string(), top[0].packets), (1024, "10.1.0.2".into(), 10));
    assert!(top.iter().all(|client| client.action != "allow"));
}

#[test]
fn a_clients_monitored_packets_are_not_among_its_denied_ones() {
    let mut clients = Clients::default();
    for action in ["monitor", "monitor", "monitor", "reject"] {
        clients.add(&event([10, 1, 0, 2], action));
    }
    let told: Vec<(&str, u64)> =
        clients.top().into_iter().map(|client| (client.action.as_str(), client.packets)).collect();
    assert_eq!(told, [("monitor", 3), ("reject", 1)]);
}

#[test]
fn a_sparkline_is_as_wide_as_it_should_be() {
    let history: VecDeque<f64> = [0.0, 1.0, 4.0, 8.0].into();
    assert_eq!(view::sparkline(&history, 6), "   ▁▄█");
    assert_eq!(view::sparkline(&history, 2), "▄█");
    assert_eq!(view::sparkline(&VecDeque::new(), 3), "   ");
}
