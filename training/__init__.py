"""Offline: trains the networks, judges them on the served path and exports them to ``models/``."""
