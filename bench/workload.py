#!/usr/bin/env python3
"""Writes one workload, preparing a cluster node in 52 tasks, for every tool that is measured.

usage: workload.py FOLDER INVENTORY_OF_THE_LAB

  FOLDER/hosts.ini            the lab's nodes, as Ansible and Windlass read them
  FOLDER/windlass/site.yml    windlass apply site.yml -i ../hosts.ini
  FOLDER/ansible/site.yml     ansible-playbook site.yml, with the ansible.cfg beside it
  FOLDER/pyinfra/deploy.py    pyinfra HOSTS deploy.py
  FOLDER/limit/bare.sh        by hand, sent to `sh` on a node: makes all of it
  FOLDER/limit/first.sh       the same, on a node that has the packages
  FOLDER/limit/again-NODE.sh  by hand, sent to `sh` on a node: finds out that all of it is there
"""

import hashlib
import json
import re
import sys
from pathlib import Path

PACKAGES = ["curl", "cron", "iptables", "procps", "kmod"]
UNIT_PATH = "/etc/systemd/system/bench.service"
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
FOLDERS, USERS, MARKERS, KEYS = 10, 3, 5, 40


def config(host, index):
    """The text of one configuration file. `host` and `index` may be a template's expressions."""
    lines = [f"# node {host}", f"index: {index}"]
    lines += [f"key{k}: value-{index}-{k}" for k in range(KEYS)]
    return "\n".join(lines) + "\n"


class Tasks:
    """The tasks, each said once for each tool."""

    def __init__(self):
        self.yaml, self.deploy = [], []

    def add(self, name, module, parameters, operation, variables=None):
        task = {"name": name, module: parameters}
        if variables:
            task["vars"] = variables
        self.yaml.append(task)
        self.deploy.append(operation.replace("(", f"(name={name!r}, ", 1))


def tasks():
    t = Tasks()
    t.add("packages", "apt", {"name": PACKAGES, "state": "present"}, f"apt.packages(packages={PACKAGES!r}, present=True)")
    for i in range(FOLDERS):
        path = f"/opt/bench/d{i}"
        t.add(f"dir {i}", "file", {"path": path, "state": "directory", "mode": "0755"},
              f"files.directory(path={path!r}, mode='755')")
    for i in range(FOLDERS):
        path = f"/opt/bench/d{i}/conf.yaml"
        t.add(f"template {i}", "template", {"src": "TEMPLATE", "dest": path, "mode": "0644"},
              f"files.template(src='conf.j2', dest={path!r}, mode='644', idx={i})", {"idx": i})
    for i in range(FOLDERS):
        path, text = f"/opt/bench/d{i}/file.txt", f"file {i}\n"
        t.add(f"copy {i}", "copy", {"content": text, "dest": path, "mode": "0600"},
              f"files.put(src=StringIO({text!r}), dest={path!r}, mode='600')")
    for i in range(FOLDERS):
        path, line = "/etc/environment", f"BENCH{i}=value{i}"
        t.add(f"line {i}", "lineinfile", {"path": path, "regexp": f"^BENCH{i}=", "line": line, "create": True},
              f"files.line(path={path!r}, line='^BENCH{i}=.*', replace={line!r})")
    for i in range(USERS):
        t.add(f"user {i}", "user", {"name": f"bench{i}", "shell": "/bin/bash", "create_home": True},
              f"server.user(user='bench{i}', shell='/bin/bash', ensure_home=True, create_home=True)")
    for i in range(MARKERS):
        path = f"/opt/bench/marker{i}"
        t.add(f"command {i}", "command", {"cmd": f"touch {path}", "creates": path}, f"files.file(path={path!r})")
    t.add("unit", "copy", {"content": UNIT, "dest": UNIT_PATH}, f"files.put(src=StringIO({UNIT!r}), dest={UNIT_PATH!r})")
    t.add("service bench", "systemd_service",
          {"name": "bench", "state": "started", "enabled": True, "daemon_reload": False},
          "systemd.service(service='bench', running=True, enabled=True)")
    t.add("service cron", "systemd_service", {"name": "cron", "state": "started", "enabled": True},
          "systemd.service(service='cron', running=True, enabled=True)")
    return t


def play(head, items, template, prefix):
    """Tasks as YAML; JSON is YAML, so each task is one line."""
    text = head
    for task in items:
        task = {(prefix + k if k in MODULES else k): v for k, v in task.items()}
        text += "    - " + json.dumps(task).replace('"TEMPLATE"', json.dumps(template)) + "\n"
    return text


MODULES = {"apt", "file", "template", "copy", "lineinfile", "user", "command", "systemd_service"}


