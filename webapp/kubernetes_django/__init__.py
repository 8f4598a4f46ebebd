"""The Django project: settings from the environment, URLs, and what gunicorn loads."""
