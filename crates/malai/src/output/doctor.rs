//! The output of `malai doctor`.

use malai_node::{Diagnosis, State, display_path};

use crate::output::text::problems;

/// Each finding, with why it matters and how to fix it, then a summary.
pub fn render(diagnosis: &Diagnosis) -> String {
    let mut out = format!("🩺 malai doctor: {}\n", display_path(&diagnosis.home));
    for finding in &diagnosis.findings {
        let symbol = match finding.state {
            State::Fine => "✅",
            State::Note => "💡",
            State::Warning => "⚠️ ",
            State::Error => "❌",
        };
        // A finding may be a diagnostic of several lines.
        let mut lines = finding.what.trim_end().lines();
        let first = lines.next().unwrap_or_default();
        out.push_str(&format!("{symbol} {}: {first}\n", finding.check));
        for line in lines {
            out.push_str(&format!("      {line}\n"));
        }
        if let Some(why) = &finding.why {
            out.push_str(&format!("   why: {why}\n"));
        }
        if let Some(remedy) = &finding.remedy {
            out.push_str(&format!("   do:  {remedy}\n"));
        }
    }
    let count = |state| {
        diagnosis
            .findings
            .iter()
            .filter(|finding| finding.state == state)
            .count()
    };
    out.push_str(&format!(
        "\n{}\n",
        problems(count(State::Error), count(State::Warning))
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use malai_node::Finding;

    #[test]
    fn what_why_and_what_to_do() {
        let finding = |state, what: &str, why: Option<&str>, remedy: Option<&str>| Finding {
            check: "keys",
            state,
            what: what.into(),
            why: why.map(Into::into),
            remedy: remedy.map(Into::into),
        };
        let diagnosis = Diagnosis {
            version: "0",
            home: "/root/.malai".into(),
            ok: false,
            findings: vec![
                finding(State::Fine, "one key", None, None),
                finding(
                    State::Error,
                    "error: x\n --> y",
                    Some("because"),
                    Some("chmod 600 z"),
                ),
                finding(State::Note, "a note", None, None),
            ],
        };
        expect![[r#"
            🩺 malai doctor: /root/.malai
            ✅ keys: one key
            ❌ keys: error: x
                   --> y
               why: because
               do:  chmod 600 z
            💡 keys: a note

            1 error
        "#]]
        .assert_eq(&render(&diagnosis));
    }
}
