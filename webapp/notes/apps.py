"""Django's entry for the app."""

from django.apps import AppConfig


class NotesConfig(AppConfig):
    """Short notes."""

    name = "notes"
