"""The oldest and the newest allowed versions of every dependency, on every Python: `python -m tests.reliability.versions`."""
