"""The tutorial from Production Setup to Disaster Recovery, as root, with the unit's restrictions in force: the blocks as
written, and the checks that an administrator would make."""

import glob, os, pwd, re, shutil, signal, stat, subprocess

from service import state, Unit
from world import Computer, PLACE, check, join, settled, wait_for

HOME = "/opt/malai"
AS_MALAI = "sudo -u malai env MALAI_HOME=/opt/malai "
# A command that reports its surroundings.
LOOK = r"""echo user=$(id -un)
grep -q "NoNewPrivs:.*1" /proc/self/status && echo no new privileges
touch /usr/touched 2>&1; touch /etc/touched 2>&1; touch /tmp/touched 2>&1
ls /home /root 2>&1
touch /opt/malai/touched && rm /opt/malai/touched && echo the home is writable"""


def owner_and_mode(path):
    found = os.stat(path)
    return f"{pwd.getpwuid(found.st_uid).pw_name} {stat.S_IMODE(found.st_mode):o}"


def modes_are_right(home, user, what):
    wrong = []
    for folder, folders, files in os.walk(f"{home}/clusters"):
        for path in [folder, *(f"{folder}/{name}" for name in files)]:
            mode = stat.S_IMODE(os.stat(path).st_mode)
            private = path.endswith("private-key") or path == f"{home}/clusters"
            if owner_and_mode(path).split()[0] != user or private and mode & 0o077:
                wrong.append(f"{path}: {owner_and_mode(path)}")
    check(owner_and_mode(home) == f"{user} 700", f"{what}: the home is its user's alone", owner_and_mode(home))
    check(not wrong, f"{what}: keys and clusters/ are their owner's alone", str(wrong))


def revision(machine):
    found = re.search(r"Revision: (\d+)", machine.malai("status", code=None))
    return int(found[1]) if found else 0


def manager_says(admin, words):
    """Runs a command as the service's user, without showing it."""
    return admin.type(AS_MALAI + words, silent=True)


def typed(who, command, what, code=0, *texts, absent=()):
    """A command that is not on the page, but typed by a person at a terminal."""
    done, output = who.type(command)
    missing = [text for text in texts if text not in output] + [f"not {text}" for text in absent if text in output]
    check(done == code and not missing, what, f"exit code {done}, expected {code}; missing {missing}")
    return output


def verified(admin, path):
    if shutil.which("systemd-analyze"):
        typed(admin, f"systemd-analyze verify {path}", f"systemd-analyze verify {os.path.basename(path)} has nothing to say", absent=("malai",))
    else:
        print("-- systemd-analyze is not installed: units are not verified with it")


def set_up(tutorial, admin):
    if subprocess.run(["getent", "passwd", "malai"], capture_output=True).returncode == 0:
        subprocess.run(["userdel", "malai"], check=True, capture_output=True)
    shutil.rmtree(HOME, ignore_errors=True)
    admin.run(tutorial.take("sudo useradd -r -d /opt/malai"))
    os.remove("/usr/local/bin/malai")
    admin.run(tutorial.take("sudo curl"))
    typed(admin, "malai --version", "the installed malai is in everybody's PATH", 0, "malai ")
    admin.run(tutorial.take("sudo -u malai env MALAI_HOME=/opt/malai malai cluster init production"), {"init": "Cluster created with ID: "})
    modes_are_right(HOME, "malai", "after cluster init")
    admin.run(tutorial.take("sudo tee /etc/systemd/system/malai.service"))
    verified(admin, "/etc/systemd/system/malai.service")
    admin.run(tutorial.take("sudo systemctl daemon-reload"), {"status": "active"})
    # Type=simple: it is up before it serves.
    check(wait_for(lambda: manager_says(admin, "malai status")[0] == 0), "the service's daemon is healthy and responsive")


def members(admin, laptop, web):
    """Adds a machine, a laptop that may command, and the manager under a name, so that commands also run under the unit."""
    file = f"{HOME}/clusters/production/cluster.toml"
    own = re.search(r'id52 = "(\w+)"', open(file).read())[1]
    for machine, name in ((laptop, "laptop"), (web, "web01")):
        said = machine.malai("machine", "init", own, "production")
        key = re.search(r'id52 = "(\w+)"', said)[1]
        typed(admin, f"{AS_MALAI}malai cluster add production {name} {key} --allow-from '*'", f"{name} is added")
        machine.starts()
    typed(admin, f"{AS_MALAI}malai cluster add production prod01 {own} --allow-from laptop", "the manager gets a name")
    settled_here(admin)
    with open(f"{PLACE}/look.sh", "w") as script:
        script.write(LOOK)
    typed(laptop, f"malai prod01.production sh -c \"$(cat {PLACE}/look.sh)\"", "a command on the manager runs under the unit's restrictions", 0,
          "user=malai", "no new privileges", "cannot touch '/usr/touched': Read-only file system", "cannot touch '/etc/touched': Read-only file system",
          "cannot touch '/tmp/touched': Read-only file system", "cannot open directory '/home': Permission denied", "cannot open directory '/root': Permission denied", "the home is writable")
    typed(admin, f"{AS_MALAI}malai web01.production whoami", "the service's user runs a command through its daemon", 0, "root")
    return own


