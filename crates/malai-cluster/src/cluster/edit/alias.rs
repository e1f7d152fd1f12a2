//! Edits of malai.toml when a cluster gets a new alias on this computer.

use toml_edit::{Item, Value};

use super::{EditError, parse, with_line_ends_of};
use crate::name::ClusterAlias;

/// Copies the settings of a cluster to its new alias: its `[accept]` section exists under both aliases, and the
/// targets of `[aliases]` use the new one.
///
/// Nothing is accepted beyond what was accepted before, whichever alias the folder has when the file is read. The
/// old section is removed last, with [`forget_alias`].
///
/// # Errors
///
/// [`EditError::Syntax`] if the file is not TOML, [`EditError::AcceptExists`] if it already has a section for the
/// new alias.
pub fn follow_alias(
    source: &str,
    old: &ClusterAlias,
    new: &ClusterAlias,
) -> Result<String, EditError> {
    let mut document = parse(source)?;
    let accept = document.get_mut("accept").and_then(Item::as_table_like_mut);
    if let Some(accept) = accept
        && let Some(section) = accept.get(old.as_str()).cloned()
    {
        if accept.contains_key(new.as_str()) {
            return Err(EditError::AcceptExists { alias: new.clone() });
        }
        accept.insert(new.as_str(), section);
    }
    let aliases = document
        .get_mut("aliases")
        .and_then(Item::as_table_like_mut);
    for (_, targets) in aliases.into_iter().flat_map(|aliases| aliases.iter_mut()) {
        let Some(value @ Value::String(_)) = targets.as_value_mut() else {
            continue;
        };
        let text = value.as_str().unwrap_or_default();
        let suffix = format!(".{old}");
        let pieces = text.split(',').map(|piece| {
            let end = piece.trim_end();
            match end.strip_suffix(&suffix) {
                Some(machine) => format!("{machine}.{new}{}", &piece[end.len()..]),
                None => piece.to_owned(),
            }
        });
        let replaced = pieces.collect::<Vec<_>>().join(",");
        if replaced != text {
            let decor = value.decor().clone();
            *value = replaced.into();
            *value.decor_mut() = decor;
        }
    }
    Ok(with_line_ends_of(source, document.to_string()))
}

/// Removes the `[accept]` section of a cluster that has another alias now.
///
/// # Errors
///
/// [`EditError::Syntax`] if the file is not TOML.
pub fn forget_alias(source: &str, old: &ClusterAlias) -> Result<String, EditError> {
    let mut document = parse(source)?;
    let accept = document.get_mut("accept").and_then(Item::as_table_like_mut);
    if accept
        .and_then(|accept| accept.remove(old.as_str()))
        .is_none()
    {
        return Ok(source.to_owned());
    }
    Ok(with_line_ends_of(source, document.to_string()))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_said_of_a_cluster_follows_its_alias() {
        let source = "\
# mine
[network]
reach = \"lan\"

[aliases]
web = \"@web.company, web01.companys ,db.company \" # often
id = \"a.work\"

# only admins
[accept.company]
from = \"admins\" # not the others

[accept.work]
from = []
";
        let alias = |text| ClusterAlias::parse(text).unwrap();
        let (old, new) = (alias("company"), alias("corp"));
        let both = follow_alias(source, &old, &new).unwrap();
        assert!(both.contains("[accept.company]") && both.contains("[accept.corp]"));
        let again = follow_alias(&both, &old, &new);
        assert_eq!(again, Err(EditError::AcceptExists { alias: new.clone() }));
        expect![[r##"
            # mine
            [network]
            reach = "lan"

            [aliases]
            web = "@web.corp, web01.companys ,db.corp " # often
            id = "a.work"

            # only admins
            [accept.corp]
            from = "admins" # not the others

            [accept.work]
            from = []
        "##]]
        .assert_eq(&forget_alias(&both, &old).unwrap());
        for untouched in ["", "# nothing\n", "[accept]\n"] {
            assert_eq!(follow_alias(untouched, &old, &new).unwrap(), untouched);
            assert_eq!(forget_alias(untouched, &old).unwrap(), untouched);
        }
    }
}
