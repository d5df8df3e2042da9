"""Numbered SQL files; the number of the last one applied is the database's ``user_version``."""
