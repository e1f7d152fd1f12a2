//! Single values of cluster.toml: of the right type, or a problem that names the right type.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Key, List, Reader, Spanned, Value};
use crate::diagnostic::{did_you_mean, quoted};
use crate::shell_words::split_list;

impl<'t> Reader<'t, '_, '_> {
    pub(super) fn list(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<List<'t>> {
        let entries = match value.get_ref() {
            DeValue::String(text) => split_list(self.source, text, value.span())
                .into_iter()
                .map(|(value, span)| Spanned { value, span })
                .collect(),
            DeValue::Array(array) => {
                let mut entries = Vec::with_capacity(array.len());
                for element in array.iter() {
                    let span = element.span();
                    match element.get_ref().as_str() {
                        Some(value) => entries.push(Spanned { value, span }),
                        None => {
                            let found = type_name(element.get_ref());
                            let message = format!(
                                "{} must contain strings; this is {found}",
                                quoted(key.get_ref())
                            );
                            self.error(span, message, None);
                        }
                    }
                }
                entries
            }
            _ => {
                self.wrong_type(key, value, "a list, like \"laptop,admins\"");
                return None;
            }
        };
        for entry in entries.iter().filter(|entry| entry.value.is_empty()) {
            let message = format!("{} has an empty entry", quoted(key.get_ref()));
            let help = "remove the comma, or write the name that is missing";
            self.error(entry.span.clone(), message, Some(help.to_owned()));
        }
        let key = key.span();
        Some(List { key, entries })
    }

    pub(super) fn text(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<&'t str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "a string in quotes");
        }
        text
    }

    pub(super) fn boolean(&mut self, key: &Key<'t>, value: &Value<'t>) -> Option<bool> {
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        boolean
    }

    pub(super) fn table(
        &mut self,
        key: &Key<'t>,
        value: &'t Value<'t>,
        example: &str,
    ) -> Option<&'t DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, &format!("a section, like `{example}`"));
        }
        table
    }

    pub(super) fn wrong_type(&mut self, key: &Key<'t>, value: &Value<'t>, wanted: &str) {
        let found = type_name(value.get_ref());
        let message = format!(
            "{} must be {wanted}; this is {found}",
            quoted(key.get_ref())
        );
        self.error(value.span(), message, None);
    }

    pub(super) fn unknown(&mut self, key: &Key<'t>, known: &[&'static str], place: &str) {
        let help = did_you_mean(key.get_ref(), known.iter().copied())
            .unwrap_or_else(|| format!("valid keys {place}: {}", known.join(", ")));
        let message = format!("unknown key {}", quoted(key.get_ref()));
        self.error(key.span(), message, Some(help));
    }

    /// Where a section starts: its header, or its key if it has no header.
    pub(super) fn header(&self, key: &Key<'t>, value: &Value<'t>) -> Range<usize> {
        if self.source[value.span()].starts_with('[') {
            value.span()
        } else {
            key.span()
        }
    }

    pub(super) fn error(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        self.report.error(span, message, help);
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a section",
    }
}
