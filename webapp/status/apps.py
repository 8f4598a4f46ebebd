"""Django's entry for the app."""

from django.apps import AppConfig


class StatusConfig(AppConfig):
    """The System Status page. It has no models: it looks at what is there."""

    name = "status"
