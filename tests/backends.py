"""Which kinds of keep can be built here, as `donjon platform info` says."""
import json, os, subprocess


def backends():
    donjon = os.path.join(os.environ["DONJON_BIN"], "donjon")
    p = subprocess.run([donjon, "platform", "info", "--json"], capture_output=True, text=True)
    try:
        return [b["name"] for b in json.loads(p.stdout)["backends"] if b["available"]]
    except (ValueError, KeyError):
        return ["process"]
