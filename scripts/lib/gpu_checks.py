"""What scripts/test-gpu compares: the hive's own words with those of nvidia-smi and of the process inside. Ends with 1 and says why."""
import json
import re
import sys


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def fail(why):
    sys.exit("      " + why)


def nvidia(devices):
    return [d for d in devices if d.get("vendor") == "nvidia"]


def inventory(devices, listed, figures):
    gpus = nvidia(load(devices))
    with open(listed, encoding="utf-8") as file:
        text = file.read()
    whole = {u.lower() for u in re.findall(r"^GPU \d+:.*UUID: (GPU-[0-9a-fA-F-]+)", text, re.M)}
    parts = {u.lower() for u in re.findall(r"^\s+MIG .*UUID: (MIG-[0-9a-zA-Z/-]+)", text, re.M)}
    ours = {(g["uuid"] or "").lower() for g in gpus if not g["mig"]}
    our_parts = {(g["uuid"] or "").lower() for g in gpus if g["mig"]}
    if ours != whole or our_parts != parts:
        fail(f"nvidia-smi lists {sorted(whole)} {sorted(parts)}, the hive {sorted(ours)} {sorted(our_parts)}")
    with open(figures, encoding="utf-8") as file:
        rows = [[c.strip() for c in line.split(",")] for line in file if line.strip()]
    for uuid, pci, total in rows:
        gpu = next(g for g in gpus if (g["uuid"] or "").lower() == uuid.lower())
        # nvidia-smi's domain has eight digits, sysfs's four.
        if gpu["pci"].lower() != pci.lower()[-12:]:
            fail(f"{uuid} is at {pci}, not at {gpu['pci']}")
        if total.isdigit() and abs(gpu["memory_bytes"] // 2**20 - int(total)) > 1024:
            fail(f"{uuid} has {total} MiB, not {gpu['memory_bytes']} bytes")
        if not gpu["driver"]:
            fail(f"{uuid} has no driver")


def first(devices):
    gpus = nvidia(load(devices))
    gpu = next((g for g in gpus if not g["partitioned"]), None)
    if gpu is None:
        fail("there is no GPU that can be leased")
    parent = gpu if not gpu["mig"] else next(g for g in gpus if g["id"] == "GPU-%d" % gpu["mig"]["parent"])
    print(gpu["id"], gpu["uuid"], parent["uuid"])


def leased(told, uuid):
    told = load(told)
    if told.get("library"):
        fail(f"libcuda.so.1 can't be loaded inside: {told['library']}")
    if (told.get("cuInit"), told.get("count")) != (0, 1):
        fail(f"cuInit gives {told.get('cuInit')} and {told.get('count')} devices, not 0 and 1")
    same_device(told, uuid)
    if told.get("allocate") != 0 or told.get("written") != 0:
        fail(f"it can't allocate: context {told.get('context')}, allocate {told.get('allocate')}, write {told.get('written')}")
    others(told)


def same_device(told, uuid):
    """The device inside is the leased one: a whole GPU, or a part that MIG has cut out, which has a UUID of its own."""
    kind, _, own = uuid.partition("-")
    if kind not in ("GPU", "MIG") or not own:
        fail(f"the hive tells no UUID of what it leased ({uuid}): what is seen inside can't be compared")
    if kind == "MIG" and ("/" in own or not told.get("uuid_of_part")):
        fail(f"this driver tells the GPU's UUID alone, not the part's: whether {uuid} is seen can't be compared")
    if (told.get("uuid") or "").lower() != own.lower():
        fail(f"it sees {told.get('uuid')}, not {uuid}")


def others(told):
    """No GPU that was not leased can be opened, by the host's node or by one of its own."""
    opened = [m for m, errno in told["others"].items() if errno == 0]
    if opened:
        fail(f"it opened /dev/nvidia{opened[0]}")


def bare(told):
    told = load(told)
    cards = [n for n in told["nodes"] if re.fullmatch(r"/dev/nvidia\d+", n)]
    if cards:
        fail(f"it sees {cards}")
    if told.get("visible") != "":
        fail(f"CUDA_VISIBLE_DEVICES is {told.get('visible')!r}, not empty")
    if told.get("library") is None and told.get("cuInit") == 0:
        fail("cuInit succeeds")
    if any(errno == 0 for errno in told["mknod"].values()):
        fail("it opened a node that it made itself")
    others(told)


{"inventory": inventory, "first": first, "leased": leased, "bare": bare}[sys.argv[1]](*sys.argv[2:])
