#!/usr/bin/env python3
"""The measuring itself; bench/run.sh calls it. Every figure is a wall-clock time of one whole command."""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
NODES = 3
# What is measured: how it is called in the code, and in the report.
STAGES = {
    "bare": "first run, packages to install",
    "first": "first run, packages there",
    "again": "rerun",
}
# What the other tools need on a node, and Windlass and the limit do not.
PYTHON = ["python3", "python3-apt"]
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True
import workload  # noqa: E402


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def load():
    return open("/proc/loadavg").read().split()[0]


class Lab:
    def __init__(self, windlass, work, name):
        self.windlass, self.name, self.project = windlass, name, work / "project"
        self.inventory = self.project / f"inventories/lab-{name}"

    def run(self, *args):
        self.project.mkdir(parents=True, exist_ok=True)
        p = subprocess.run([self.windlass, "lab", *args, "--name", self.name], cwd=self.project,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if p.returncode:
            raise SystemExit(f"windlass lab {' '.join(args)}: {p.stderr}")

    def nodes(self):
        text = (self.inventory / "hosts.yml").read_text()
        return re.findall(r"^ +(\w+): \{ansible_host: ([\d.]+)\}", text, re.M)

    def ssh(self, address):
        i = self.inventory
        return ["ssh", "-q", "-F", "none", "-i", str(i / "id_ed25519"), "-o", "BatchMode=yes",
                "-o", "KexAlgorithms=curve25519-sha256", "-o", "GSSAPIAuthentication=no", "-o", "IdentitiesOnly=yes",
                "-o", f"UserKnownHostsFile={i / 'known_hosts'}", f"root@{address}"]

    def everywhere(self, command):
        """Runs something on all nodes, unmeasured."""
        def one(node):
            p = subprocess.run([*self.ssh(node[1]), command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if p.returncode:
                raise SystemExit(f"{node[0]}: {command}: {p.stdout}{p.stderr}")
            return p.stdout
        with ThreadPoolExecutor(NODES) as pool:
            return list(pool.map(one, self.nodes()))

    def fresh(self, python, installed):
        """New nodes, booted to the end, with the workload's packages installed, or downloaded and not installed."""
        for name, _ in self.nodes():
            self.run("reset", name)
        self.everywhere("systemctl is-system-running --wait >/dev/null; "
                        "export DEBIAN_FRONTEND=noninteractive; apt-get update -q >/dev/null && "
                        + (f"apt-get install -y -q --no-install-recommends {' '.join(PYTHON)} >/dev/null && "
                           if python else "")
                        + f"apt-get install -y -q {'' if installed else '--download-only'} {' '.join(workload.PACKAGES)} "
                        ">/dev/null; sync")


def timed(command, cwd, env=None, scripts=None):
    """Seconds, what it printed, and whether it went well. `scripts`: many commands at once, each with its input."""
    env = {**os.environ, **(env or {}), "LC_ALL": "C.UTF-8"}
    if scripts is None:
        begun = time.monotonic()
        p = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return time.monotonic() - begun, p.stdout + p.stderr, p.returncode == 0
    files = [open(s) for _, s in scripts]
    begun = time.monotonic()
    running = [subprocess.Popen(c, stdin=f, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
               for (c, _), f in zip(scripts, files)]
    printed = [p.communicate()[0] for p in running]
    took = time.monotonic() - begun
    return took, "".join(printed), all(p.returncode == 0 for p in running)


class Tool:
    """One way to do the workload."""

    def __init__(self, name, settings, python=False):
        self.name, self.settings, self.python = name, settings, python
        self.times = {stage: [] for stage in STAGES}
        self.trips = set()


class Bench:
    def __init__(self, args):
        self.args = args
        self.lab = Lab(args.windlass, args.work, args.lab)
        self.out = args.work / "workload"
        venv = args.work / "venv" if args.venv is None else args.venv
        self.bin = venv / "bin"
        mitogen = next(iter(venv.glob("lib/python*/site-packages/ansible_mitogen/plugins/strategy")), None)
        self.mitogen = {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(mitogen)}
        self.tools = [
            Tool("limit", "a script by hand, one `ssh HOST sh` a host, all hosts at once, the fastest key exchange"),
            Tool("windlass", "as it comes"),
            Tool("pyinfra", "`-y`, all hosts at once"),
            Tool("ansible", "pipelining, ControlPersist 60 s, forks 20, gather_facts", True),
            Tool("ansible+mitogen", "as above, strategy mitogen_linear", True),
        ]
        if args.tools:
            self.tools = [t for t in self.tools if t.name in args.tools.split(",")]

        if args.times and args.times.exists():
            before = json.loads(args.times.read_text())
            for t in self.tools:
                t.times.update(before.get(t.name, {}).get("times", {}))
                t.trips.update((s, n) for s, n in before.get(t.name, {}).get("trips", []))

    def keep(self, tool, stage, took):
        tool.times[stage].append(took)
        if self.args.times:
            found = json.loads(self.args.times.read_text()) if self.args.times.exists() else {}
            found[tool.name] = {"times": tool.times, "trips": sorted(tool.trips)}
            self.args.times.write_text(json.dumps(found, indent=1))

    def once(self, tool, stage):
        out = self.out
        if tool.name == "limit":
            scripts = []
            for name, address in self.lab.nodes():
                if stage != "again":
                    scripts.append(([*self.lab.ssh(address), f"NODE={name} sh"], out / f"limit/{stage}.sh"))
                else:
                    scripts.append(([*self.lab.ssh(address), "sh"], out / f"limit/again-{name}.sh"))
            took, text, well = timed(None, out, scripts=scripts)
            unchanged = text == ""
        elif tool.name == "windlass":
            took, text, well = timed([str(self.args.windlass), "apply", "site.yml", "-i", "../hosts.ini"],
                                     out / "windlass")
            trips = re.search(r"at most (\d+) round trip", text)
            tool.trips.add((stage, int(trips[1]) if trips else -1))
            unchanged = len(re.findall(r"^node\d+ +52 +0 +0 +0 +0$", text, re.M)) == NODES
        elif tool.name == "pyinfra":
            took, text, well = timed([str(self.bin / "pyinfra"), "-y", "inventory.py", "deploy.py"], out / "pyinfra")
            grand = re.search(r"Grand total.*?(\d+|-)\s+(\d+|-)\s+(\d+|-)", text)
            unchanged = bool(grand) and grand[2] == "-"
        else:
            env = {"ANSIBLE_CONFIG": "ansible.cfg", **(self.mitogen if "mitogen" in tool.name else {})}
            took, text, well = timed([str(self.bin / "ansible-playbook"), "-i", "../hosts.ini", "site.yml"],
                                     out / "ansible", env)
            unchanged = text.count("changed=0 ") == NODES
        if not well or (stage == "again" and not unchanged):
            raise SystemExit(f"{tool.name}, {stage}: not as it should be\n{text[-6000:]}")
        return took

    def converged(self):
        """Every tool must have made the same: the limit's check finds nothing to say."""
        time.sleep(0.5)
        scripts = [([*self.lab.ssh(a), "sh"], self.out / f"limit/again-{n}.sh") for n, a in self.lab.nodes()]
        _, text, well = timed(None, self.out, scripts=scripts)
        if text or not well:
            raise SystemExit(f"the nodes are not as the workload wants them: {text}")

    def missing(self, stage, i):
        return [t for t in self.tools if len(t.times[stage]) <= i]

    def measure_first(self, tool, stage):
        time.sleep(1)
        took = self.once(tool, stage)
        self.keep(tool, stage, took)
        say(f"{STAGES[stage]}: {tool.name}: {took:.2f} s (load {load()})")
        self.converged()

    def measure(self):
        a = self.args
        for i in range(a.bare):
            for tool in self.missing("bare", i):
                self.lab.fresh(tool.python, False)
                self.measure_first(tool, "bare")
        ready = False
        for i in range(a.first):
            for tool in self.missing("first", i):
                if ready:
                    self.lab.everywhere(workload.undo())
                else:
                    self.lab.fresh(any(t.python for t in self.tools), True)
                    ready = True
                self.measure_first(tool, "first")
        # The same nodes for all now, with Python for those who need it.
        if a.repeat and not ready:
            self.lab.fresh(any(t.python for t in self.tools), True)
            self.once(self.tools[0], "first")
        for tool in self.tools:
            self.once(tool, "again")
        for i in range(a.repeat):
            for tool in self.tools:
                # The two that are compared most closely take turns more often.
                for _ in range(3 if tool.name in ("limit", "windlass") else 1):
                    self.keep(tool, "again", self.once(tool, "again"))
            say(f"rerun {i + 1}/{a.repeat}: "
                + ", ".join(f"{t.name} {t.times['again'][-1]:.3f} s" for t in self.tools) + f" (load {load()})")

    def memory(self):
        """Peak resident memory and time of whole commands, converged: apply on the lab, plan on many names of it."""
        found = []
        names = [self.lab.nodes()[i % NODES] for i in range(self.args.many)]
        i = self.lab.inventory
        (self.out / "many.ini").write_text(
            "".join(f"host{n:03} ansible_host={a} inventory_hostname_of={name}\n" for n, (name, a) in enumerate(names))
            + f"[all:vars]\nansible_user=root\nansible_ssh_private_key_file={i / 'id_ed25519'}\n"
            + f"windlass_known_hosts={i / 'known_hosts'}\n")
        windlass = str(self.args.windlass)
        for what, command in [(f"apply, {NODES} hosts", ["apply", "site.yml", "-i", "../hosts.ini"]),
                              (f"plan, {self.args.many} hosts", ["plan", "many.yml", "-i", "../many.ini"])]:
            if self.args.many == 0 and "plan" in what:
                continue
            # The template holds the node's name, which here is that of the node behind the name.
            text = (self.out / "windlass/site.yml").read_text()
            (self.out / "windlass/many.yml").write_text(text.replace("conf.hbs", "many.hbs"))
            (self.out / "windlass/templates/many.hbs").write_text(
                workload.config("{{inventory_hostname_of}}", "{{idx}}"))
            peaks, times = [], []
            for _ in range(3):
                begun = time.monotonic()
                p = subprocess.Popen([windlass, *command], cwd=self.out / "windlass", stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                peak = 0
                while p.poll() is None:
                    try:
                        peak = max(peak, *(int(v) for v in re.findall(r"VmHWM:\s+(\d+)",
                                           open(f"/proc/{p.pid}/status").read())), 0)
                    except OSError:
                        pass
                    time.sleep(0.005)
                times.append(time.monotonic() - begun)
                text = p.stdout.read()
                if p.returncode:
                    raise SystemExit(f"{what}: {text[-3000:]}")
                peaks.append(peak / 1024)
            found.append((what, max(peaks), statistics.median(times)))
            say(f"{what}: {max(peaks):.0f} MB, {statistics.median(times):.2f} s")
        return found

    def report(self, memory, begun_load):
        by = {t.name: t for t in self.tools}
        med = lambda v: statistics.median(v) if v else None  # noqa: E731
        show = lambda s: "" if s is None else (f"{s:.2f} s" if s >= 10 else f"{s * 1000:.0f} ms")  # noqa: E731
        ratio = lambda a, b: f"{a / b:.2f}" if a and b else ""  # noqa: E731
        version = lambda *c: subprocess.run(c, capture_output=True, text=True).stdout.strip().splitlines()[0]  # noqa: E731
        cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
        memory_total = int(re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read())[1]) // 1048576
        lines = [
            "# Results", "",
            f"Measured on {datetime.date.today()} by `bench/run.sh`; `bench/README.md` says what and how.", "",
            f"- Machine: virtual machine, {os.cpu_count()} cores ({cpu[1] if cpu else platform.machine()}), "
            f"{memory_total} GB, Linux {platform.release()}; the nodes are on the same machine and share its cores.",
            f"- Load average at the beginning {begun_load}, at the end {load()}.",
            f"- Versions: {version(str(self.args.windlass), '--version')}; "
            + "; ".join(filter(None, [
                version(str(self.bin / "pyinfra"), "--version").replace("pyinfra: ", "pyinfra ").replace("v", "")
                if "pyinfra" in by else "",
                version(str(self.bin / "ansible"), "--version") if "ansible" in by else "",
                next((f"mitogen {m.name.split('-')[1]}" for m in self.bin.parent.glob(
                    "lib/python*/site-packages/mitogen-*.dist-info")), "").replace(".dist", "")
                if "ansible+mitogen" in by else "",
                subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()])) + ".",
            f"- {NODES} nodes, 52 tasks a node. Each figure is a median, of as many as are listed at the end.", ""]
        for stage, title in STAGES.items():
            if not any(t.times[stage] for t in self.tools):
                continue
            lines += [f"| {title} | median | to the limit | to windlass | settings |", "|---|--:|--:|--:|---|"]
            for t in self.tools:
                m = med(t.times[stage])
                cells = [t.name, show(m)]
                cells += [ratio(m, med(by[o].times[stage])) if o in by else "" for o in ("limit", "windlass")]
                lines.append("| " + " | ".join([*cells, t.settings]) + " |")
            lines.append("")
        for stage, title in STAGES.items():
            trips = [n for s, n in by["windlass"].trips if s == stage] if "windlass" in by else []
            if trips:
                lines.append(f"- Windlass, {title}: at most {max(trips)} round trip{'s' if max(trips) != 1 else ''} a host.")
        if memory:
            lines += ["", "| converged | peak memory (VmHWM) | time |", "|---|--:|--:|"]
            lines += [f"| windlass {what} | {mb:.0f} MB | {s:.2f} s |" for what, mb, s in memory]
            lines += ["", f"The {self.args.many} hosts are names for the same {NODES} nodes. They are planned, not applied: "
                      "67 sessions would work on one machine side by side."]
        lines += ["", "All times, in seconds:", "", "```"]
        for t in self.tools:
            lines += [f"{t.name:<16} {stage:<6} {' '.join(f'{x:.3f}' for x in v)}" for stage, v in t.times.items() if v]
        return "\n".join(lines + ["```", ""])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--windlass", type=Path, required=True)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--venv", type=Path, help="where pyinfra and Ansible are, if not in WORK/venv")
    p.add_argument("--lab", default="bench", help="the lab's name")
    p.add_argument("--repeat", type=int, default=7, help="reruns (3 times as many for limit and windlass)")
    p.add_argument("--first", type=int, default=3, help="first runs, each on new nodes that have the packages")
    p.add_argument("--bare", type=int, default=1, help="first runs, each on new nodes that lack the packages")
    p.add_argument("--many", type=int, default=200, help="hosts for the second measurement of memory; 0: none")
    p.add_argument("--tools", help="only these, with commas: limit,windlass,pyinfra,ansible,ansible+mitogen")
    p.add_argument("--out", type=Path, help="where the report goes besides standard output")
    p.add_argument("--times", type=Path, help="a file that keeps the times: first runs that are in it are not repeated")
    p.add_argument("--keep", action="store_true", help="leave the lab up")
    args = p.parse_args()
    args.windlass, args.work = args.windlass.resolve(), args.work.resolve()
    bench = Bench(args)
    begun_load = load()
    bench.lab.run("up", "--nodes", str(NODES))
    try:
        subprocess.run([sys.executable, str(HERE / "workload.py"), str(bench.out), str(bench.lab.inventory)],
                       check=True, stdout=subprocess.DEVNULL)
        bench.measure()
        memory = bench.memory() if any(t.name == "windlass" for t in bench.tools) else []
        text = bench.report(memory, begun_load)
        print(text)
        if args.out:
            args.out.write_text(text)
    finally:
        if not args.keep:
            bench.lab.run("down")


if __name__ == "__main__":
    main()