def settled_here(admin):
    check(wait_for(lambda: "unreachable" not in manager_says(admin, "malai rescan production")[1]), "the configuration reaches all machines")


def monitoring(tutorial, admin):
    admin.run(tutorial.take("sudo -u malai env MALAI_HOME=/opt/malai malai status"), {"env MALAI_HOME=/opt/malai malai status": "", "journalctl": "INFO"})
    typed(admin, "malai-healthcheck", "the health check finds a healthy daemon")
    typed(admin, "sudo systemctl stop malai", "the service stops")
    typed(admin, "malai-healthcheck", "the health check finds none", 1)
    typed(admin, "sudo systemctl start malai", "and starts again")
    check(wait_for(lambda: admin.type("malai-healthcheck", silent=True)[0] == 0), "and is healthy")
    pid = int(open(f"{HOME}/malai.lock").read().split()[0])
    os.kill(pid, signal.SIGKILL)
    check(wait_for(lambda: state(Unit("malai")).get("restarts") == "1" and admin.type("malai-healthcheck", silent=True)[0] == 0), "a killed daemon is back by Restart=always, with nothing removed by hand")


def trouble(admin, laptop):
    """What the section on troubleshooting says, for a service."""
    file = f"{HOME}/clusters/production/cluster.toml"
    good = open(file).read()
    with open(file, "a") as broken:
        broken.write("\n[machine.web02\n")
    typed(admin, AS_MALAI + "malai rescan --check production", "a broken file is shown in its place", 1, "cluster.toml:")
    typed(admin, AS_MALAI + "malai rescan production", "and changes nothing", 1)
    typed(laptop, "malai web01.production echo on", "commands go on", 0, "on")
    typed(admin, "sudo systemctl stop malai", "stopped with the broken file")
    typed(admin, "sudo systemctl start malai", "started with the broken file")
    check(wait_for(lambda: "cluster.toml:" in admin.type("sudo journalctl -u malai", silent=True)[1]), "the journal says where the mistake is")
    check(wait_for(lambda: admin.type("malai-healthcheck", silent=True)[0] == 0), "it serves what was published")
    typed(admin, AS_MALAI + "malai status", "and status says that something is wrong", 1, "rescan --check production")
    typed(laptop, "malai web01.production echo still", "commands go on", 0, "still")
    with open(file, "w") as fixed:
        fixed.write(good)
    typed(admin, AS_MALAI + "malai rescan production", "the corrected file is in force again")
    typed(admin, f"sudo rm {HOME}/malai.lock {HOME}/malai.socket", "the page's `rm` lines on a live daemon …")
    check(wait_for(lambda: admin.type("malai-healthcheck", silent=True)[0] == 0), "… do no harm")


def permissions(tutorial, admin):
    admin.run(tutorial.take("sudo useradd -r malai"), {"useradd": (9, "already exists")})
    modes_are_right(HOME, "malai", "after the page's chown and chmod")


def backup(tutorial, admin):
    """Returns the archive of all identities."""
    admin.type(f"export MALAI_HOME={HOME}; cd /srv/admin", silent=True)
    admin.run(tutorial.take("tar -czf malai-backup"))
    [whole], [plain] = glob.glob("/srv/admin/malai-backup-*.tar.gz"), glob.glob("/srv/admin/malai-configs-*.tar.gz")
    names = subprocess.run(["tar", "-tzf", plain], capture_output=True, text=True).stdout.split()
    check(names == ["opt/malai/clusters/production/cluster.toml"], "the archive for version control holds no key", str(names))
    names = subprocess.run(["tar", "-tzf", whole], capture_output=True, text=True).stdout
    check("opt/malai/clusters/production/cluster.private-key" in names, "the backup holds the key", names)
    return whole


