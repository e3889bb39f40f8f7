//! The screen.

use std::collections::VecDeque;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line as Text, Span},
    widgets::{Cell, Clear, Paragraph, Row, Table},
};

use super::{
    super::units,
    model::{Mode, Model, Sort},
    traffic::{Kind, Line},
};

/// Less shows nothing that is of use.
const LEAST: (u16, u16) = (40, 8);
/// Fewer columns have no room for the last minute and for totals.
const WIDE: u16 = 72;
const HELP: &str = "\
 b p t n   sort by bits, packets, total, name; again: reverse
 Tab       services or rules
 /         show lines with a word; Esc: all
 space     hold the screen, or go on
 arrows    scroll; PgUp, PgDn, Home, End
 q         quit

 [default] and the like are what no rule names.
 Denied clients are those that events tell of: of a
 flood, a thousand packets a second on each CPU.
 ";

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{}x{} is too small: {}x{} at least", area.width, area.height, LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    // A third for clients, where there is room for both.
    let clients = if area.height >= 16 { area.height / 3 } else { 0 };
    let [head, lines, below, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(1),
        Constraint::Length(clients),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(frame, head, model);
    draw_lines(frame, lines, model);
    if clients > 0 {
        draw_clients(frame, below, model);
    }
    frame.render_widget(foot_line(model), foot);
    if model.mode == Mode::Help {
        let text: Vec<Text<'_>> = HELP.lines().map(Text::raw).collect();
        let height = text.len() as u16 + 1;
        let [middle] = Layout::vertical([Constraint::Length(height)]).flex(ratatui::layout::Flex::Center).areas(area);
        frame.render_widget(Clear, middle);
        frame.render_widget(Paragraph::new([vec![bar(" KEYS")], text].concat()), middle);
    }
}

fn bar(text: &str) -> Text<'_> {
    Text::raw(text).style(Style::new().add_modifier(Modifier::BOLD))
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let data = model.data();
    let title = match &model.silent {
        Some(why) => Text::raw(why.as_str()).style(Style::new().fg(Color::Red)),
        None => {
            let held = if model.is_held() { "   HELD".yellow().bold() } else { Span::raw("") };
            let text = format!("   {}   {}", model.head.policy, model.head.interfaces);
            Text::from(vec!["enforcer".bold(), Span::raw(text), held])
        }
    };
    let total = |word: &'static str, line: &Line, color| {
        let width = usize::from(area.width).saturating_sub(46).min(60);
        let text = format!("{:>13} packets/s {:>11}  ", units::number(line.rate.packets), units::bits(line.rate.bits));
        let graph = sparkline(&line.history, width);
        Text::from(vec![format!("{word:8}").fg(color).bold(), Span::raw(text), graph.fg(color)])
    };
    // What a policy on trial would deny is of more interest than what little it denies already.
    let traffic = &data.traffic;
    let second = if traffic.monitored.total.packets > 0 && traffic.denied.rate.packets < traffic.monitored.rate.packets
    {
        total("monitor", &traffic.monitored, Color::Yellow)
    } else {
        total("denied", &traffic.denied, Color::Red)
    };
    frame.render_widget(Paragraph::new(vec![title, total("allowed", &traffic.allowed, Color::Green), second]), area);
}

fn draw_lines(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let wide = area.width >= WIDE;
    let mark = |sort| if model.sort == sort { if model.reversed { "▲" } else { "▼" } } else { "" };
    let name = if model.kind == Kind::Service { "SERVICE" } else { "RULE, SERVICE" };
    let right = |text: String| Cell::from(Text::raw(text).alignment(Alignment::Right));
    let mut head = vec![
        Cell::from(format!("{name}{}", mark(Sort::Name))),
        Cell::from("ACTION"),
        right(format!("PACKETS/S{}", mark(Sort::Packets))),
        right(format!("BITS/S{}", mark(Sort::Bits))),
    ];
    let mut widths = vec![Constraint::Min(12), Constraint::Length(7), Constraint::Length(11), Constraint::Length(11)];
    // What a wider terminal has more of goes to the names first, then to the last minute.
    let graph = usize::from(area.width.saturating_sub(WIDE) / 2 + 10).min(60);
    if wide {
        head.extend([right(format!("TOTAL{}", mark(Sort::Total))), Cell::from("LAST MINUTE")]);
        widths.extend([Constraint::Length(9), Constraint::Length(graph as u16)]);
    }
    let rows = model.lines().into_iter().skip(model.offset).map(|line| {
        let color = color(&line.action);
        let mut cells = vec![
            Cell::from(line.name.clone()),
            Cell::from(line.action.clone().fg(color)),
            right(units::number(line.rate.packets)),
            right(units::bits(line.rate.bits)),
        ];
        if wide {
            let minute = Cell::from(sparkline(&line.history, graph).fg(color));
            cells.extend([right(units::bytes(line.total.bytes)), minute]);
        }
        Row::new(cells)
    });
    let rows: Vec<Row<'_>> = rows.collect();
    let head = Row::new(head).style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Table::new(rows, widths).header(head).column_spacing(1), area);
}

fn draw_clients(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let data = model.data();
    let lost = if data.lost > 0 { format!(" ({} packets not told)", data.lost) } else { String::new() };
    let head = Row::new([
        Cell::from("DENIED CLIENT"),
        Cell::from(Text::raw("PACKETS").alignment(Alignment::Right)),
        Cell::from("ACTION"),
        Cell::from(format!("LAST{lost}")),
    ]);
    let rows = data.clients.top().into_iter().take(usize::from(area.height)).map(|client| {
        Row::new([
            Cell::from(client.address.to_string()),
            Cell::from(Text::raw(units::number(client.packets as f64)).alignment(Alignment::Right)),
            Cell::from(client.action.clone().fg(color(&client.action))),
            Cell::from(format!("{}, {}", client.to, client.by)),
        ])
    });
    let rows: Vec<Row<'_>> = rows.collect();
    let widths = [Constraint::Length(22), Constraint::Length(9), Constraint::Length(7), Constraint::Min(10)];
    let head = head.style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Table::new(rows, widths).header(head).column_spacing(1), area);
}

fn foot_line(model: &Model) -> Text<'_> {
    match model.mode {
        Mode::Filter => Text::raw(format!("/{}_   Enter: keep  Esc: all", model.filter)),
        _ if !model.filter.is_empty() => Text::raw(format!("/{}   Esc: all  ? help  q quit", model.filter)),
        _ => Text::raw("b p t n sort  Tab rules  / filter  space hold  ? help  q quit").dim(),
    }
}

fn color(action: &str) -> Color {
    match action {
        "allow" => Color::Green,
        "monitor" => Color::Yellow,
        _ => Color::Red,
    }
}

/// The latest samples as blocks, in proportion to the largest of them; nothing at all is no block.
pub fn sparkline(history: &VecDeque<f64>, width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = || history.iter().skip(history.len().saturating_sub(width));
    let most = shown().copied().fold(0.0, f64::max);
    let block = |value: &f64| match value / most {
        share if share > 0.0 => BLOCKS[((share * 8.0).ceil() as usize).clamp(1, 8) - 1],
        _ => ' ',
    };
    let blocks: String = shown().map(block).collect();
    format!("{}{blocks}", " ".repeat(width.saturating_sub(history.len())))
}
