"""The migrations, by their numbers; Alembic loads the files. Next to read: ``v0001.py``."""