def disaster(tutorial, admin, laptop, web, archive, own):
    # The configuration changes after the backup; then the disk is lost.
    typed(admin, AS_MALAI + "malai cluster add production web02 i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60 --allow-from admins-later", "a mistake is refused", 1)
    typed(admin, AS_MALAI + "malai cluster add production web02 i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60 --allow-from laptop", "a machine is added after the backup")
    newest = wait_for(lambda: revision(web) == revision(laptop) and revision(web))
    admin.type("sudo systemctl stop malai")
    shutil.rmtree(HOME)
    typed(laptop, "malai web01.production echo without the manager", "machines go on without their manager", 0, "without the manager")
    admin.type("sudo mkdir -p /opt/malai; sudo chown malai:malai /opt/malai")
    shutil.move(archive, "/malai-backup-20241201.tar.gz")
    os.chmod("/malai-backup-20241201.tar.gz", 0o644)
    # Only the service's user may do this: another user would leave foreign files in its home.
    typed(admin, f"MALAI_HOME={HOME} malai daemon", "root is told not to run in another user's home", 1, "belongs to user")
    user = Computer("malai", HOME, ["setpriv", "--reuid", "malai", "--regid", "malai", "--init-groups"])
    user.type("umask 000")
    user.run(tutorial.take("cd / && tar"), {"malai status": "RUNNING ✅"})
    modes_are_right(HOME, "malai", "restored under umask 000")
    check(user.cluster("production") == own, "the identity is the one that it was")
    notice = f"members have revision {newest}"
    check(wait_for(lambda: notice in user.malai("status", code=None)), "the restored manager learns from its members that its file is old")
    typed(user, "malai status", "and says so", 1, notice, "nothing is published until that is settled")
    check(revision(web) == newest, "it publishes nothing by itself: machines keep what they have", f"{revision(web)}, {newest}")
    kept = [name for name in glob.glob(f"{HOME}/clusters/production/*") if os.path.isfile(name) and not name.endswith("cluster.toml") and "machine.web02" in open(name).read()]
    check(kept, "what members have is kept beside its file, for comparison", str(os.listdir(f"{HOME}/clusters/production")))
    typed(user, "malai rescan production", "a plain rescan refuses, and shows what it would undo", 1, "web02", "--publish-older")
    typed(user, "malai rescan production --publish-older", "a person says that this file holds", 0, "web01: updated")
    check(revision(web) > newest, "its next revision is above what was out there", f"{revision(web)}, {newest}")
    typed(laptop, "malai prod01.production echo it is back", "machines know it again", 0, "it is back")
    user.stops()
    typed(admin, "sudo systemctl start malai", "the service takes over")
    check(wait_for(lambda: admin.type("malai-healthcheck", silent=True)[0] == 0), "and is healthy")
    return user


def elsewhere(admin, laptop, web, own):
    """Restores the same archive on another computer, as another user, in another home."""
    typed(admin, "sudo systemctl stop malai", "the old place is given up")
    subprocess.run(["useradd", "-r", "-m", "-d", f"{PLACE}/keeper-home", "keeper"], check=True)
    home = f"{PLACE}/keeper-home/.malai"
    keeper = Computer("keeper", home, ["setpriv", "--reuid", "keeper", "--regid", "keeper", "--init-groups"])
    keeper.type(f"umask 000; mkdir -p {home}; tar -xzf /malai-backup-20241201.tar.gz -C {home} --strip-components=2")
    typed(keeper, "malai daemon", "the archive serves in another home, as another user")
    modes_are_right(home, "keeper", "restored elsewhere under umask 000")
    check(keeper.cluster("production") == own, "with the identity that it was")
    check(wait_for(lambda: "members have revision" in keeper.malai("status", code=None)), "it too learns that it is old")
    typed(keeper, "malai rescan production --publish-older", "and publishes above, when told", 0)
    typed(keeper, "malai web01.production whoami", "its machines obey it", 0, "root")
    typed(laptop, f"malai why laptop prod01.production true", "members see the manager that they knew", 0)
    keeper.stops()
    return keeper


def play(readme, tutorial):
    print("\n— production —")
    admin, laptop, web = Computer("admin"), Computer("laptop"), Computer("web")
    set_up(tutorial, admin)
    own = members(admin, laptop, web)
    monitoring(tutorial, admin)
    trouble(admin, laptop)
    permissions(tutorial, admin)
    archive = backup(tutorial, admin)
    user = disaster(tutorial, admin, laptop, web, archive, own)
    keeper = elsewhere(admin, laptop, web, own)
    for computer in (admin, user, keeper, laptop, web):
        computer.away()


def skip(readme, tutorial):
    """Marks this part's blocks as taken, so that they do not count as left over."""
    for block in tutorial.blocks:
        first = block.commands[0][1] if block.commands else ""
        if first.startswith(("sudo ", "tar -czf malai-backup", "cd / &&")):
            block.taken = True
