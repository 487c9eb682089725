"""Keeping pace with a clock: the command in force, and the ticks that a late model misses."""

from __future__ import annotations

from genie_robot_ros.realtime import Command, HeldCommand, Ticks


def test_the_newest_command_is_in_force_until_it_is_too_old() -> None:
    now = [0.0]
    held = HeldCommand(lambda: now[0])
    assert held.get(1.0) is None
    held.put(Command(1, 3))
    assert held.get(1.0) == Command(1, 3)
    now[0] = 0.9
    assert held.get(1.0) == Command(1, 3)  # stays in force although it was used
    now[0] = 1.1
    assert held.get(1.0) is None
    assert held.get(0.0) == Command(1, 3)  # 0: no limit


def test_only_commands_that_were_never_used_count_as_superseded() -> None:
    held = HeldCommand()
    assert held.put(Command(1, 0)) is None
    assert held.put(Command(2, 1)) == Command(1, 0)
    assert held.get(0.0) == Command(2, 1)
    assert held.put(Command(3, 2)) is None
    assert held.clear() == Command(3, 2)
    assert held.get(0.0) is None and held.clear() is None


def test_slow_goes_on_at_once_and_skips_nothing() -> None:
    ticks = Ticks()
    assert ticks.begin()
    assert not ticks.begin() and not ticks.begin()  # two ticks while the model is at work
    assert ticks.end("slow")  # another step begins at once
    assert not ticks.end("slow")  # nothing was missed in that one
    assert ticks.begin()
    assert (ticks.late, ticks.dropped) == (2, 0)


def test_drop_jumps_over_missed_ticks() -> None:
    ticks = Ticks()
    assert ticks.begin()
    assert ticks.take_missed() == 0
    assert not ticks.begin() and not ticks.begin()
    assert not ticks.end("drop")  # waits for the clock
    assert ticks.begin()
    assert ticks.take_missed() == 2
    assert (ticks.late, ticks.dropped) == (2, 2)


def test_a_command_that_expired_unused_is_given_back_once() -> None:
    now = [0.0]
    held = HeldCommand(lambda: now[0])
    held.put(Command(1, 3))
    assert held.take_expired(1.0) is None
    now[0] = 1.5
    assert held.take_expired(0.0) is None  # 0: never too old
    assert held.take_expired(1.0) == Command(1, 3)
    assert held.take_expired(1.0) is None and held.get(0.0) is None
    held.put(Command(2, 3))
    held.get(1.0)
    now[0] = 9.0
    assert held.take_expired(1.0) is None  # it was used


def test_missed_ticks_of_one_episode_do_not_skip_in_the_next() -> None:
    ticks = Ticks()
    assert ticks.begin() and not ticks.begin()
    ticks.forget_missed()
    assert ticks.take_missed() == 0
