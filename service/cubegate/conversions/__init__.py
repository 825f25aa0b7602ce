"""Composes what commands build from settings; beside `app`, which composes the server."""
