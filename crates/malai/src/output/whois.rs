//! The clients that `malai whois` shows.

use std::fmt::Write;

use malai_cluster::escape;
use malai_wire::whois::WhoisFacts;

/// The clients, with a newline at the end.
pub fn render(facts: &WhoisFacts) -> String {
    let mut out = String::new();
    for client in &facts.connections {
        let who = match &client.machine {
            Some(machine) => escape(machine),
            None => client.id52.short(),
        };
        let cluster = escape(&client.cluster);
        let service = escape(&client.service);
        let _ = writeln!(out, "{who}.{cluster} uses {service}.{cluster}");
        let _ = writeln!(out, "   id52 {}", client.id52);
        let _ = writeln!(
            out,
            "   to {} · session {} · since {}",
            escape(&client.to),
            client.session,
            client.since
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn each_client_with_its_key_and_nothing_that_a_terminal_obeys() {
        let id = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
        let since = "2026-11-25T04:00:12.000Z";
        let json = format!(
            r#"{{"connections":[
                {{"id52":"{id}","machine":"laptop","cluster":"company","service":"db","to":"127.0.0.1:5432","session":7,"since":"{since}","news":1}},
                {{"id52":"{id}","cluster":"company","service":"a\u001b[2J","since":"{since}"}}]}}"#
        );
        expect![[r#"
            laptop.company uses db.company
               id52 i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60
               to 127.0.0.1:5432 · session 7 · since 2026-11-25T04:00:12.000Z
            i66fo538….company uses a\x1b[2J.company
               id52 i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60
               to  · session 0 · since 2026-11-25T04:00:12.000Z
        "#]]
        .assert_eq(&super::render(&serde_json::from_str(&json).unwrap()));
    }
}
