"""Whether the nodes of a cluster fit this process: Python, Ray and perdure, the same on all.

Ray itself refuses a driver of another Ray or Python than the head's. The other nodes, and perdure,
are asked here: by a task that runs on each. Next to read: ``ray.py``.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from perdure.cluster.ray_engine import RayError

__all__ = ["Versions", "check_nodes", "differing", "versions"]

NODE_S = 60.0
"""A node has so long to start a process and answer."""

Versions = Mapping[str, str]


def versions() -> dict[str, str]:
    """Of this process. Python's without the last number, which may differ."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "Ray": version("ray"), "perdure": version("perdure")}


def differing(ours: Versions, nodes: Mapping[str, Versions | str]) -> list[str]:
    """What does not fit, in words: a line for each node that differs, or could not say.

    >>> differing({"Ray": "2.60.0"}, {"10.0.0.7": {"Ray": "2.59.0"}, "10.0.0.8": "no answer"})
    ['10.0.0.7 has Ray 2.59.0, not 2.60.0', '10.0.0.8: no answer']
    """
    lines = []
    for node, theirs in nodes.items():
        if isinstance(theirs, str):
            lines.append(f"{node}: {theirs}")
            continue
        others = [
            f"{what} {theirs.get(what, 'none')}, not {wanted}"
            for what, wanted in ours.items()
            if theirs.get(what) != wanted
        ]
        if others:
            lines.append(f"{node} has {'; '.join(others)}")
    return lines


async def check_nodes(ray: Any) -> None:
    """Ask each node that hosts may be placed on. Raises ``RayError`` naming those that differ."""
    nodes = [one for one in ray.nodes() if one["Alive"] and one["Resources"].get("CPU", 0) > 0]
    if not nodes:
        raise RayError(
            "no node of this cluster of Ray has a CPU to give",
            remedy="add one: ray start --address=<head> --num-cpus=…",
        )
    answers = await asyncio.gather(*(_ask(ray, node["NodeID"]) for node in nodes))
    named = [f"node {one['NodeID'][:8]} ({one['NodeManagerAddress']})" for one in nodes]
    if lines := differing(versions(), dict(zip(named, answers, strict=True))):
        raise RayError(
            f"the nodes do not fit this process: {'; '.join(lines)}",
            remedy="install the same versions everywhere, as by one image",
        )


async def _ask(ray: Any, node: str) -> Versions | str:
    on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    asking = ray.remote(versions).options(num_cpus=0, max_retries=0, scheduling_strategy=on)
    try:
        found: Versions = await asyncio.wait_for(asking.remote(), NODE_S)
    except TimeoutError:
        return f"no answer for {NODE_S:g} s"
    except Exception as error:  # whatever its process could not import
        return str(error).strip().splitlines()[-1]
    return found
