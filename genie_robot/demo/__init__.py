"""The demo: the whole loop on real parts, small in scale only, as resumable steps that end in one report."""
