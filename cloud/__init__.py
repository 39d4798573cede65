"""Keeps the catalog, trains, makes releases, and listens to devices."""
