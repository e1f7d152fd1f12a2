//! Folders, services and the network of a cluster, as `cluster show` shows them.

use malai_cluster::{Cluster, Folder, Machine, Service, escape};
use serde_json::{Value, json};

use super::show::{list_json, listed, names, users};
use crate::output::table::Table;

/// The tables of folders and of services; empty without any.
pub(super) fn tables(cluster: &Cluster) -> String {
    let mut out = String::new();
    if cluster.folders().next().is_some() {
        let mut table = Table::new(["FOLDER", "ON", "PATH", "WRITE", "ALLOW_FROM", "USER"]);
        for folder in cluster.folders() {
            table.row([
                folder.name().to_string(),
                folder.machine().to_string(),
                escape(folder.path()),
                write(folder).to_owned(),
                listed(folder.allow_from()),
                users(folder.usernames(), "(the machine's)"),
            ]);
        }
        out.push_str(&format!("\n{table}"));
    }
    if cluster.services().next().is_some() {
        let mut table = Table::new(["SERVICE", "ON", "ADDRESS", "ALLOW_FROM"]);
        for service in cluster.services() {
            table.row([
                service.name().to_string(),
                service.machine().to_string(),
                service.upstream().shown(),
                listed(service.allow_from()),
            ]);
        }
        out.push_str(&format!("\n{table}"));
    }
    out
}

/// The lines about relays and public infrastructure; empty if the cluster says nothing about them.
pub(super) fn network(cluster: &Cluster) -> String {
    let network = cluster.network();
    let relays = network.relays().iter();
    let mut out: String = relays
        .map(|relay| format!("🛰️  Relay: {relay}\n"))
        .collect();
    if !network.public() {
        out.push_str("🔒 Nothing public is used (public = false)\n");
    }
    out
}

pub(super) fn network_json(cluster: &Cluster) -> Value {
    let network = cluster.network();
    let relays = network.relays().iter().map(ToString::to_string);
    json!({"relays": relays.collect::<Vec<_>>(), "public": network.public()})
}

/// The lines of one machine.
pub(super) fn lines(cluster: &Cluster, machine: &Machine) -> String {
    let mut out = String::new();
    for folder in folders_on(cluster, machine) {
        let access = match folder.is_writable() {
            true => "writable",
            false => "read-only",
        };
        out.push_str(&format!(
            "   folder {}: {} ({access})   allow_from: {}\n",
            folder.name(),
            escape(folder.path()),
            listed(folder.allow_from())
        ));
    }
    for service in services_on(cluster, machine) {
        out.push_str(&format!(
            "   service {}: {}   allow_from: {}\n",
            service.name(),
            service.upstream().shown(),
            listed(service.allow_from())
        ));
    }
    out
}

/// The folders of one machine.
pub(super) fn folders_on<'c>(
    cluster: &'c Cluster,
    machine: &'c Machine,
) -> impl Iterator<Item = &'c Folder> {
    let all = cluster.folders();
    all.filter(|folder| folder.machine() == machine.name())
}

/// The services of one machine.
pub(super) fn services_on<'c>(
    cluster: &'c Cluster,
    machine: &'c Machine,
) -> impl Iterator<Item = &'c Service> {
    let all = cluster.services();
    all.filter(|service| service.machine() == machine.name())
}

/// A folder as JSON.
pub(super) fn folder_json(folder: &Folder) -> Value {
    json!({
        "name": folder.name().as_str(),
        "machine": folder.machine().as_str(),
        "path": folder.path(),
        "write": folder.is_writable(),
        "allow_from": list_json(folder.allow_from()),
        "username": names(folder.usernames()),
    })
}

/// A service as JSON.
pub(super) fn service_json(service: &Service) -> Value {
    json!({
        "name": service.name().as_str(),
        "machine": service.machine().as_str(),
        "address": service.upstream().to_string(),
        "protocol": service.upstream().protocol(),
        "allow_from": list_json(service.allow_from()),
    })
}

fn write(folder: &Folder) -> &'static str {
    match folder.is_writable() {
        true => "yes",
        false => "no",
    }
}
