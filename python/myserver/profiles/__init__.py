"""Profiles: how they are collected from a server, and the forms in which they are shown."""
