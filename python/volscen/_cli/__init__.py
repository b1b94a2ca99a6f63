"""The parts of the ``volscen`` command, one file a noun; ``volscen.cli`` puts them together."""
