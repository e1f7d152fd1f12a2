//! Folders: each is on a machine of the cluster.

use super::Checker;
use crate::cluster::document::FolderSection;
use crate::folder::Folder;

impl Checker<'_, '_, '_, '_> {
    /// The folders, by name.
    pub(super) fn resolve_folders(&mut self) -> Vec<Folder> {
        let document = self.document;
        let mut folders = Vec::new();
        for section in &document.folders {
            if self.report.is_full() {
                break;
            }
            folders.extend(self.folder(section));
        }
        folders.sort_by(|a, b| a.name.cmp(&b.name));
        folders
    }

    fn folder(&mut self, section: &FolderSection<'_>) -> Option<Folder> {
        let allow_from = section.allow_from.as_ref();
        let allow_from = allow_from.map(|list| self.allow_list(list));
        let machine = section.machine.as_ref()?;
        let why_one = "a folder is on one machine";
        let machine = self.machine_of(&machine.value, &machine.span, why_one)?;
        Some(Folder {
            name: section.name.value.clone(),
            machine,
            path: section.path.as_ref()?.value.as_ref().into(),
            write: section.write,
            allow_from,
            usernames: section.usernames.clone().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::cluster::check::tests::problems;
    use crate::testing::*;

    #[test]
    fn what_can_be_wrong_with_a_folder() {
        problems(
            &format!(
                r#"
[cluster_manager]
id52 = "{MANAGER}"
[machine.web01]
id52 = "{WEB01}"
allow_from = "logs"
[folder.web01]
machine = "web01"
path = "/srv"
[folder.logs]
machine = "web1"
path = "/var/log"
[folder.devs]
path = "var"
mahcine = "web01"
[group.devs]
members = "web01"
"#
            ),
            expect![[r#"
            error: `logs` is a folder, not a member of the cluster
              --> cluster.toml:6:15
               |
             6 | allow_from = "logs"
               |               ^^^^
               = help: a list contains machines, groups, id52s and `*`

            error: `web01` is also a machine, on line 4
              --> cluster.toml:7:9
               |
             7 | [folder.web01]
               |         ^^^^^
               = help: a name must have one meaning: rename one of them

            error: there is no machine `web1`
               --> cluster.toml:11:11
                |
             11 | machine = "web1"
                |           ^^^^^^
                = help: did you mean `web01`?

            error: folder `devs` has no `machine`
               --> cluster.toml:13:1
                |
             13 | [folder.devs]
                | ^^^^^^^^^^^^^
                = help: the name of the machine that it is on

            error: `devs` is also a group, on line 16
               --> cluster.toml:13:9
                |
             13 | [folder.devs]
                |         ^^^^
                = help: a name must have one meaning: rename one of them

            error: `var` cannot be the path of a folder
               --> cluster.toml:14:8
                |
             14 | path = "var"
                |        ^^^^^
                = help: write an absolute path without `..`, as /var/log/nginx

            error: unknown key `mahcine`
               --> cluster.toml:15:1
                |
             15 | mahcine = "web01"
                | ^^^^^^^
                = help: did you mean `machine`?"#]],
        );
        problems(
            &format!(
                r#"
[cluster_manager]
id52 = "{MANAGER}"
[machine.web01]
id52 = "{WEB01}"
[folder.all]
machine = "web01"
path = "//./"
allow_from = "none"
[group.none]
members = []
"#
            ),
            expect![[r#"
            warning: this folder contains every file of the machine that its user can reach
              --> cluster.toml:8:8
               |
             8 | path = "//./"
               |        ^^^^^^
               = help: use `allow_files` of the machine for that

            warning: this allows no one
              --> cluster.toml:9:1
               |
             9 | allow_from = "none"
               | ^^^^^^^^^^
               = help: add a machine, a group or `*`"#]],
        );
    }
}
