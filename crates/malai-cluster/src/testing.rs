//! Keys and clusters that the tests share.

use crate::{Cluster, MachineId, SecretSeed, check};

// The keys of seeds that repeat one byte.
/// Of 1s.
pub(crate) const MANAGER: &str = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0";
/// Of 2s.
pub(crate) const WEB01: &str = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0";
/// Of 3s.
pub(crate) const LAPTOP: &str = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g";
/// Of 4s.
pub(crate) const STRANGER: &str = "pa9qo5o531o73ljrgf3vu3nug44ehr2561blqtp6gu9j7muqnpu0";

pub(crate) fn seed(byte: u8) -> SecretSeed {
    SecretSeed::from_bytes([byte; 32])
}

pub(crate) fn id(text: &str) -> MachineId {
    MachineId::parse(text).unwrap()
}

/// The cluster of these sections, under [`MANAGER`].
pub(crate) fn cluster(sections: &str) -> Cluster {
    let source = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n{sections}");
    let checked = check("cluster.toml", &source);
    checked
        .cluster
        .unwrap_or_else(|| panic!("{:#?}\n{source}", checked.diagnostics))
}

#[test]
fn the_shared_keys_are_their_seeds() {
    for (byte, text) in [(1, MANAGER), (2, WEB01), (3, LAPTOP), (4, STRANGER)] {
        assert_eq!(seed(byte).id(), id(text));
    }
}

/// A cluster of eight machines, `m0` to `m7`, with groups `g0` to `g3`; for the properties.
pub(crate) mod model {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;
    use crate::{Accept, Action, Decision, Request, decide};

    pub(crate) type List = Vec<String>;

    /// Where a list stands, and what is in it: none is a key that is not written.
    #[derive(Clone, Debug)]
    pub(crate) struct Model {
        pub(crate) lists: Vec<(ListKey, Option<List>)>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(crate) enum ListKey {
        AllowFrom(usize),
        AllowShell(usize),
        Command(usize),
        Group(usize),
    }

    pub(crate) const MACHINES: usize = 8;
    pub(crate) const GROUPS: usize = 4;

    /// Groups hold only groups with a higher number, so there is no circle.
    pub(crate) fn model() -> impl Strategy<Value = Model> {
        let keys = (0..MACHINES).flat_map(|m| {
            [
                ListKey::AllowFrom(m),
                ListKey::AllowShell(m),
                ListKey::Command(m),
            ]
        });
        let keys: Vec<ListKey> = keys.chain((0..GROUPS).map(ListKey::Group)).collect();
        let lists: Vec<_> = keys
            .into_iter()
            .map(|key| list(key).prop_map(move |list| (key, list)))
            .collect();
        lists.prop_map(|lists| Model { lists })
    }

    fn list(key: ListKey) -> BoxedStrategy<Option<List>> {
        let mut names: Vec<String> = (0..MACHINES).map(|m| format!("m{m}")).collect();
        names.extend([
            MANAGER.to_owned(),
            STRANGER.to_owned(),
            machine_id(0).to_string(),
        ]);
        if let ListKey::Group(group) = key {
            names.extend((group + 1..GROUPS).map(|inner| format!("g{inner}")));
            return prop::collection::vec(select(names), 0..4)
                .prop_map(Some)
                .boxed();
        }
        names.extend((0..GROUPS).map(|group| format!("g{group}")));
        names.push("*".to_owned());
        prop::option::of(prop::collection::vec(select(names), 0..4)).boxed()
    }

    pub(crate) fn machine_id(machine: usize) -> MachineId {
        seed(10 + machine as u8).id()
    }

    impl Model {
        /// The file; `layout` chooses the order of sections and keys and how lists are written.
        pub(crate) fn source(&self, layout: &[Index]) -> String {
            let mut layout = layout.iter().cycle();
            let mut choose = |among: usize| layout.next().unwrap().index(among);
            let mut sections = vec![vec![
                "[cluster_manager]".to_owned(),
                format!("id52 = \"{MANAGER}\""),
            ]];
            for machine in 0..MACHINES {
                let id = machine_id(machine);
                let mut section = vec![format!("[machine.m{machine}]"), format!("id52 = \"{id}\"")];
                section.extend(self.line(ListKey::AllowFrom(machine), "allow_from", &mut choose));
                section.extend(self.line(ListKey::AllowShell(machine), "allow_shell", &mut choose));
                sections.push(section);
                let mut section = vec![format!("[machine.m{machine}.command.x]")];
                section.extend(self.line(ListKey::Command(machine), "allow_from", &mut choose));
                sections.push(section);
            }
            for group in 0..GROUPS {
                let mut section = vec![format!("[group.g{group}]")];
                section.extend(self.line(ListKey::Group(group), "members", &mut choose));
                sections.push(section);
            }
            let mut out = String::new();
            while !sections.is_empty() {
                let mut section = sections.swap_remove(choose(sections.len()));
                if section.len() > 1 {
                    let by = choose(section.len() - 1);
                    section[1..].rotate_left(by);
                }
                out.push_str(&format!("{} # a comment\n\n", section.join("\n")));
            }
            out
        }

        fn line(
            &self,
            key: ListKey,
            name: &str,
            choose: &mut impl FnMut(usize) -> usize,
        ) -> Option<String> {
            let (_, list) = self.lists.iter().find(|(other, _)| *other == key).unwrap();
            let list = list.as_ref()?;
            Some(match choose(2) {
                0 => format!("{name} = \"{}\"", list.join(" , ")),
                _ => format!("{name} = {list:?}"),
            })
        }

        pub(crate) fn cluster(&self, layout: &[Index]) -> Cluster {
            let checked = check("cluster.toml", &self.source(layout));
            checked
                .cluster
                .unwrap_or_else(|| panic!("{:?}", checked.diagnostics))
        }
    }

    /// What every member and a stranger may do everywhere.
    pub(crate) fn decisions(cluster: &Cluster) -> Vec<Decision> {
        decisions_with(cluster, None)
    }

    /// The same where every computer's owner accepts this.
    pub(crate) fn decisions_with(cluster: &Cluster, accept: Option<&Accept>) -> Vec<Decision> {
        let argvs = [
            vec![b"x".to_vec()],
            vec![b"x".to_vec(), b"y".to_vec()],
            vec![b"ls".to_vec()],
        ];
        let mut decisions = Vec::new();
        let senders = (0..MACHINES)
            .map(machine_id)
            .chain([id(MANAGER), id(STRANGER)]);
        for from in senders {
            for to in (0..MACHINES).map(machine_id).chain([id(MANAGER)]) {
                let actions = argvs
                    .iter()
                    .map(|argv| Action::Exec(argv))
                    .chain([Action::Shell]);
                for action in actions {
                    decisions.push(decide(
                        cluster,
                        &Request {
                            from,
                            to,
                            action,
                            user: None,
                        },
                        accept,
                    ));
                }
            }
        }
        decisions
    }

    /// Whether something is allowed in `after` that was not in `before`.
    pub(crate) fn widens(before: &[Decision], after: &[Decision]) -> bool {
        let allowed = |decision: &Decision| matches!(decision, Decision::Allow(_));
        before
            .iter()
            .zip(after)
            .any(|(before, after)| allowed(after) && !allowed(before))
    }

    pub(crate) fn layout() -> impl Strategy<Value = Vec<Index>> {
        prop::collection::vec(any::<Index>(), 40)
    }
}
