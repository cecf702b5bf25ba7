"""Renders cases.txt with Ansible and writes results.json.

Needs ansible (with its collections ansible.utils and community.general), netaddr and passlib:
    python3 -m venv v && v/bin/pip install 'ansible==12.*' netaddr passlib && v/bin/python make.py
"""
import itertools, json, os, sys, warnings
from ansible import constants
constants.DEPRECATION_WARNINGS = False
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.release import __version__

here = os.path.dirname(os.path.abspath(__file__))
init_plugin_loader()
templar = Templar(loader=DataLoader(), variables=json.load(open(os.path.join(here, "vars.json"))))


def expand(line):
    """A line, or every combination of a line that begins with @."""
    if not line.startswith("@"):
        return [line]
    parts = line[1:].lstrip().split(" ; ")
    names, words = [], []
    while ":" in parts[0].split(" ")[0] and parts[0].split(":")[0].strip().isalpha() and len(parts) > 1:
        name, values = parts.pop(0).split(":", 1)
        names.append(name.strip())
        words.append([v for v in values[1:].split("|")])
    rest = " ; ".join(parts)
    out = []
    for combination in itertools.product(*words):
        text = rest
        for name, value in zip(names, combination):
            text = text.replace("{%s}" % name, value)
        out.append(text)
    return out


results = []
for line in open(os.path.join(here, "cases.txt"), encoding="utf-8"):
    line = line.rstrip("\n")
    if not line or line.startswith("#"):
        continue
    for case in expand(line):
        jinja, windlass = case.split(" => ")
        entry = {"jinja": jinja, "windlass": windlass}
        try:
            value = templar.template(trust_as_template("{{ %s }}" % jinja), escape_backslashes=False)
            entry["gives"] = json.loads(json.dumps(value))
        except Exception as error:
            entry["error"] = str(error).splitlines()[0][:160]
        results.append(entry)

with open(os.path.join(here, "results.json"), "w", encoding="utf-8") as f:
    f.write('{"ansible": %s, "results": [\n' % json.dumps(__version__))
    f.write(",\n".join(json.dumps(r, ensure_ascii=False) for r in results))
    f.write("\n]}\n")
print(len(results), "results,", sum("error" in r for r in results), "errors")
