"""The REST API and the page: sessions, roles, settings, recordings, audit log."""
