"""The tables of ports in the models' cards, out of their recipes."""

from pathlib import Path
from typing import Any

from scripts import recipe


def tables(root: Path, model: str) -> list[str]:
    """What each component of a model does, and a table of its ports."""
    lines = []
    for name, component in recipe.read(root, model)["components"].items():
        lines += ["", f"**{name}**: {component['about']}.", "",
                  "| port | dtype | shape | meaning |", "|---|---|---|---|"]
        for way, kind in (("in", "inputs"), ("out", "outputs")):
            lines += [f"| {way}: {port_name} | {port['dtype']} | {shape(port)}| {port['about']} |"
                      for port_name, port in grouped(component[kind])]
    return [*lines, ""]


def shape(port: dict[str, Any]) -> str:
    """The axes of a port, with the space after them; nothing for a scalar."""
    return ", ".join(map(str, port["shape"])) + " " * bool(port["shape"])


def grouped(ports: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Ports with their names; of those that there is one of for each layer, the first, with how many there are."""
    groups = [port.get("group") for port in ports]
    return [(f"{port['group']}_0 to {groups.count(port['group']) - 1}" if "group" in port else port["name"], port)
            for number, port in enumerate(ports) if "group" not in port or groups.index(port["group"]) == number]
