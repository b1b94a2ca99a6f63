"""``python -m volscen``, the ``volscen`` command where its script is not on the path."""

from __future__ import annotations

from volscen.cli import main

if __name__ == "__main__":
    main()
