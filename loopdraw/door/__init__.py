"""The parts of the door, `loopdraw/__init__.py`, beside `shapes.py`."""