def limit_first(packages):
    """What somebody writes who knows the node is new: no check at all, one process where one will do."""
    folders = " ".join(f"/opt/bench/d{i}" for i in range(FOLDERS))
    s = ["set -e", "umask 022", f"mkdir -p {folders}"]
    if packages:
        s[1:1] = [f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q {' '.join(PACKAGES)} >/dev/null"]
    for i in range(FOLDERS):
        s.append(f"cat >/opt/bench/d{i}/conf.yaml <<E\n{config('$NODE', i)}E")
    s.append("umask 077")
    s += [f"echo 'file {i}' >/opt/bench/d{i}/file.txt" for i in range(FOLDERS)]
    s.append("umask 022")
    s.append("{ " + "".join(f"echo BENCH{i}=value{i}; " for i in range(FOLDERS)) + "} >>/etc/environment")
    s += [f"useradd -m -s /bin/bash bench{i}" for i in range(USERS)]
    s.append("touch " + " ".join(f"/opt/bench/marker{i}" for i in range(MARKERS)))
    s.append(f"cat >{UNIT_PATH} <<'E'\n{UNIT}E")
    s.append("systemctl enable -q --now bench cron")
    # A machine may lose its power after a script has ended; what was written is to be there then.
    s.append("sync -f /opt /etc")
    return "\n".join(s) + "\n"


def undo():
    """Takes away what the tasks have made, the packages not."""
    return "; ".join([
        "set -e", "systemctl disable -q --now bench", f"rm {UNIT_PATH}", "systemctl daemon-reload",
        *(f"userdel -r bench{i} 2>/dev/null" for i in range(USERS)), "rm -r /opt/bench",
        "sed -i /^BENCH/d /etc/environment", "sync"])


def limit_again(host):
    """One process for each kind of question; prints what is not as it should be."""
    folders = [f"/opt/bench/d{i}" for i in range(FOLDERS)]
    open_files = [f"{d}/conf.yaml" for d in folders] + [UNIT_PATH]
    closed_files = [f"{d}/file.txt" for d in folders]
    bodies = [(f, config(host, i)) for i, f in enumerate(open_files[:-1])] + [(UNIT_PATH, UNIT)]
    bodies += [(f, f"file {i}\n") for i, f in enumerate(closed_files)]
    sums = "".join(f"{hashlib.sha256(b.encode()).hexdigest()}  {f}\n" for f, b in bodies)
    lines = " ".join(f"-e '^BENCH{i}=value{i}$'" for i in range(FOLDERS))
    markers = " && ".join(f"[ -e /opt/bench/marker{i} ]" for i in range(MARKERS))
    modes = "".join(["755 directory\n" * FOLDERS, "644 regular file\n" * len(open_files),
                     "600 regular file\n" * len(closed_files)])
    return f"""\
packages=$(dpkg-query -W -f '${{db:Status-Status}} ' {" ".join(PACKAGES)})
[ "$packages" = "{"installed " * len(PACKAGES)}" ] || echo packages
modes=$(stat -c '%a %F' {" ".join(folders + open_files + closed_files)})
[ "$modes" = "{modes.rstrip()}" ] || echo modes
sha256sum --quiet -c <<'E' || echo files
{sums}E
[ "$(grep -c {lines} /etc/environment)" = {FOLDERS} ] || echo lines
users=$(getent passwd {" ".join(f"bench{i}" for i in range(USERS))}) || echo users
case $users in *[!h]) echo shells ;; esac
{markers} || echo markers
units=$(systemctl show -p ActiveState,UnitFileState bench cron)
[ "$units" = "ActiveState=active
UnitFileState=enabled

ActiveState=active
UnitFileState=enabled" ] || echo units
"""


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    out, inventory = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    for tool in ("windlass/templates", "ansible/templates", "pyinfra", "limit"):
        (out / tool).mkdir(parents=True, exist_ok=True)
    nodes = re.findall(r"^ +(\w+): \{ansible_host: ([\d.]+)\}", (inventory / "hosts.yml").read_text(), re.M)
    key, known = inventory / "id_ed25519", inventory / "known_hosts"
    (out / "hosts.ini").write_text(
        "".join(f"{n} ansible_host={a}\n" for n, a in nodes)
        + f"[all:vars]\nansible_user=root\nansible_ssh_private_key_file={key}\nwindlass_known_hosts={known}\n")

    t = tasks()
    (out / "windlass/site.yml").write_text(
        play("- phase: nodeprep\n  hosts: all\n  tasks:\n", t.yaml, "conf.hbs", ""))
    (out / "windlass/templates/conf.hbs").write_text(config("{{inventory_hostname}}", "{{idx}}"))

    (out / "ansible/site.yml").write_text(
        play("- hosts: all\n  gather_facts: true\n  tasks:\n", t.yaml, "conf.j2", "ansible.builtin."))
    (out / "ansible/templates/conf.j2").write_text(config("{{ inventory_hostname }}", "{{ idx }}"))
    (out / "ansible/ansible.cfg").write_text(
        "[defaults]\nforks = 20\ninterpreter_python = /usr/bin/python3\n"
        "[ssh_connection]\npipelining = True\n"
        f"ssh_args = -F none -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile={known}\n")

    (out / "pyinfra/deploy.py").write_text(
        "from io import StringIO\nfrom pyinfra.operations import apt, files, server, systemd\n\n"
        + "\n".join(t.deploy) + "\n")
    (out / "pyinfra/conf.j2").write_text(config("{{ host.data.node }}", "{{ idx }}"))
    rows = [(a, {"node": n, "ssh_user": "root", "ssh_key": str(key), "ssh_known_hosts_file": str(known)})
            for n, a in nodes]
    (out / "pyinfra/inventory.py").write_text(f"nodes = {rows!r}\n")

    (out / "limit/bare.sh").write_text(limit_first(True))
    (out / "limit/first.sh").write_text(limit_first(False))
    for name, _ in nodes:
        (out / f"limit/again-{name}.sh").write_text(limit_again(name))
    print(len(t.yaml), "tasks a host")


if __name__ == "__main__":
    main()
