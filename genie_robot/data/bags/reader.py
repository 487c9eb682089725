"""One recording read onto its grid: the frames of each episode in one pass, its actions and joint positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from genie_robot.data.bags.alignment import GAP_PERIODS, Segment, at_slots, nearest, usual_period_ns
from genie_robot.data.bags.mcap_scan import Damage
from genie_robot.data.bags.streams import Bag, Camera, Commands, Joints, Stamps, read_commands, read_joints
from genie_robot.errors import DataError


class RecordingReader:
    """Reads episodes of one bag. `reference` is the camera whose grid it is, `camera` the one that is shown."""

    def __init__(
        self,
        bag: Bag,
        reference: Camera,
        camera: Camera,
        action_topic: str | None,
        joints: tuple[str, list[str]] | None,
    ) -> None:
        self._bag = bag
        self._reference = reference
        self._camera = camera
        self._action_topic = action_topic
        self._joints = joints

    def frames(
        self, segments: Mapping[int, Segment], decode: Callable[[Any], Any]
    ) -> Iterator[tuple[int, list[Any] | DataError]]:
        """(episode number, its images) in the order of `segments`, each message decoded once.

        In place of the images an error: of an image that does not decode, or of a camera that shows nothing then.
        """
        images: dict[int, list[Any]] = {}
        missing: dict[int, int] = {}
        failed: dict[int, DataError] = {}
        places: dict[int, list[tuple[int, int]]] = {}
        for number, segment in segments.items():
            images[number], missing[number] = [None] * len(segment), len(segment)
            try:
                messages_T = self._messages(segment)
            except DataError as error:
                failed[number], missing[number] = error, 0
                continue
            for slot, message in enumerate(messages_T.tolist()):
                places.setdefault(message, []).append((number, slot))
        waiting = list(segments)
        for message in self._bag.messages([self._camera.topic]):
            if isinstance(message, Damage) or message.number not in places:
                continue
            try:
                image = decode(self._bag.decode(message))
            except DataError as error:
                image = None
                failed |= {n: error for n, _ in places[message.number] if n not in failed}
            for number, slot in places.pop(message.number):
                images[number][slot] = image
                missing[number] -= 1
            while waiting and not missing[waiting[0]]:
                number = waiting.pop(0)
                yield number, failed.get(number, images[number])
                del images[number]
            if not waiting:
                return
        for number in waiting:  # only a bag that changed since it was opened gets here with frames missing
            yield (
                number,
                failed.get(number, DataError(f"{missing[number]} frames are gone since the bag was opened")),
            )

    def _messages(self, segment: Segment) -> np.ndarray:
        """Which of the camera's messages each slot shows (T,); DataError where the camera has none near enough."""
        if self._camera is self._reference:
            return self._camera.numbers_N[segment.frames_T]
        times_N, slots_T = self._common_clock(self._camera.stamps, segment)
        if not len(times_N):
            raise DataError(f"{self._camera.topic} has no images in this recording")
        order = np.argsort(times_N, kind="stable")
        chosen_T = nearest(times_N[order], slots_T)
        away_ns = int(np.abs(times_N[order][chosen_T] - slots_T).max())
        period_ns = max(usual_period_ns(times_N), usual_period_ns(self._reference.stamps.times_N))
        if away_ns > GAP_PERIODS * period_ns:
            raise DataError(f"{self._camera.topic} has no image within {away_ns * 1e-9:.2f} s of a frame")
        return self._camera.numbers_N[order][chosen_T]

    def _common_clock(self, stamps: Stamps, segment: Segment) -> tuple[np.ndarray, np.ndarray]:
        """Times of a topic and of the segment's slots on one clock: headers if both have them, else receive times."""
        reference = self._reference.stamps
        if stamps.has_header and reference.has_header and stamps.header_N.any():
            return stamps.header_N, segment.times_T
        if not reference.has_header:
            return stamps.receive_N, segment.times_T
        return stamps.receive_N, np.maximum.accumulate(reference.receive_N[segment.frames_T])

    @cached_property
    def _commands(self) -> Commands | None:
        topic = self._action_topic
        return read_commands(self._bag, topic) if topic and topic in self._bag.topics else None

    @cached_property
    def _positions(self) -> Joints:
        topic = self._joints[0] if self._joints else ""
        return read_joints(self._bag, topic) if topic in self._bag.topics else Joints({}, ())

    def damage(self, actions: bool) -> tuple[str, ...]:
        """What could not be read of the camera, of the actions if they are asked for, and of the joints."""
        commands = self._commands.damage if actions and self._commands else ()
        return *self._camera.damage, *commands, *self._positions.damage

    def values(self, segment: Segment, actions: bool) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(actions (T, 7) if asked for, state (T, S) if asked for) of an episode; DataError when this bag lacks them."""
        actions_TA = state_TS = None
        if actions:
            if self._commands is None:
                raise DataError(f"this bag has no topic {self._action_topic}")
            times_N, slots_T = self._common_clock(self._commands.stamps, segment)
            actions_TA = self._commands.on_grid(times_N, slots_T)
        if self._joints:
            names = self._joints[1]
            positions = self._positions.positions
            lost = [name for name in names if name not in positions]
            if lost:
                raise DataError(f"this bag has no positions of the joints {', '.join(lost)}")
            columns = []
            for name in names:
                stamps, values_N = positions[name]
                times_N, slots_T = self._common_clock(stamps, segment)
                columns.append(at_slots(times_N, values_N, slots_T))
            state_TS = np.stack(columns, axis=1).astype(np.float32)
        return actions_TA, state_TS
