"""TensorBoard's event files, read by their layout: length, checksum, event, checksum, again and again."""

import struct
from collections import defaultdict
from pathlib import Path
from typing import Any


def events_of(folder: Path) -> list[Any]:
    """All whole events of a folder, file by file, duplicates and all."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at + 12 <= len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            events.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return events


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of each event, in the order written."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for event in events_of(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                found[value.tag].append((event.step, value.simple_value))
    return found
