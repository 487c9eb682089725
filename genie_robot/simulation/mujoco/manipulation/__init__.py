"""Five manipulation tasks on the table top: reach, push, pick_lift, drawer, pick_place.

`tasks` (rules), `scripts`, `behaviours` (controllers) need numpy only; `scene`, `env`, `generate` need the `sim` extra.
"""
